"""Whole installations on a machine in a folder: both roles, a second time, cut off, and with hostile words."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from appliance.errors import InstallError
from appliance.installing import codes, defaults, timers
from appliance.installing.camera import install_camera
from appliance.installing.roles import Wishes
from appliance.installing.run import Done
from appliance.installing.server import install_server
from tests.fakes.debian import SURE, FakeDebian, installation, tree

HOSTILE = 'gate\'; touch $(pwned) `x` "y" \\ $HOME'


def test_a_camera_comes_from_nothing_to_a_page_with_one_command(here: FakeDebian, source: Path) -> None:
    assert install_camera(installation(here, source), SURE) == 0
    opt = here.root / "opt/sitecam"
    release = (opt / "current").resolve()
    assert release.parent == opt / "releases"
    assert (release / "code/appliance/__init__.py").read_text() == '__version__ = "1.0.0"\n'
    assert not (release / "code/appliance/__pycache__").exists()
    assert (here.root / "usr/local/bin/sitecam").readlink() == opt / "current/bin/sitecam"
    assert here.active == {"sitecam-camera.service", "sitecam-night.timer"} == here.enabled
    assert "picamera2" in " ".join(here.packages)
    settings = (here.root / "etc/sitecam/sitecam.toml").read_text()
    assert 'name = "gate-1"' in settings
    assert 'time_zone = "Europe/Berlin"' in settings
    assert (here.root / "var/lib/sitecam").stat().st_mode & 0o777 == 0o700
    assert (here.root / "etc/sitecam/sitecam.toml").stat().st_mode & 0o777 == 0o640
    record = json.loads((opt / "installed.json").read_text())
    assert record["roles"] == ["camera"]
    assert record["release"] == release.name
    assert str(here.root / "etc/systemd/system/sitecam-camera.service") in record["files"]
    assert any("alone" in line for line in here.said)


def test_a_second_run_changes_nothing_at_all(here: FakeDebian, source: Path) -> None:
    install_camera(installation(here, source), SURE)
    before, commands = tree(here.root), len(here.commands)
    here.shown.clear()
    assert install_camera(installation(here, source), SURE) == 0
    assert tree(here.root) == before
    assert here.commands[commands:] == []
    assert here.shown == []


def test_a_server_ends_with_a_password_shown_once_and_the_cameras_line(here: FakeDebian, source: Path) -> None:
    wishes = Wishes(host="site-server", yes=True, clock_is_right=True)
    assert install_server(installation(here, source), wishes) == 0
    shown = "\n".join(here.shown)
    assert "sudo ./install.sh camera --server https://site-server:9443 --code K7QF-2M9X-4PTR" in shown
    password = shown.partition("shown this once: ")[2].splitlines()[0]
    assert len(password) >= 20
    assert not any(password in line for line in (*here.noted, *here.said))
    assert not any(password in word for command in here.commands for word in command)
    before = tree(here.root)
    here.shown.clear()
    assert install_server(installation(here, source), wishes) == 0
    assert tree(here.root) == before
    assert here.shown == []


def test_one_machine_may_be_both(here: FakeDebian, source: Path) -> None:
    install_server(installation(here, source), Wishes(host="site", yes=True, clock_is_right=True))
    install_camera(installation(here, source), SURE)
    assert installation(here, source).record.roles == ("camera", "server")
    sysusers = (here.root / "etc/sysusers.d/sitecam.conf").read_text()
    assert "u sitecam -" in sysusers
    assert "u sitecam-server -" in sysusers
    assert "m sitecam video" in sysusers
    before = tree(here.root)
    install_camera(installation(here, source), SURE)
    install_server(installation(here, source), Wishes(host="site", yes=True, clock_is_right=True))
    assert tree(here.root) == before


@pytest.mark.usefixtures("here")
def test_a_dry_run_changes_nothing_and_says_what_it_would(tmp_path: Path, source: Path) -> None:
    dry = FakeDebian(tmp_path / "dry", dry_run=True)
    before = tree(dry.root)
    for install in (install_camera, install_server):
        assert install(installation(dry, source), Wishes(host="h")) == 0
    assert tree(dry.root) == before
    assert dry.commands == []
    said = "\n".join(dry.said)
    assert "would run: apt-get" in said
    assert "would write" in said
    assert "would run: systemctl enable --quiet sitecam-camera.service" in said


def test_a_camera_is_enrolled_before_it_starts_and_its_code_is_not_logged(here: FakeDebian, source: Path) -> None:
    wishes = Wishes(name="gate-1", server="https://site:9443", code="K7QF-2M9X-4PTR", yes=True, clock_is_right=True)
    install_camera(installation(here, source), wishes)
    words = [" ".join(command) for command in here.commands]
    enrolled = next(
        n for n, line in enumerate(words) if line.endswith("enrol K7QF-2M9X-4PTR --server https://site:9443")
    )
    started = next(n for n, line in enumerate(words) if line == "systemctl start sitecam-camera.service")
    assert enrolled < started
    assert not any("K7QF-2M9X-4PTR" in line for line in here.noted)
    assert install_camera(installation(here, source), wishes) == 0
    assert any("the code was not used" in line for line in here.said)


def test_a_code_that_is_refused_leaves_a_camera_that_the_same_command_finishes(here: FakeDebian, source: Path) -> None:
    wishes = Wishes(name="gate-1", server="https://site:9443", code="K7QF", yes=True, clock_is_right=True)
    here.failing["enrol"] = Done(1, "", "no such code")
    with pytest.raises(InstallError, match="no such code"):
        install_camera(installation(here, source), wishes)
    assert here.active == set()
    here.failing.clear()
    assert install_camera(installation(here, source), wishes) == 0
    assert "sitecam-camera.service" in here.active


def test_what_an_interrupted_run_left_is_removed_by_the_next(here: FakeDebian, source: Path) -> None:
    half = here.root / "opt/sitecam/releases/0.9.0+0badc0de"
    (half / "code/appliance").mkdir(parents=True)
    here.failing["locks/night.txt"] = Done(1, "", "no network")
    with pytest.raises(InstallError, match="no network"):
        install_camera(installation(here, source), SURE)
    assert not (here.root / "opt/sitecam/current").exists()
    here.failing.clear()
    commands = len(here.commands)
    assert install_camera(installation(here, source), SURE) == 0
    assert not half.exists()
    venvs = [Path(command[-1]).name for command in here.commands[commands:] if command[1:3] == ["-m", "venv"]]
    assert venvs == ["night"]  # the camera's environment was whole


def test_hostile_names_stay_one_word_and_one_string(here: FakeDebian, source: Path) -> None:
    install_camera(installation(here, source), Wishes(name=HOSTILE, yes=True, clock_is_right=True))
    settings = tomllib.loads((here.root / "etc/sitecam/sitecam.toml").read_text())
    assert settings["camera"]["name"] == HOSTILE
    assert not any(HOSTILE in word for command in here.commands for word in command)
    assert not any(Path(command[0]).name == "sh" or "-c" in command[:2] for command in here.commands)


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(name="a\nb", yes=True),
        Wishes(name="--help", yes=True),
        Wishes(name="x" * 65, yes=True),
        Wishes(name="a", server="https://site:9443", yes=True),
        Wishes(name="a", code="K7QF", yes=True),
        Wishes(name="a", server="https://site:9443;reboot", code="K7QF", yes=True),
        Wishes(name="a", server="--config=/etc/shadow", code="K7QF", yes=True),
        Wishes(name="a", server="site:9443", code="$(reboot)", yes=True),
    ],
)
def test_words_that_can_be_no_name_server_or_code_are_a_wrong_call(
    here: FakeDebian, source: Path, wishes: Wishes
) -> None:
    before = tree(here.root)
    with pytest.raises(InstallError) as refused:
        install_camera(installation(here, source), wishes)
    assert refused.value.exit_code == codes.WRONG_CALL
    assert tree(here.root) == before


def test_settings_are_never_overwritten_and_new_defaults_lie_beside_them_once(
    here: FakeDebian, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_camera(installation(here, source), SURE)
    path = here.root / "etc/sitecam/sitecam.toml"
    mine = path.read_text().replace("01:00", "02:30")
    path.write_text(mine)
    new = path.with_name("sitecam.toml.new")
    install_camera(installation(here, source), SURE)
    assert not new.exists()
    monkeypatch.setattr(defaults, "_CAMERA", defaults._CAMERA + "\n[events]\ndays = 30\n")
    install_camera(installation(here, source), SURE)
    assert path.read_text() == mine
    assert "days = 30" in new.read_text()
    new.unlink()
    install_camera(installation(here, source), SURE)
    assert not new.exists()


def test_a_machine_that_does_not_fit_is_left_as_it_was(here: FakeDebian, source: Path) -> None:
    (here.root / "etc/os-release").write_text('ID=debian\nVERSION_ID="11"\n')
    before = tree(here.root)
    with pytest.raises(InstallError) as refused:
        install_camera(installation(here, source), SURE)
    assert refused.value.exit_code == codes.REFUSED
    assert tree(here.root) == before
    assert here.commands == []


def test_plain_debian_without_picamera2_is_said_and_goes_on(here: FakeDebian, source: Path) -> None:
    here.absent = {"python3-picamera2"}
    assert install_camera(installation(here, source), SURE) == 0
    assert any("python3-picamera2 can't be had" in line for line in here.said)
    commands = len(here.commands)
    install_camera(installation(here, source), SURE)
    assert here.commands[commands:] == []
    here.absent = set()
    install_camera(installation(here, source), SURE)
    assert "python3-picamera2" in here.packages


def test_a_page_that_never_answers_is_a_failure_with_the_services_last_words(here: FakeDebian, source: Path) -> None:
    here.broken = lambda _: True
    here.failing["journalctl"] = Done(0, "ImportError: no module named x")
    with pytest.raises(InstallError, match=r"sitecam-camera\.service does not run"):
        install_camera(installation(here, source), SURE)
    assert "ImportError: no module named x" in here.noted


def test_debians_nginx_is_switched_off_only_if_it_came_with_us(here: FakeDebian, source: Path) -> None:
    install_server(installation(here, source), Wishes(host="site", yes=True, clock_is_right=True))
    assert ["systemctl", "disable", "--now", "nginx.service"] in here.commands
    assert installation(here, source).record.nginx_off


def test_an_nginx_that_was_there_before_is_left_alone(here: FakeDebian, source: Path) -> None:
    here.packages.add("nginx-light")
    install_server(installation(here, source), Wishes(host="site", yes=True, clock_is_right=True))
    assert ["systemctl", "disable", "--now", "nginx.service"] not in here.commands


def test_timers_follow_the_settings_in_site_time(here: FakeDebian, source: Path) -> None:
    install_camera(installation(here, source), SURE)
    drop_in = here.root / "etc/systemd/system/sitecam-night.timer.d/window.conf"
    assert "OnCalendar=\nOnCalendar=*-*-* 01,02,03,04:00,15,30,45:00 Europe/Berlin\n" in drop_in.read_text()
    path = here.root / "etc/sitecam/sitecam.toml"
    path.write_text(
        path.read_text().replace("01:00", "23:30").replace("05:00", "00:30").replace("Europe/Berlin", "Asia/Tokyo")
    )
    assert timers.apply(installation(here, source))
    assert "OnCalendar=*-*-* 23:30,45:00 Asia/Tokyo\nOnCalendar=*-*-* 00:00,15:00 Asia/Tokyo\n" in drop_in.read_text()
    assert here.commands[-2:] == [["systemctl", "daemon-reload"], ["systemctl", "restart", "sitecam-night.timer"]]
    assert not timers.apply(installation(here, source))


@pytest.mark.parametrize("begins", ["25:00", "1:00", "01:00\\nExecStart=/bin/sh", "*"])
def test_an_hour_that_is_none_never_reaches_a_unit(here: FakeDebian, source: Path, begins: str) -> None:
    install_camera(installation(here, source), SURE)
    drop_in = here.root / "etc/systemd/system/sitecam-night.timer.d/window.conf"
    before = drop_in.read_text()
    path = here.root / "etc/sitecam/sitecam.toml"
    path.write_text(path.read_text().replace("01:00", begins))
    with pytest.raises(InstallError, match=r"night\.begins"):
        timers.apply(installation(here, source))
    assert drop_in.read_text() == before


@pytest.mark.parametrize(("version", "there"), [("systemd 257 (257.9)", True), ("systemd 252 (252.39)", False)])
def test_restart_steps_are_for_a_systemd_that_knows_them(
    here: FakeDebian, source: Path, version: str, there: bool
) -> None:
    here.failing["--version"] = Done(0, f"{version}\n")
    install_camera(installation(here, source), SURE)
    assert (here.root / "etc/systemd/system/sitecam-camera.service.d/back-off.conf").exists() is there


def test_the_hardware_watchdog_is_opt_in(here: FakeDebian, source: Path) -> None:
    conf = here.root / "etc/systemd/system.conf.d/sitecam.conf"
    install_camera(installation(here, source), SURE)
    assert not conf.exists()
    wishes = Wishes(name="gate-1", yes=True, clock_is_right=True, hardware_watchdog=True)
    install_camera(installation(here, source), wishes)
    assert "RuntimeWatchdogSec=15s" in conf.read_text()
