import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.errors import ModelError
from appliance.models.verdict import (
    SwapFigures,
    Verdict,
    forget_verdict,
    newest_verdict,
    read_verdict,
    standing_verdict,
    write_verdict,
)

NOW = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
DAMAGED = [b"", b"\0\0\0", b"\xff\xfe", b"{", b"[]", b"null", b'{"version": 2}', b'{"version": 2, "swap": [1]}']


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "verdicts").mkdir()
    return tmp_path


@pytest.mark.parametrize("swap", [None, SwapFigures(3, 80.5, 41.0)])
def test_a_verdict_reads_back_as_it_was_written(models: Path, swap: SwapFigures | None) -> None:
    verdict = Verdict(4, False, "Größer ist nicht besser", NOW, swap, state="judge", final=False)
    write_verdict(models, verdict)
    assert read_verdict(models, 4) == verdict


def test_a_verdict_of_an_earlier_release_counts_as_final(models: Path) -> None:
    old = {"version": 2, "accepted": False, "reason": "It was bad", "at_utc": NOW.isoformat(), "swap": None}
    (models / "verdicts" / "2.json").write_text(json.dumps(old))
    verdict = read_verdict(models, 2)
    assert verdict == Verdict(2, False, "It was bad", NOW)
    assert verdict.quarantined


@pytest.mark.parametrize(
    ("accepted", "final", "quarantined"), [(True, True, False), (False, True, True), (False, False, False)]
)
def test_only_a_final_refusal_is_quarantine(accepted: bool, final: bool, quarantined: bool) -> None:
    assert Verdict(2, accepted, "", NOW, final=final).quarantined == quarantined


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_verdict_is_named_and_counts_as_missing_where_it_stands(
    models: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (models / "verdicts" / "2.json").write_bytes(content)
    with pytest.raises(ModelError, match="counts as missing"):
        read_verdict(models, 2)
    assert standing_verdict(models, 2) is None
    assert "Version 2" in caplog.text


def test_a_forgotten_verdict_is_missing(models: Path) -> None:
    write_verdict(models, Verdict(2, False, "It was bad", NOW))
    forget_verdict(models, 2)
    forget_verdict(models, 2)
    assert read_verdict(models, 2) is None


def test_the_newest_is_the_one_on_the_highest_version(models: Path) -> None:
    assert newest_verdict(models) is None
    for version in (9, 10, 2):
        write_verdict(models, Verdict(version, True, "", NOW))
    (models / "verdicts" / ".11.json.tmp").write_text("half")
    newest = newest_verdict(models)
    assert newest is not None
    assert newest.version == 10
