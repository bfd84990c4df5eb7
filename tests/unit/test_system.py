from __future__ import annotations

import logging
from pathlib import Path

import pytest

from appliance.system import UNKNOWN, System, SystemState, Throttling
from tests.fakes.board import Board


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "board")


def look(board: Board) -> SystemState:
    return System(board.root, root=board.root, vcgencmd=str(board.vcgencmd)).look()


def test_a_healthy_board_tells_everything_and_warns_of_nothing(board: Board) -> None:
    state = look(board)
    assert state.temperature_c == 48.312
    assert state.throttling == Throttling()
    assert (state.memory_free_bytes, state.memory_size_bytes) == (201236 * 1024, 436488 * 1024)
    assert (state.uptime_s, state.load) == (93784.27, 0.52)
    assert state.disk_free_bytes is not None
    assert state.disk_size_bytes is not None
    assert 0 < state.disk_free_bytes <= state.disk_size_bytes
    assert state.warnings == ()
    assert UNKNOWN not in " ".join(state.lines().values())
    assert state.lines()["temperature"] == "48.3 °C"
    assert state.lines()["up"] == "26.1 hours"


@pytest.mark.parametrize(
    ("bits", "now", "since_start"),
    [
        (0x0, (), ()),
        (0x1, ("under-voltage",), ()),
        (0x50005, ("under-voltage", "throttled"), ("under-voltage", "throttled")),
        (0x80008, ("soft temperature limit",), ("soft temperature limit",)),
        (0xE0002, ("frequency capped",), ("frequency capped", "throttled", "soft temperature limit")),
        (0x50000, (), ("under-voltage", "throttled")),
    ],
)
def test_the_firmwares_bits_are_told_by_name(
    board: Board, bits: int, now: tuple[str, ...], since_start: tuple[str, ...]
) -> None:
    board.firmware(f"echo throttled={bits:#x}")
    assert look(board).throttling == Throttling(now, since_start)


def test_a_weak_power_supply_is_a_warning_now_and_still_one_later(board: Board) -> None:
    board.firmware("echo throttled=0x50005")
    assert "too weak right now" in look(board).warnings[0]
    board.firmware("echo throttled=0x50000")
    (later,) = look(board).warnings
    assert "was too weak at times since the start" in later


def test_a_hot_board_is_a_warning_with_its_temperature(board: Board) -> None:
    board.zone(0, "cpu-thermal", "83900")
    board.firmware("echo throttled=0xe0008")
    (warning,) = look(board).warnings
    assert "84 °C" in warning


def test_a_board_that_is_throttled_and_has_no_sensor_warns_all_the_same(board: Board) -> None:
    (board.root / "sys/class/thermal/thermal_zone0/temp").unlink()
    board.firmware("echo throttled=0x4")
    (warning,) = look(board).warnings
    assert "slows itself down" in warning


def test_little_memory_is_a_warning(board: Board) -> None:
    board.write("proc/meminfo", "MemTotal: 436488 kB\nMemAvailable: 20480 kB\n")
    (warning,) = look(board).warnings
    assert "20 MB of memory" in warning


def test_the_processors_zone_is_found_among_others(board: Board) -> None:
    board.zone(0, "acpitz", "27800")
    board.zone(1, "x86_pkg_temp", "61000")
    assert look(board).temperature_c == 61.0


def test_the_first_zone_that_answers_is_taken_where_none_names_itself(board: Board) -> None:
    board.zone(0, "acpitz", "not now")
    board.zone(1, "iwlwifi", "33000")
    assert look(board).temperature_c == 33.0


def test_what_a_machine_lacks_is_none_and_said_as_not_known(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    state = System(empty, root=empty, vcgencmd=str(tmp_path / "no vcgencmd")).look()
    assert (state.temperature_c, state.throttling, state.uptime_s, state.load) == (None, None, None, None)
    assert (state.memory_free_bytes, state.memory_size_bytes) == (None, None)
    assert state.warnings == ()
    lines = state.lines()
    assert [lines[name] for name in ("temperature", "power", "power since start", "memory", "up")] == [UNKNOWN] * 5


def test_a_state_folder_that_is_gone_has_an_unknown_disk(board: Board, tmp_path: Path) -> None:
    state = System(tmp_path / "gone", root=board.root, vcgencmd=str(board.vcgencmd)).look()
    assert state.disk_free_bytes is None
    assert state.lines()["disk"] == UNKNOWN


@pytest.mark.parametrize("script", ["exit 1", "echo hello", "echo throttled=much", "true"])
def test_a_firmware_that_tells_nonsense_is_not_known_and_logged_once(
    board: Board, script: str, caplog: pytest.LogCaptureFixture
) -> None:
    board.firmware(script)
    system = System(board.root, root=board.root, vcgencmd=str(board.vcgencmd))
    with caplog.at_level(logging.WARNING):
        states = [system.look() for _ in range(3)]
    assert [state.throttling for state in states] == [None] * 3
    assert len([record for record in caplog.records if "firmware" in record.message]) == 1


def test_a_firmware_that_never_answers_is_given_up(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.system._VCGENCMD_S", 0.2)
    board.firmware("exec sleep 60")
    assert look(board).throttling is None
