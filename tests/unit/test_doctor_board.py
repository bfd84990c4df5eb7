"""What the doctor makes of a board, a card, packages and processes, on files that a test writes."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import config
from appliance.doctor import board, card, examine, installed, sight
from appliance.doctor.footprint import Footprint, footprints, text
from appliance.status import LoopState, ModelState, ProcessState, Status
from appliance.system import System, SystemState, Throttling
from tests.fakes.board import Board
from tests.unit.test_doctor import settings_file


@pytest.fixture
def pi(tmp_path: Path) -> Board:
    return Board(tmp_path / "pi")


def state(pi: Board) -> SystemState:
    return System(pi.root, root=pi.root, vcgencmd=str(pi.vcgencmd)).look()


@pytest.mark.parametrize(("degrees", "found"), [(48, "ok"), (70, "warning"), (79, "warning"), (80, "fault")])
def test_heat_is_judged_as_nights_do(pi: Board, degrees: int, found: str) -> None:
    pi.zone(0, "cpu-thermal", f"{degrees}000")
    assert board.temperature(state(pi)).state == found
    assert f"{degrees} °C" in board.temperature(state(pi)).text


@pytest.mark.parametrize(
    ("bits", "power", "throttling"),
    [
        ("0x0", "ok", "ok"),
        ("0x1", "fault", "ok"),
        ("0x10000", "warning", "ok"),
        ("0x4", "ok", "fault"),
        ("0x40000", "ok", "warning"),
        ("0x50005", "fault", "fault"),
    ],
)
def test_power_and_throttling_are_told_apart(pi: Board, bits: str, power: str, throttling: str) -> None:
    pi.firmware(f"echo throttled={bits}")
    assert (board.power(state(pi)).state, board.throttling(state(pi)).state) == (power, throttling)


def test_a_small_board_is_told_of_compressed_swap(pi: Board) -> None:
    pi.write("proc/meminfo", "MemTotal: 430000 kB\nMemAvailable: 200000 kB\n")
    found = board.memory(state(pi), pi.root)
    assert (found.state, "zram-tools" in found.text, "no swap" in found.text) == ("warning", True, True)


def test_a_kernel_that_holds_no_limits_is_told_with_the_remedy(pi: Board) -> None:
    pi.write("proc/meminfo", "MemTotal: 8000000 kB\nMemAvailable: 7000000 kB\n")
    assert board.memory(state(pi), pi.root).state == "ok"
    pi.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")
    assert "cgroup_enable=memory" in board.memory(state(pi), pi.root).text
    pi.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
    assert board.memory(state(pi), pi.root).state == "ok"


def test_a_card_says_when_its_life_is_nearly_over(pi: Board, tmp_path: Path) -> None:
    settings = config.load(settings_file(tmp_path))
    settings.state_dir.mkdir()
    pi.write("sys/block/mmcblk0/device/name", "SC32G\n")
    pi.write("sys/block/mmcblk0/device/date", "03/2024\n")
    pi.write("sys/block/mmcblk0/device/life_time", "0x01 0x02\n")
    assert card.wear(settings, pi.root, None).state == "ok"
    assert card.speed(settings, pi.root).text.startswith("card SC32G of 03/2024: writes ")
    assert list(settings.state_dir.iterdir()) == []
    pi.write("sys/block/mmcblk0/device/life_time", "0x0a 0x0b\n")
    assert "Replace it soon" in card.wear(settings, pi.root, None).text


def running(**more: object) -> Status:
    mine = ProcessState(os.getpid(), 1, datetime.now(UTC), "0")
    return Status("gate", "north", datetime.now(UTC), 5.0, mine, **more)  # type: ignore[arg-type]  # a test's mixture


def test_what_the_camera_writes_is_set_against_the_card(pi: Board, tmp_path: Path) -> None:
    settings = config.load(settings_file(tmp_path))
    assert "100 or more years" in card.wear(settings, pi.root, running(written_per_day_bytes=1_000_000)).text
    found = card.wear(settings, pi.root, running(written_per_day_bytes=10**15))
    assert (found.state, "store.per_hour" in found.text) == ("warning", True)


def test_a_camera_in_use_is_not_opened_but_asked(tmp_path: Path) -> None:
    settings = config.load(settings_file(tmp_path, "picamera2"))  # which could not be opened here
    well = running(loop=LoopState(decisions_per_s=9.9), model=ModelState(version=2))
    assert sight.capture(settings, well).state == "ok"
    assert "9.9 decisions a second, 100 frames a second asked for" in sight.capture(settings, well).text
    blind = running(faults=("There is no picture.",), model=ModelState(version=2))
    assert (sight.capture(settings, blind).state, sight.capture(settings, blind).text[-21:]) == (
        "fault",
        " There is no picture.",
    )


def test_packages_that_differ_from_the_lock_are_named(tmp_path: Path) -> None:
    current = tmp_path / "opt/sitecam/current"
    (current / "code/locks").mkdir(parents=True)
    (current / "code/locks/night.txt").write_text(
        "flwr==1.41.0 \\\n    --hash=sha256:00\nnumpy==2.2.4 ; python_full_version < '3.12' \\\n    --hash=sha256:00\n"
        "numpy==2.3.0 ; python_full_version >= '3.12' \\\n    --hash=sha256:00\nabsent==1 \\\n    --hash=sha256:00\n"
    )
    for name, version in (("flwr", "1.42.0"), ("numpy", "2.3.0")):
        info = current / f"night/lib/python3.11/site-packages/{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    found = installed.wheels(tmp_path)
    assert found.state == "warning"
    assert "night: flwr 1.42.0 instead of 1.41.0. Run the installer again." in found.text
    assert "absent" not in found.text
    assert "numpy 2.3.0 instead" not in found.text


def test_every_check_has_a_name_of_its_own_and_one_fault_hides_none(tmp_path: Path, pi: Board) -> None:
    settings = config.load(settings_file(tmp_path))
    (tmp_path / "state/fleet").mkdir(parents=True)
    (tmp_path / "state/fleet/fleet.json").write_text("{")
    found = examine(settings, root=pi.root, vcgencmd=str(pi.vcgencmd))
    assert len({finding.what for finding in found}) == len(found) == 21
    assert {finding.what for finding in found if finding.state == "fault"} == {"fleet", "server", "model"}


# --memory


def process(root: Path, pid: int, command: str, group: str, rss_kb: int, pss_kb: int | None) -> None:
    folder = root / "proc" / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes(command.replace(" ", "\0").encode() + b"\0")
    (folder / "cgroup").write_text(f"0::/system.slice/{group}\n")
    (folder / "status").write_text(f"Name: x\nVmRSS:\t   {rss_kb} kB\n")
    if pss_kb is not None:
        (folder / "smaps_rollup").write_text(f"0-1 ---p [rollup]\nRss: {rss_kb} kB\nPss: {pss_kb} kB\nSwap: 0 kB\n")


def test_each_process_is_told_with_its_memory_and_its_units_limit(tmp_path: Path) -> None:
    opt = "/opt/sitecam/current"
    process(tmp_path, 10, f"{opt}/camera/bin/python -P -m appliance.cli camera", "sitecam-camera.service", 97280, 81920)
    process(
        tmp_path,
        11,
        "python -I /var/lib/sitecam/models/versions/2/impulse.eim /tmp/s",
        "sitecam-camera.service",
        62000,
        51200,
    )
    process(tmp_path, 12, f"{opt}/night/bin/python -P -m trainer.night", "sitecam-night.service", 140000, None)
    process(tmp_path, 13, "/usr/bin/python3 other.py", "other.service", 999999, 999999)
    process(tmp_path, 14, "nginx: worker process", "nginx.service", 9000, 9000)
    limit = tmp_path / "sys/fs/cgroup/system.slice/sitecam-night.service/memory.max"
    limit.parent.mkdir(parents=True)
    limit.write_text("503316480\n")
    found = {each.kind: each for each in footprints(tmp_path)}
    assert set(found) == {"camera", "impulse", "night"}
    assert found["camera"] == Footprint("camera", 10, 97280 * 1024, 81920 * 1024, 0, "sitecam-camera.service", None)
    assert (found["night"].pss_bytes, found["night"].limit_bytes) == (None, 503316480)
    shown = text(list(found.values()), SystemState(throttling=Throttling()))
    assert "run it with sudo" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_whether_a_night_fits_is_said(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    board = SystemState(memory_size_bytes=430 * 2**20, memory_free_bytes=200 * 2**20, swap_free_bytes=100 * 2**20)
    assert "it does not fit, and waits" in text(footprints(tmp_path), board)


def test_the_kernel_s_own_files_are_understood() -> None:
    found = {each.pid: each for each in footprints()}
    assert all(each.rss_bytes > 0 for each in found.values())
    json.dumps([each.kind for each in found.values()])
