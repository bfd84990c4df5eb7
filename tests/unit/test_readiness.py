"""Is tonight a good night? On the files and the firmware of a board."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.config import load
from appliance.errors import NightError
from appliance.night_status import NightStatus, read_night_status, write_night_status
from appliance.paths import CameraPaths
from appliance.system import System, Throttling
from tests.fakes.board import Board
from tests.fakes.enrolled import replay
from tests.fakes.fleet import TinyFleet
from trainer.night import main
from trainer.readiness import Care, left_s, memory_of, not_now, objections

NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    board = Board(tmp_path)
    board.write("proc/meminfo", "MemTotal: 950000 kB\nMemAvailable: 300000 kB\nSwapFree: 200000 kB\n")
    return board


def system(board: Board) -> System:
    return System(board.root, root=board.root, vcgencmd=str(board.vcgencmd))


def said(board: Board, now: datetime = NOW) -> str:
    return " ".join(map(str, objections(system(board).look(), now, root=board.root)))


def test_a_healthy_board_has_nothing_against_a_night(board: Board) -> None:
    assert said(board) == ""


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        ("0x1", "power supply is too weak right now"),
        ("0x4", "holds itself back right now (throttled)"),
        ("0x50005", "too weak right now"),
        ("0x50000", ""),  # since the start, and over
    ],
)
def test_power_and_throttling_right_now_stand_against_it(board: Board, bits: str, words: str) -> None:
    board.firmware(f"echo throttled={bits}")
    assert words in said(board)
    assert bool(words) == bool(said(board))


def test_heat_stands_against_it(board: Board) -> None:
    board.zone(0, "cpu-thermal", "70000")
    assert "The board is 70 °C hot, and a night begins below 70 °C. Cool or shade it." in said(board)
    board.zone(0, "cpu-thermal", "69900")
    assert said(board) == ""


def test_another_machines_heat_is_its_own_matter(board: Board) -> None:
    board.vcgencmd.unlink()
    board.zone(0, "x86_pkg_temp", "91000")
    assert said(board) == ""
    board.write("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.5\0")
    assert "91 °C" in said(board)


def test_without_the_firmware_s_command_the_kernel_tells_of_power(board: Board) -> None:
    board.vcgencmd.unlink()
    board.write("sys/class/hwmon/hwmon1/name", "rpi_volt\n")
    board.write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n")
    assert said(board) == ""
    board.write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n")
    assert "too weak" in said(board)


def test_memory_counts_with_swap(board: Board) -> None:
    board.write("proc/meminfo", "MemTotal: 430000 kB\nMemAvailable: 200000 kB\nSwapFree: 100000 kB\n")
    assert "292 MB of memory and swap are free, and a night needs 320 MB. End other programs" in said(board)
    board.write("proc/meminfo", "MemTotal: 430000 kB\nMemAvailable: 200000 kB\nSwapFree: 200000 kB\n")
    assert said(board) == ""


def test_a_clock_that_was_never_set_stands_against_it(board: Board) -> None:
    assert "the clock says 1970-01-01" in said(board, datetime(1970, 1, 1, tzinfo=UTC)).lower()
    (board.root / "run/systemd/timesync").mkdir(parents=True)
    assert "not set by a time server" in said(board)
    (board.root / "run/systemd/timesync/synchronized").touch()
    assert said(board) == ""


def test_a_full_disk_stands_against_it(board: Board) -> None:
    state = replace(system(board).look(), disk_free_bytes=150 * 2**20)
    assert [str(each) for each in objections(state, NOW, root=board.root)] == [
        "150 MB of disk are free. Delete frames, or use a larger card."
    ]


# While a night goes on


class Evening:
    """A board whose heat a test plays, and what the night said and waited for."""

    def __init__(self, board: Board, *degrees: float, going: bool = True) -> None:
        self.board, self.degrees, self.going = board, list(degrees), going
        self.said: list[str] = []
        self.waits = 0
        self.now_s = 0.0
        self.heat()
        self.own_mb = 200
        self.care = Care(
            system(board),
            say=self.said.append,
            wait=self.wait,
            own_bytes=lambda: self.own_mb * 2**20,
            clock=lambda: self.now_s,
        )

    def heat(self) -> None:
        if self.degrees:
            self.board.zone(0, "cpu-thermal", str(int(self.degrees.pop(0) * 1000)))

    def wait(self, seconds: float) -> None:
        self.waits += 1
        self.now_s += seconds
        self.heat()

    def step(self) -> None:
        self.now_s += 11
        self.care.step(lambda: self.going)


def test_a_cool_night_is_not_held_up(board: Board) -> None:
    evening = Evening(board, 74.9)
    evening.step()
    assert (evening.said, evening.waits) == ([], 0)


def test_a_hot_board_pauses_until_it_has_cooled_down(board: Board) -> None:
    evening = Evening(board, 76, 74, 71, 69)
    evening.step()
    assert evening.waits == 3
    assert evening.said[0] == "Paused: the board is 76 °C hot. It goes on below 70 °C."
    assert evening.said[-1] == "Waiting for the server"


def test_a_pause_ends_with_the_night(board: Board) -> None:
    evening = Evening(board, 76, going=False)
    evening.step()
    assert evening.waits == 0


def test_a_board_that_is_too_hot_ends_the_night(board: Board) -> None:
    evening = Evening(board, 76, 80)
    with pytest.raises(NightError, match=r"80 °C hot.*live loop is not slowed down"):
        evening.step()


def test_power_that_fails_ends_the_night(board: Board) -> None:
    board.firmware("echo throttled=0x1")
    with pytest.raises(NightError, match="power supply is too weak"):
        Evening(board, 50).step()


def test_memory_that_runs_out_ends_the_night(board: Board) -> None:
    board.write("proc/meminfo", "MemTotal: 430000 kB\nMemAvailable: 30000 kB\nSwapFree: 9000 kB\n")
    with pytest.raises(NightError, match="Only 38 MB of memory and swap are left"):
        Evening(board, 50).step()


def test_a_night_that_grows_beyond_its_share_ends_without_a_memory_controller_too(board: Board) -> None:
    evening = Evening(board, 50)
    evening.step()
    evening.own_mb = 481
    with pytest.raises(NightError, match="have grown to 481 MB"):
        evening.step()


def test_a_nights_memory_is_that_of_all_that_it_started_and_of_nobody_else(tmp_path: Path) -> None:
    for pid, parent, kb in ((10, 1, 100), (11, 10, 20), (12, 11, 3), (13, 1, 5000)):
        folder = tmp_path / f"proc/{pid}"
        folder.mkdir(parents=True)
        (folder / "stat").write_text(f"{pid} (a (b) c) S {parent} 10 10 0\n")
        (folder / "smaps_rollup").write_text(f"00400000-7ff [rollup]\nRss: 9999 kB\nPss: {kb} kB\nPss_Anon: 1 kB\n")
    (tmp_path / "proc/11/smaps_rollup").unlink()  # it has just ended
    assert memory_of(10, tmp_path) == 103 * 1024
    assert memory_of(os.getpid()) > 2**20


def test_it_looks_every_ten_seconds_and_not_more_often(board: Board) -> None:
    evening = Evening(board, 90)
    evening.care.step(lambda: True)
    evening.now_s = 9.9
    evening.care.step(lambda: True)
    evening.now_s = 10.1
    with pytest.raises(NightError):
        evening.care.step(lambda: True)


# What the timer asks


@pytest.fixture
def config(tmp_path: Path, tiny_backbone: bytes) -> Path:
    now = datetime.now(UTC)
    begins, ends = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (-1, 1))
    return replay(
        tmp_path,
        TinyFleet(tmp_path, tiny_backbone),
        page_port=4999,
        rate_fps=5,
        more=f'[night]\nbegins = "{begins}"\nends = "{ends}"\n',
    )


def check(config: Path, monkeypatch: pytest.MonkeyPatch, board: Board) -> int:
    monkeypatch.setenv("PATH", f"{board.vcgencmd.parent}:{os.environ['PATH']}")
    return main(["--config", str(config), "--check"])


def test_the_timer_is_told_to_go_ahead(config: Path, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    board.firmware("echo throttled=0x0")
    assert check(config, monkeypatch, board) == 0


def test_the_timer_is_told_why_not_and_so_is_the_page(
    config: Path, board: Board, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    board.firmware("echo throttled=0x1")
    assert check(config, monkeypatch, board) == 1
    assert "Not now: The power supply is too weak right now." in capsys.readouterr().out
    status = read_night_status(CameraPaths(config.parent / "state").night_status)
    assert status.phase == "failed"
    assert "It looks again every quarter of an hour of this night." in status.message
    board.firmware("echo throttled=0x0")
    assert check(config, monkeypatch, board) == 0


def test_by_day_no_night_begins(config: Path, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    text = config.read_text().partition("[night]")[0]
    later = datetime.now(UTC) + timedelta(hours=2)
    config.write_text(f'{text}[night]\nbegins = "{later:%H:%M}"\nends = "{later + timedelta(hours=1):%H:%M}"\n')
    assert check(config, monkeypatch, board) == 1
    assert left_s(load(config), datetime.now(UTC)) is None
    assert not CameraPaths(config.parent / "state").night_status.exists()  # a night's outcome stays to be read


def test_a_night_that_the_server_closed_is_not_held_twice(config: Path) -> None:
    settings, now = load(config), datetime.now(UTC)
    path = CameraPaths(settings.state_dir).night_status
    write_night_status(path, NightStatus("done", "tonight", message="Version 2 runs", updated_utc=now))
    assert not_now(settings, now) == "Tonight's night is over: Version 2 runs"
    write_night_status(path, NightStatus("done", "last", message="", updated_utc=now - timedelta(hours=20)))
    assert not_now(settings, now) == ""
    write_night_status(path, NightStatus("failed", "tonight", message="no server", updated_utc=now))
    assert not_now(settings, now) == ""
    left = left_s(settings, now)
    assert left is not None
    assert 0 < left <= 3600


def test_what_the_firmware_says_of_power_is_read_bit_by_bit() -> None:
    assert Throttling.of(0x50005).now == ("under-voltage", "throttled")
