"""systemd's own tools on our units: can it read them, when do timers fire, how exposed is each service?"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.config import NightSettings as CameraNight
from appliance.installing.layout import Layout, Role, user
from appliance.night_window import calendar_lines, ends_after
from appliance.systemd import START_AFRESH_EXIT_CODE
from server.config import NightSettings as ServerNight

FOLDER = Path(__file__).resolve().parents[2] / "systemd"
UNITS = sorted(FOLDER.iterdir())
SERVICES = [path for path in UNITS if path.suffix == ".service"]
EXPOSED_AT_MOST = {"sitecam-camera.service": 35}  # in tenths; of all others:
EXPOSED_OTHERWISE = 20

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


def test_systemd_reads_every_unit_without_complaint(tmp_path: Path) -> None:
    """What isn't there is installed later: programs are replaced by one that is. 252, bookworm's, knows every key."""
    for path in UNITS:
        text = re.sub(r"^(Exec[A-Za-z]+)=/opt/sitecam\S+", r"\1=/bin/true", path.read_text(), flags=re.MULTILINE)
        text = re.sub(r"^(User|Group)=.*$", r"\1=root", text, flags=re.MULTILINE)
        (tmp_path / path.name).write_text(text)
    done = analyze("verify", "--man=no", *(str(tmp_path / path.name) for path in UNITS))
    ours = [line for line in done.stderr.splitlines() if "sitecam" in line]
    assert ours == []


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_is_exposed_no_more_than_it_must_be(path: Path) -> None:
    most = EXPOSED_AT_MOST.get(path.name, EXPOSED_OTHERWISE)
    done = analyze("security", "--offline=true", f"--threshold={most}", "--no-pager", str(path))
    assert done.returncode == 0, done.stdout[-400:] + done.stderr


def test_timers_fire_within_the_night() -> None:
    for name, hours in (("sitecam-night.timer", {1, 2, 3, 4}), ("sitecam-round.timer", {1, 2, 3, 4})):
        lines = re.findall(r"^OnCalendar=(.*)$", (FOLDER / name).read_text(), flags=re.MULTILINE)
        assert lines
        for line in lines:
            done = analyze("calendar", "--iterations=40", line)
            assert done.returncode == 0, done.stderr
            fires = re.findall(r"(?:Next elapse|Iteration #\d+|Iter\. #\d+): \w+ [0-9-]+ (\d\d):\d\d:00", done.stdout)
            assert len(fires) == 40
            assert {int(hour) for hour in fires} <= hours


def test_timers_as_they_stand_are_what_the_installer_makes_of_default_settings() -> None:
    camera, server = CameraNight(), ServerNight()
    windows = {
        "sitecam-night.timer": (camera.begins, camera.ends),
        "sitecam-round.timer": (server.begins, ends_after(server.begins, server.window_s)),
    }
    for name, (begins, ends) in windows.items():
        lines = re.findall(r"^OnCalendar=(.*)$", (FOLDER / name).read_text(), flags=re.MULTILINE)
        assert [f"{line} UTC" for line in lines] == calendar_lines(begins, ends, "UTC"), name


def test_a_camera_waits_for_neither_network_nor_time() -> None:
    text = (FOLDER / "sitecam-camera.service").read_text()
    assert re.findall(r"^(?:After|Wants|Requires)=(.*)$", text, flags=re.MULTILINE) == ["network.target"]


def test_the_night_can_see_that_the_camera_process_lives() -> None:
    """In a user namespace of its own, with others' processes hidden, it would tell the server that it is dead."""
    text = (FOLDER / "sitecam-night.service").read_text()
    assert not ("PrivateUsers=yes\n" in text and "ProtectProc=invisible\n" in text)


@pytest.mark.parametrize(("begins", "ends"), [("01:00", "05:00"), ("22:40", "04:10"), ("00:00", "23:59")])
def test_what_the_installer_makes_of_a_window_is_understood(begins: str, ends: str) -> None:
    for line in calendar_lines(begins, ends, "Europe/Berlin"):
        assert analyze("calendar", line).returncode == 0, line


def test_units_and_layout_name_the_same_places_and_people() -> None:
    layout = Layout()
    for path in SERVICES:
        text = path.read_text()
        role: Role = "server" if "User=sitecam-server" in text else "camera"
        assert path.name == "sitecam-certificate.service" or f"User={user(role)}\n" in text, path.name
        for program in re.findall(r"^Exec\w+=(/opt\S+)", text, flags=re.MULTILINE):
            assert Path(program).is_relative_to(layout.current), path.name
            assert Path(program).parts[-3] in ("camera", "night", "server"), path.name
        for state in re.findall(r"^StateDirectory=(.*)$", text, flags=re.MULTILINE):
            assert layout.root / "var/lib" / state == layout.state(role), path.name


def test_the_camera_s_exit_codes_are_the_program_s() -> None:
    text = (FOLDER / "sitecam-camera.service").read_text()
    assert f"RestartForceExitStatus={START_AFRESH_EXIT_CODE}\n" in text


def test_every_switch_that_is_left_off_has_its_reason_beside_it() -> None:
    for path in SERVICES:
        text = path.read_text()
        for switch in ("PrivateNetwork", "PrivateDevices", "PrivateUsers", "MemoryDenyWriteExecute", "ProcSubset"):
            assert f"{switch}=" in text, f"{path.name} says nothing of {switch}"


def test_install_sh_is_clean_to_shellcheck() -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([shellcheck, str(FOLDER.parent / "install.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
