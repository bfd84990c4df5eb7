"""A camera that belongs to no fleet, and one that is let in while it runs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from appliance import cli
from appliance.alone import SENTENCE, fleet_of, was_enrolled
from appliance.config import load
from appliance.fleet import enrol
from appliance.paths import CameraPaths
from appliance.process import CameraProcess
from appliance.store.frames import FrameStore
from appliance.systemd import START_AFRESH_EXIT_CODE
from server.demo.pages import Visitor
from server.demo.site import DemoCamera
from tests.fakes.enrolled import replay
from tests.fakes.fleet import TinyFleet
from tests.fakes.visiting import wait_for_state
from tests.fakes.waiting import wait_until

Output = pytest.CaptureFixture[str]


@pytest.fixture
def config(tmp_path: Path, tiny_backbone: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A camera's settings, its state folder empty; the bundle that would let it in lies beside."""
    monkeypatch.setattr("appliance.recorder._WINDOW_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    keeps = "[store]\nbatch_s = 0.5\n"
    config = replay(tmp_path, TinyFleet(tmp_path, tiny_backbone), page_port=port, rate_fps=20, more=keeps)
    (tmp_path / "state").rename(tmp_path / "of another one")
    return config


@pytest.fixture
def paths(config: Path) -> CameraPaths:
    return CameraPaths(config.parent / "state")


@pytest.fixture
def process(config: Path) -> Iterator[CameraProcess]:
    process = CameraProcess(load(config))
    process.start()
    yield process
    process.stop()


def command(config: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "appliance.cli", "--config", str(config), *arguments]


def test_it_shows_pictures_and_says_what_it_misses(process: CameraProcess, config: Path, capsys: Output) -> None:
    state = wait_for_state(config, lambda state: state["faults"]["model"] is not None)
    assert state["faults"]["model"] == SENTENCE
    assert "works alone: no fleet, so no model and no nights" in SENTENCE
    assert "`sudo sitecam enrol CODE --server https://" in SENTENCE
    assert (state["fleet"], state["model"]["version"], state["decision"]) == ("", None, None)
    assert wait_until(lambda: process.watch.newest(-1, 1)) is not None  # its camera works
    assert process.alarm.current is None
    assert process.keeping.tonight() == "It has no nights: it belongs to no fleet."
    assert process.must_restart is None
    wait_until((config.parent / "state" / "status.json").exists)
    capsys.readouterr()
    assert cli.main(["--config", str(config), "status"]) == 1  # 0 is for cameras that watch
    assert SENTENCE in capsys.readouterr().out


def test_every_screen_of_it_answers_who_is_logged_in_and_nobody_else(process: CameraProcess, config: Path) -> None:
    camera = DemoCamera("gate", config, config.parent / "state", config.parent / "pictures", process.page.url)
    visitor = Visitor(camera)
    state = wait_until(visitor.state)
    assert state is not None
    assert state["camera"] == "gate"
    with visitor.browser() as person:
        looked = [path for path, verbs in person.get("openapi.json").json()["paths"].items() if "get" in verbs]
        paths = ["/label", "/models", "/privacy", "/data", "/events", "/metrics", *looked]
        answers = {path: person.get(path) for path in paths if "{" not in path and "stream" not in path}
        person.cookies.clear()
        strangers = {path: person.get(path).status_code for path in answers}
    # 404: the authority that phones could trust is a fleet's; 422: what must be asked for more exactly
    assert answers.pop("/healthz").status_code == 503  # nobody watches
    assert {
        path: answer.status_code for path, answer in answers.items() if answer.status_code not in (200, 404, 422)
    } == {}
    assert answers["/api/models"].json()["versions"] == []
    assert "This camera works alone" in answers["/api/privacy"].json()["sentences"][0]
    assert {path for path, status in strangers.items() if status not in (302, 303, 401)} == {"/healthz"}


def test_it_keeps_pictures_and_people_label_them_for_a_fleet_to_come(
    process: CameraProcess, paths: CameraPaths, config: Path
) -> None:
    assert [choice.name for choice in process.keeping.model.choices] == ["head", "hardhat", "nobody"]
    store = process.keeping.store
    frame = wait_until(lambda: store.frames(labelled_only=False))[0]
    assert (frame.reason, frame.version) == ("scene", None)
    process.keeping.answers.label(frame.id, "hardhat", by="Ada")
    process.stop()
    enrol(paths, config.parent / "camera.bundle")
    with FrameStore(paths.store) as again:
        assert again.frame(frame.id).label == "hardhat"


def test_frames_of_the_empty_site_and_folders_come_in_as_they_do_in_a_fleet(
    process: CameraProcess, config: Path, tmp_path: Path, capsys: Output
) -> None:
    wait_until(lambda: process.watch.newest(-1, 1))
    assert cli.main(["--config", str(config), "learn-empty", "--count", "1", "--every", "1"]) == 0
    (tmp_path / "new/hardhat").mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "new/hardhat/a.png")
    assert cli.main(["--config", str(config), "import", str(tmp_path / "new"), "--label-from", "folders"]) == 0
    assert cli.main(["--config", str(config), "rollback"]) == 1
    assert "This camera isn't enrolled" in capsys.readouterr().err


