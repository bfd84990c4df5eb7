"""What the model takes: the real .eim measured on this machine, and what the cameras told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from appliance.board import Board
from appliance.errors import ImpulseError, ImpulseExitedError
from server import cli
from server.config import load
from server.paths import ServerPaths
from server.profiling.measure import measure
from server.registry import Registry
from server.roster import Roster
from tests.fakes import parts
from tests.fakes.site import make_tiny_fleet, write_server_settings
from trainer.messages import CameraStatus

Output = pytest.CaptureFixture[str]
PICTURES = np.random.default_rng(1).integers(0, 256, (3, parts.SIDE, parts.SIDE, 3)).astype(np.uint8)
PI = Board("Raspberry Pi 4 Model B Rev 1.5", "aarch64", 4, 3_900_000_000, 2, 24.2, 64 * 2**20, 8_950_000)


@pytest.fixture
def config(tmp_path: Path, tiny_backbone: bytes) -> Path:
    """A server with two cameras, one of which told what its board takes, and no test frames."""
    path = write_server_settings(tmp_path / "sitecam-server.toml")
    settings = load(path)
    make_tiny_fleet(settings, tiny_backbone)
    paths = ServerPaths(settings.state_dir)
    for node, name in enumerate(("gate", "yard")):
        Roster(paths.registry).enrol(node + 1, name, f"key {node}")
    registry = Registry(paths.registry)
    registry.put_status(registry.begin("a night"), "gate", CameraStatus("gate", 1, {}, {}, (), board=PI))
    return path


def test_an_eim_is_measured_and_ended(tiny_eim: Path) -> None:
    before = set(Path("/dev/shm").iterdir())  # noqa: S108  # where it keeps its shared memory
    found = measure(tiny_eim, PICTURES, inferences=20)
    assert 0 < found.median_ms <= found.p99_ms
    assert found.inferences == 20
    assert found.pss_bytes is not None
    assert found.rss_bytes is not None
    assert 5 * 2**20 < found.pss_bytes <= found.rss_bytes < 500 * 2**20
    assert found.file_bytes == tiny_eim.stat().st_size
    assert set(Path("/dev/shm").iterdir()) <= before  # noqa: S108  # likewise


def test_an_eim_that_exits_is_told_with_its_last_words(tmp_path: Path) -> None:
    eim = tmp_path / "broken.eim"
    eim.write_text("#!/bin/sh\necho no luck today >&2\nexit 3\n")
    eim.chmod(0o755)
    with pytest.raises(ImpulseExitedError, match=r"broken\.eim ended with exit status 3 \(no luck today\)"):
        measure(eim, PICTURES, inferences=1)


def test_a_file_that_is_no_program_is_told(tmp_path: Path) -> None:
    eim = tmp_path / "picture.eim"
    eim.write_bytes(b"\x89PNG")
    eim.chmod(0o755)
    with pytest.raises(ImpulseError, match=r"picture\.eim can't be run"):
        measure(eim, PICTURES, inferences=1)


def test_the_command_measures_here_and_shows_what_cameras_told(config: Path, capsys: Output) -> None:
    assert cli.main(["--config", str(config), "profile", "--inferences", "8"]) == 0
    text = capsys.readouterr().out
    assert "tiny site, version 1, on this machine" in text
    assert "float32 (the cameras')" in text
    assert "int8: not measured. The server has 0 different test frames" in text
    (gate,) = [line for line in text.splitlines() if line.startswith("gate")]
    assert "Raspberry Pi 4 Model B Rev 1.5, 4 cores, 3.6 GB (aarch64)" in gate
    assert "24 ms for a picture on 2 threads, 64 MB of memory" in gate
    (yard,) = [line for line in text.splitlines() if line.startswith("yard")]
    assert "has not told yet" in yard


def test_as_json_it_is_all_there(config: Path, capsys: Output) -> None:
    assert cli.main(["--config", str(config), "profile", "--inferences", "8", "--threads", "2", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    exact, quantised = body["precisions"]
    assert (exact["precision"], exact["cameras"], exact["measured"]["inferences"]) == ("float32", True, 8)
    assert exact["tflite_bytes"] < exact["measured"]["file_bytes"]
    assert quantised["measured"] is None
    assert body["machine"]["threads"] == 2
    assert body["cameras"]["gate"]["inference_ms"] == 24.2
    assert body["cameras"]["yard"] is None


def test_no_inferences_are_no_measurement(config: Path, capsys: Output) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--config", str(config), "profile", "--inferences", "0"])
    assert "must be 1 or more" in capsys.readouterr().err
