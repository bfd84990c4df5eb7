"""What is refused before anything is changed, and with which words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import InstallError
from appliance.installing import codes, machine, preflight
from appliance.installing.layout import Layout, Role
from appliance.installing.machine import Machine
from appliance.installing.run import Done
from tests.fakes.debian import FakeDebian

GOOD = Machine(
    root=True,
    packages_for="arm64",
    kernel="aarch64",
    system="debian",
    release="13",
    python=(3, 13),
    model="Raspberry Pi 4 Model B Rev 1.4",
    memory_mb=3790,
    swap_mb=512,
    free_mb=20_000,
    clock=True,
    taken=(),
    sensor=True,
    memory_limits=True,
    systemd=True,
)


def test_a_good_pi_is_taken_without_a_word() -> None:
    assert preflight.examine(GOOD, "camera") == []
    assert preflight.examine(replace(GOOD, packages_for="amd64", kernel="x86_64"), "server") == []


@pytest.mark.parametrize(
    ("change", "role", "words"),
    [
        ({"root": False}, "camera", "not root"),
        ({"systemd": False}, "camera", "systemd does not run"),
        ({"packages_for": ""}, "camera", "no dpkg"),
        ({"packages_for": "armhf", "kernel": "armv7l"}, "camera", "armhf. Packages"),
        ({"packages_for": "armhf"}, "camera", "armhf on a 64-bit kernel"),
        ({"packages_for": "amd64"}, "camera", "kernel is for aarch64"),
        ({"release": "11"}, "camera", "debian 11"),
        ({"release": ""}, "camera", "This is debian."),
        ({"system": "fedora", "release": "42"}, "camera", "fedora 42"),
        ({"system": "ubuntu", "release": "24.04"}, "camera", "ubuntu 24.04"),
        ({"system": "ubuntu", "release": "22.04"}, "server", "ubuntu 22.04"),
        ({"system": "ubuntu", "release": "26.04", "python": (3, 14)}, "server", "Python is 3.14"),
        ({"memory_mb": 240}, "camera", "240 MB of memory"),
        ({"free_mb": 3900}, "camera", "3900 MB are free"),
        ({"free_mb": 5000}, "server", "5000 MB are free"),
        ({"clock": False}, "camera", "clock is not synchronised"),
        ({"clock": None}, "camera", "clock can't be judged"),
        ({"taken": (4912,)}, "camera", "Port 4912 is taken"),
        ({"taken": (9443, 8443, 4911, 9092)}, "server", "Port 9092 is taken"),
    ],
)
def test_a_machine_that_cannot_have_it_is_refused_with_reason_and_remedy(
    change: dict[str, object], role: Role, words: str
) -> None:
    findings = preflight.examine(replace(GOOD, **change), role)  # type: ignore[arg-type]  # a table of fields
    refused = [finding for finding in findings if finding.kind == "refuse"]
    assert any(words in finding.line() for finding in refused), findings
    assert all(finding.means and finding.do for finding in refused)


@pytest.mark.parametrize(
    ("change", "role", "words"),
    [
        ({"sensor": False}, "camera", "No camera was found"),
        ({"memory_limits": False}, "camera", "cgroup_enable=memory"),
        ({"memory_mb": 420, "swap_mb": 0, "model": "Raspberry Pi Zero 2 W"}, "camera", "zram"),
        ({"memory_mb": 900, "swap_mb": 100}, "server", "2200 MB"),
    ],
)
def test_what_only_makes_it_worse_is_said_and_it_goes_on(change: dict[str, object], role: Role, words: str) -> None:
    findings = preflight.examine(replace(GOOD, **change), role)  # type: ignore[arg-type]  # a table of fields
    assert [finding.kind for finding in findings] == ["warning"]
    assert words in findings[0].line()


def test_every_fault_is_listed_at_once() -> None:
    machine_ = replace(GOOD, root=False, release="11", memory_mb=100, free_mb=10, clock=False, taken=(4912,))
    assert len([f for f in preflight.examine(machine_, "camera") if f.kind == "refuse"]) == 6


def test_a_512_mb_board_is_let_in_though_it_shows_less() -> None:
    assert not [f for f in preflight.examine(replace(GOOD, memory_mb=419), "camera") if f.kind == "refuse"]


def test_our_own_running_service_does_not_take_its_port_from_itself() -> None:
    taken = replace(GOOD, taken=(4912,))
    assert preflight.examine(taken, "camera", ours=frozenset({"sitecam-camera.service"})) == []


def test_a_machine_that_has_this_release_already_needs_no_room_for_it() -> None:
    assert preflight.examine(replace(GOOD, free_mb=1000), "camera", installed=True) == []


def test_somebody_may_answer_for_the_clock_and_for_being_root_in_a_dry_run() -> None:
    assert preflight.examine(replace(GOOD, clock=None), "camera", clock_is_right=True) == []
    assert preflight.examine(replace(GOOD, root=False), "camera", dry_run=True) == []


@pytest.mark.parametrize(
    ("change", "code"), [({"root": False}, codes.NOT_ROOT), ({"root": False, "clock": False}, codes.REFUSED)]
)
def test_exit_codes_tell_no_sudo_from_a_machine_that_does_not_fit(
    tmp_path: Path, change: dict[str, object], code: int
) -> None:
    findings = preflight.examine(replace(GOOD, **change), "camera")  # type: ignore[arg-type]  # a table of fields
    with pytest.raises(InstallError) as refused:
        preflight.say_all(findings, FakeDebian(tmp_path))
    assert refused.value.exit_code == code


def test_a_clock_that_synchronises_meanwhile_is_waited_for(tmp_path: Path) -> None:
    debian = FakeDebian(tmp_path)
    late = replace(GOOD, clock=False)
    assert preflight.settle_clock(late, debian, wait_s=5, step_s=0).clock is True
    debian.failing["NTPSynchronized"] = Done(0, "no\n")
    assert preflight.settle_clock(late, debian, wait_s=0, step_s=0).clock is False


def test_a_machine_is_read_from_its_own_files(tmp_path: Path) -> None:
    debian = FakeDebian(tmp_path)
    (tmp_path / "proc/device-tree").mkdir()
    (tmp_path / "proc/device-tree/model").write_bytes(b"Raspberry Pi Zero 2 W Rev 1.0\0")
    found = machine.look(Layout(tmp_path), debian, ())
    assert (found.system, found.release, found.packages_for) == ("debian", "13", "amd64")
    assert (found.memory_mb, found.swap_mb) == (3808, 195)
    assert found.model == "Raspberry Pi Zero 2 W Rev 1.0"
    assert found.clock is True
    assert found.memory_limits
    assert not found.sensor
    assert not debian.commands


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("unicam-image", True),
        ("rp1-cfe-csi2_ch0", True),
        ("imx708 10-001a", True),
        ("bcm2835-isp0-output0", False),
        ("HD Webcam", False),
    ],
)
def test_a_sensor_is_told_from_the_boards_other_video_devices(tmp_path: Path, name: str, there: bool) -> None:
    device = tmp_path / "sys/class/video4linux/video0"
    device.mkdir(parents=True)
    (device / "name").write_text(f"{name}\n")
    assert machine.look(Layout(tmp_path), FakeDebian(tmp_path), ()).sensor is there


def test_the_time_zone_comes_from_the_system_and_never_as_something_else(tmp_path: Path) -> None:
    debian = FakeDebian(tmp_path)
    assert machine.time_zone(Layout(tmp_path), debian) == "Europe/Berlin"
    debian.failing["Timezone"] = Done(0, "x\nOnCalendar=*:*\n")
    assert machine.time_zone(Layout(tmp_path), debian) == "UTC"
    (tmp_path / "etc/timezone").write_text("America/New_York\n")
    assert machine.time_zone(Layout(tmp_path), debian) == "America/New_York"
