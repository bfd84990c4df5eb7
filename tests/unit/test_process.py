import json
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from appliance import cli
from appliance.config import load
from appliance.errors import ModelError, PortTakenError
from appliance.process import CameraProcess
from tests.fakes.enrolled import replay
from tests.fakes.fleet import TinyFleet
from tests.fakes.visiting import wait_for_state


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def config(tmp_path: Path, tiny_backbone: bytes, port: int) -> Path:
    return replay(tmp_path, TinyFleet(tmp_path, tiny_backbone), page_port=port, rate_fps=20)


def test_a_camera_decides_about_its_frames_and_says_so_on_its_page(config: Path) -> None:
    process = CameraProcess(load(config))
    process.start()
    try:
        state = wait_for_state(config, lambda state: state["decision"] is not None)
    finally:
        process.stop()
    assert (state["camera"], state["fleet"], state["model"]["version"]) == ("gate", "test fleet", 1)
    assert set(state["decision"]["scores"]) == {"head", "hardhat", "nobody"}
    assert state["faults"] == {"camera": None, "model": None}
    left = {thread.name for thread in threading.enumerate()}
    assert not {name for name in left if name.startswith(("live-", "swapper", "page"))}


def test_a_taken_port_is_named_with_its_option_and_nothing_is_left_running(config: Path, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        process = CameraProcess(load(config))
        with pytest.raises(PortTakenError, match=rf"{port}.*port"):
            process.start()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("live-")]


def test_a_camera_without_a_model_says_what_to_do(config: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "state" / "models" / "versions")
    with pytest.raises(ModelError, match="Enrol it again"):
        CameraProcess(load(config))


def test_a_camera_whose_pointer_is_lost_runs_what_it_has(config: Path, tmp_path: Path) -> None:
    (tmp_path / "state" / "models" / "current").write_bytes(b"\xff")
    process = CameraProcess(load(config))
    process.start()
    try:
        wait_for_state(config, lambda state: state["model"]["version"] == 1)
    finally:
        process.stop()


def test_a_camera_whose_pictures_are_gone_shows_the_fault_and_recovers(config: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures").rename(tmp_path / "away")
    process = CameraProcess(load(config))
    process.start()
    try:
        state = wait_for_state(config, lambda state: state["faults"]["camera"] is not None)
        assert "There is no folder or video" in state["faults"]["camera"]
        (tmp_path / "away").rename(tmp_path / "pictures")
        wait_for_state(config, lambda state: state["decision"] is not None and state["faults"]["camera"] is None)
    finally:
        process.stop()


def test_the_command_runs_until_it_is_told_to_stop(config: Path, port: int) -> None:
    command = [sys.executable, "-m", "appliance.cli", "--config", str(config), "camera"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for_state(config, lambda state: state["decision"] is not None)
        finally:
            process.terminate()
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert out == f"gate: https://127.0.0.1:{port}/\n"


def test_models_lists_versions_and_marks_the_one_that_runs(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.main(["--config", str(config), "models", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["version"], row["runs"], row["verdict"]) == (1, True, None)
    assert cli.main(["--config", str(config), "models"]) == 0
    assert capsys.readouterr().out.startswith("*    1  2026-01-01")


def test_import_refuses_a_label_that_the_fleet_does_not_know(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("head", "hardhot"):
        (tmp_path / "new" / label).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "new" / label / "a.png")
    assert cli.main(["--config", str(config), "import", str(tmp_path / "new"), "--label-from", "folders"]) == 1
    assert "hardhat" in capsys.readouterr().err
