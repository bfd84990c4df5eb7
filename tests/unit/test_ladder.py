from __future__ import annotations

import itertools
import json
import logging
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.ladder import LONGEST_WAIT_S, REBOOT_EVERY_S, Ladder
from appliance.paths import CameraPaths

NOON = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)


class Pi:
    """A Pi without a battery clock: true time goes on, its own clocks start anywhere at each process."""

    def __init__(self, root: Path, *, restart_after_s: float = 60, reboot_after_restarts: int = 5) -> None:
        self.paths = CameraPaths(root)
        self.true_s = 0.0
        self._restart_after_s = restart_after_s
        self._reboot_after_restarts = reboot_after_restarts
        self._random = random.Random(0)  # noqa: S311  # any clock will do
        self.ladder = self.start()

    def start(self) -> Ladder:
        """A fresh process."""
        booted_at_s = self.true_s - self._random.uniform(0, 1e6)
        wrong = timedelta(days=self._random.uniform(-5000, 5000))
        self.ladder = Ladder(
            self.paths.camera_restarts,
            self.paths.reboot_request,
            restart_after_s=self._restart_after_s,
            reboot_after_restarts=self._reboot_after_restarts,
            clock=lambda: self.true_s - booted_at_s,
            utc_now=lambda: NOON + wrong,
        )
        return self.ladder

    def run(self, for_s: float, *, pictures: bool = False) -> str | None:
        ends_s = self.true_s + for_s
        while self.true_s < ends_s:
            if pictures:
                self.ladder.picture()
            if said := self.ladder.step():
                return said
            self.true_s += 1
        return None

    def run_until_restart(self) -> float:
        """Seconds until this process says that it must be started afresh; then it is."""
        began_s = self.true_s
        assert self.run(10_000) is not None
        self.start()
        return self.true_s - began_s

    @property
    def request(self) -> dict[str, object] | None:
        path = self.paths.reboot_request
        return json.loads(path.read_text()) if path.exists() else None


def test_no_picture_for_long_enough_means_a_fresh_process(tmp_path: Path) -> None:
    pi = Pi(tmp_path)
    assert pi.run(59) is None
    said = pi.run(2)
    assert said is not None
    assert "no picture for 60 s" in said
    assert "starts afresh" in said
    pi.ladder.picture()
    assert pi.ladder.step() == said == pi.ladder.must_restart  # once said, it stays


def test_pictures_keep_the_process_alive_and_write_nothing(tmp_path: Path) -> None:
    pi = Pi(tmp_path)
    assert pi.run(5000, pictures=True) is None
    assert list(tmp_path.iterdir()) == []


def test_the_time_counts_from_the_last_picture(tmp_path: Path) -> None:
    pi = Pi(tmp_path)
    pi.run(500, pictures=True)
    assert pi.run(58) is None
    assert pi.run(5) is not None


def test_fruitless_restarts_get_rarer_up_to_a_quarter_of_an_hour(tmp_path: Path) -> None:
    pi = Pi(tmp_path)
    waits = [round(pi.run_until_restart()) for _ in range(8)]
    assert waits == [60, 120, 240, 480, 900, 900, 900, 900]
    assert LONGEST_WAIT_S == 900


def test_a_longer_wait_than_that_in_the_settings_is_obeyed(tmp_path: Path) -> None:
    pi = Pi(tmp_path, restart_after_s=3600)
    assert [round(pi.run_until_restart()) for _ in range(3)] == [3600, 3600, 3600]


def test_a_reboot_is_asked_for_after_so_many_restarts_without_a_picture(tmp_path: Path) -> None:
    pi = Pi(tmp_path, reboot_after_restarts=3)
    for _ in range(3):
        pi.run_until_restart()
        assert pi.request is None
    assert pi.ladder.restarts == 3
    pi.run_until_restart()
    request = pi.request
    assert request is not None
    assert request["restarts"] == 3
    assert "3 restarts of the camera service brought no picture" in str(request["reason"])
    assert datetime.fromisoformat(str(request["at_utc"])).utcoffset() == timedelta(0)


def test_the_first_picture_ends_the_row_and_is_written_once(tmp_path: Path) -> None:
    pi = Pi(tmp_path, reboot_after_restarts=3)
    for _ in range(3):
        pi.run_until_restart()
    pi.run(10, pictures=True)
    assert pi.ladder.restarts == 0
    written = pi.paths.camera_restarts.stat()
    pi.run(3000, pictures=True)
    assert pi.paths.camera_restarts.stat().st_ino == written.st_ino  # an atomic write would make another file
    pi.start()
    assert pi.ladder.restarts == 0
    assert round(pi.run_until_restart()) == 60
    assert pi.request is None


