from pathlib import Path

import pytest

from appliance.models.trial import State, Trial, clear_trial, read_trial, write_trial


@pytest.mark.parametrize("state", list(State))
def test_a_trial_reads_back_as_it_was_written(tmp_path: Path, state: State) -> None:
    trial = Trial(7, state, attempt=2, by_person=True, reason="Käse is no hardhat", failed_in="probe")
    write_trial(tmp_path, trial)
    assert read_trial(tmp_path) == trial


def test_no_file_is_no_trial(tmp_path: Path) -> None:
    assert read_trial(tmp_path) is None
    clear_trial(tmp_path)  # nor is there anything to clear


def test_a_cleared_trial_is_gone_and_a_new_one_replaces_the_old(tmp_path: Path) -> None:
    write_trial(tmp_path, Trial(1))
    write_trial(tmp_path, Trial(2, State.SOAK))
    assert read_trial(tmp_path) == Trial(2, State.SOAK)
    clear_trial(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\0\0",
        b"\xff\xfe\xfd",
        b"{",
        b"[1, 2]",
        b"null",
        b'{"version": 2}',
        b'{"version": "two", "state": "soak", "attempt": 1, "by_person": false, "reason": "", "failed_in": ""}',
        b'{"version": 2, "state": "lunch", "attempt": 1, "by_person": false, "reason": "", "failed_in": ""}',
    ],
)
def test_a_damaged_file_is_no_trial_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (tmp_path / "trial.json").write_bytes(content)
    assert read_trial(tmp_path) is None
    assert "can't be read" in caplog.text


def test_a_trial_that_can_t_be_written_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_trial(tmp_path, Trial(2, State.STAGE))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_trial(tmp_path, Trial(2, State.PROBE))
    assert read_trial(tmp_path) == Trial(2, State.STAGE)
    assert [path.name for path in tmp_path.iterdir()] == ["trial.json"]
