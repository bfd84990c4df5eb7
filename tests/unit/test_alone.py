"""A camera that belongs to no fleet, and one that is let in while it runs."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance import cli
from appliance.alone import fleet_of, was_enrolled
from appliance.config import load
from appliance.fleet import enrol
from appliance.paths import CameraPaths
from appliance.process import CameraProcess
from tests.fakes.enrolled import replay
from tests.fakes.fleet import TinyFleet
from tests.fakes.visiting import wait_for_state
from tests.fakes.waiting import wait_until


@pytest.fixture
def config(tmp_path: Path, tiny_backbone: bytes) -> Path:
    """A camera's settings, its state folder empty; the bundle that would let it in lies beside."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    config = replay(tmp_path, TinyFleet(tmp_path, tiny_backbone), page_port=port, rate_fps=20)
    (tmp_path / "state").rename(tmp_path / "of another one")
    return config


@pytest.fixture
def process(config: Path) -> Iterator[CameraProcess]:
    process = CameraProcess(load(config))
    process.start()
    yield process
    process.stop()


def test_it_shows_pictures_and_says_what_it_misses(
    process: CameraProcess, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = wait_for_state(config, lambda state: state["faults"]["model"] is not None)
    assert "works alone: it belongs to no fleet" in state["faults"]["model"]
    assert "sudo sitecam enrol CODE" in state["faults"]["model"]
    assert (state["fleet"], state["model"]["version"], state["decision"]) == ("", None, None)
    assert wait_until(lambda: process.watch.newest(-1, 1)) is not None  # its camera works
    assert process.keeping.tonight() == "It has no nights: it belongs to no fleet."
    assert process.must_restart is None
    wait_until((config.parent / "state" / "status.json").exists)
    capsys.readouterr()
    assert cli.main(["--config", str(config), "status"]) == 1
    assert "works alone" in capsys.readouterr().out


def test_people_can_label_for_a_fleet_to_come(process: CameraProcess) -> None:
    assert [choice.name for choice in process.keeping.model.choices] == ["head", "hardhat", "nobody"]
    assert process.keeping.model.checked("hardhat") == "hardhat"


def test_once_it_is_enrolled_it_starts_afresh_and_decides(process: CameraProcess, config: Path) -> None:
    paths = CameraPaths(config.parent / "state")
    assert not was_enrolled(paths)
    enrol(paths, config.parent / "camera.bundle")
    assert "starts afresh, with the fleet's model" in str(process.must_restart)
    process.stop()
    afresh = CameraProcess(load(config))
    afresh.start()
    try:
        state = wait_for_state(config, lambda state: state["decision"] is not None)
    finally:
        afresh.stop()
    assert (state["fleet"], state["model"]["version"]) == ("test fleet", 1)


def test_half_an_enrolment_is_none(config: Path) -> None:
    paths = CameraPaths(config.parent / "state")
    enrol(paths, config.parent / "camera.bundle")
    (paths.fleet / "fleet.json").write_text(json.dumps({"name": "half"})[:-3])
    assert not was_enrolled(paths)
    (paths.fleet / "fleet.json").unlink()
    assert fleet_of(paths) is None