def test_zero_never_asks_for_a_reboot(tmp_path: Path) -> None:
    pi = Pi(tmp_path, reboot_after_restarts=0)
    for _ in range(30):
        pi.run_until_restart()
    assert pi.request is None


def test_a_camera_that_is_absent_for_days_gets_one_reboot_in_six_hours_however_wrong_the_clock(tmp_path: Path) -> None:
    pi = Pi(tmp_path, reboot_after_restarts=2)
    asked_s = []
    while pi.true_s < 4 * 86_400:
        pi.run_until_restart()
        if pi.request is not None:
            asked_s.append(pi.true_s)
            pi.paths.reboot_request.unlink()  # the helper saw it
            pi.true_s += 30  # the reboot: nothing of ours runs
            pi.start()
    gaps_s = [later - earlier for earlier, later in itertools.pairwise(asked_s)]
    assert min(gaps_s) >= REBOOT_EVERY_S
    assert max(gaps_s) <= REBOOT_EVERY_S + LONGEST_WAIT_S + 60  # nor is it forgotten
    assert len(asked_s) >= 12


def test_a_camera_that_comes_and_goes_gets_no_more_reboots_than_that_either(tmp_path: Path) -> None:
    pi = Pi(tmp_path, restart_after_s=6, reboot_after_restarts=1)
    asked_s = []
    while pi.true_s < 86_400:
        pi.run(300, pictures=True)
        for _ in range(3):
            pi.run_until_restart()
        if pi.request is not None:
            asked_s.append(pi.true_s)
            pi.paths.reboot_request.unlink()
    assert 3 <= len(asked_s) <= 4


def test_power_cuts_only_make_the_wait_for_a_reboot_longer(tmp_path: Path) -> None:
    pi = Pi(tmp_path, restart_after_s=6, reboot_after_restarts=1)
    while pi.request is None:
        pi.run_until_restart()
    pi.paths.reboot_request.unlink()
    asked_at_s = pi.true_s
    while pi.request is None:
        pi.run(500)  # the power goes before anything more is written, or after a restart was
        pi.start()
        if pi.true_s > asked_at_s + 10 * REBOOT_EVERY_S:
            break
    assert pi.true_s - asked_at_s >= REBOOT_EVERY_S


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"restarts": 3}',
        b'{"restarts": -1, "reboot_wait_s": 0}',
        b'{"restarts": 1, "reboot_wait_s": NaN}',
        b'{"restarts": Infinity, "reboot_wait_s": 0}',
        b'{"restarts": 99, "reboot_wait_s": 1e9}',
    ],
)
def test_a_damaged_file_is_none_and_cannot_hurry_a_reboot(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    CameraPaths(tmp_path).camera_restarts.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        pi = Pi(tmp_path, reboot_after_restarts=1)
    assert "begins anew" in caplog.text
    assert pi.ladder.restarts == 0
    while pi.request is None:
        pi.run_until_restart()
    assert pi.true_s >= REBOOT_EVERY_S


def test_a_disk_that_takes_nothing_restarts_but_never_reboots(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "state"
    root.mkdir()
    pi = Pi(root, reboot_after_restarts=1)
    pi.run_until_restart()
    kept = pi.paths.camera_restarts.read_bytes()
    pi.paths.camera_restarts.unlink()
    pi.paths.camera_restarts.mkdir()  # no rename onto a folder succeeds, not even root's
    with caplog.at_level(logging.ERROR):
        assert pi.run(10_000) is not None
    assert "could not be written" in caplog.text
    assert pi.request is None
    pi.paths.camera_restarts.rmdir()
    pi.paths.camera_restarts.write_bytes(kept)


def test_a_stuck_driver_is_restarted_at_once_but_not_in_haste_ever_after(tmp_path: Path) -> None:
    pi = Pi(tmp_path)
    waits = []
    for _ in range(5):
        pi.ladder.stuck("its driver never came back")
        waits.append(round(pi.run_until_restart()))
    assert waits == [0, 60, 120, 240, 480]


def test_a_stuck_driver_is_named_as_the_reason(tmp_path: Path) -> None:
    pi = Pi(tmp_path)
    pi.run(20, pictures=True)
    pi.ladder.stuck("its driver never came back")
    assert pi.run(2) == "its driver never came back. The camera service starts afresh."