def test_the_service_is_ready_alone_and_starts_afresh_once_it_is_enrolled(config: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(40)
        told = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
        with subprocess.Popen(command(config, "camera"), env=told, stderr=subprocess.PIPE, text=True) as process:
            try:
                heard: set[str] = set()
                ends = time.monotonic() + 40
                while not (wanted := {"READY=1", "WATCHDOG=1", f"STATUS={SENTENCE}"}) <= heard:
                    assert time.monotonic() < ends, wanted - heard
                    heard.add(systemd.recv(4096).decode())
                bundle = command(config, "enrol", str(config.parent / "camera.bundle"))
                enrolled = subprocess.run(bundle, capture_output=True, text=True, check=True).stdout
                _, err = process.communicate(timeout=40)
            finally:
                process.kill()
    assert "belongs to test fleet and runs version 1" in enrolled
    assert "starts afresh within seconds" in enrolled
    assert process.returncode == START_AFRESH_EXIT_CODE, err
    assert "This camera was enrolled. Its service starts afresh" in err


def test_once_it_is_enrolled_it_decides(process: CameraProcess, config: Path, paths: CameraPaths) -> None:
    assert not was_enrolled(paths)
    enrol(paths, config.parent / "camera.bundle")
    assert "starts afresh, with the fleet's model" in str(process.must_restart)
    process.stop()
    afresh = CameraProcess(load(config))
    afresh.start()
    try:
        state = wait_for_state(config, lambda state: state["decision"] is not None)
        afresh.tell_systemd()
    finally:
        afresh.stop()
    assert (state["fleet"], state["model"]["version"]) == ("test fleet", 1)


def test_half_an_enrolment_is_none(config: Path, paths: CameraPaths) -> None:
    enrol(paths, config.parent / "camera.bundle")
    (paths.fleet / "fleet.json").write_text(json.dumps({"name": "half"})[:-3])
    assert not was_enrolled(paths)
    (paths.fleet / "fleet.json").unlink()
    assert fleet_of(paths) is None


def test_models_of_a_fleet_that_it_left_run_no_more(config: Path, paths: CameraPaths) -> None:
    enrol(paths, config.parent / "camera.bundle")
    shutil.rmtree(paths.fleet)
    process = CameraProcess(load(config))
    process.start()
    try:
        state = wait_for_state(config, lambda state: state["faults"]["model"] is not None)
    finally:
        process.stop()
    assert (state["faults"]["model"], state["decision"]) == (SENTENCE, None)


# The first login, from a terminal to a phone


def test_a_login_code_names_every_address_and_comes_as_a_qr_code(
    config: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text(config.read_text().replace("[page]\n", '[page]\nhost = "0.0.0.0"\n'))
    monkeypatch.setattr(cli, "own_addresses", lambda: ["192.168.178.42", "10.8.0.3", "fd00::1"])
    monkeypatch.setattr("socket.gethostname", lambda: "north-gate-17.site.example")
    assert cli.main(["--config", str(config), "login-code", "--qr"]) == 0
    lines = capsys.readouterr().out.splitlines()
    hosts = [str(httpx.URL(line).host) for line in lines if line.startswith("https://")]
    assert hosts == ["192.168.178.42", "10.8.0.3", "north-gate-17.local"]
    assert sum("█" in line for line in lines) > 15
    assert max(map(len, lines)) <= 80


def test_without_what_draws_it_the_code_is_still_shown(
    config: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    assert cli.main(["--config", str(config), "login-code", "--qr"]) == 2
    shown = capsys.readouterr()
    assert "makes one admin" in shown.out
    assert "the package segno is missing" in shown.err
