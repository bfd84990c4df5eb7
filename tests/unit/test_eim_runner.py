"""The runner's edges, and Edge Impulse's SDK on its own with a packed .eim."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from appliance import litert
from appliance.eim.guarded import SHARED_MEMORY, _grey
from appliance.eim.runner import start_impulse
from appliance.errors import ConfigError
from tests.fakes import parts
from tests.fakes.eim_shaped import write_shaped
from tests.fakes.eim_traces import Traces, runs, segments_of

PROJECT = Path(__file__).resolve().parents[2]

# What a person would write who has the SDK and nothing of ours. PyAudio may be missing, hence the first line.
OFFICIAL = """
import sys, types; sys.modules.setdefault("pyaudio", types.ModuleType("pyaudio"))
import cv2, json
from edge_impulse_linux.image import ImageImpulseRunner
runner = ImageImpulseRunner(sys.argv[1])
runner.init()
picture = cv2.cvtColor(cv2.imread(sys.argv[2]), cv2.COLOR_BGR2RGB)
features, cropped = runner.get_features_from_image_auto_studio_settings(picture)
answer = runner.classify(features)
runner.stop()
print(json.dumps([answer, list(cropped.shape), runner._allow_shm, runner._hello_resp["features_shm"]["name"]]))
"""
WITHOUT_SHARED_MEMORY = """
from edge_impulse_linux.runner import ImpulseRunner
original = ImpulseRunner.__init__
ImpulseRunner.__init__ = lambda self, path: original(self, path, allow_shm=False)
"""


@pytest.mark.parametrize("shared", [True, False])
def test_the_official_sdk_alone_classifies_a_picture(
    tiny_eim: Path, tiny_backbone: bytes, tmp_path: Path, shared: bool
) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (32, 32, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), picture[..., ::-1])
    code = OFFICIAL
    if not shared:
        at = code.index("runner = ")
        code = code[:at] + WITHOUT_SHARED_MEMORY + code[at:]
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, tiny_eim, tmp_path / "picture.png"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answer, shape, allowed, name = json.loads(done.stdout)
    assert (shape, allowed) == ([32, 32, 3], shared)
    assert done.stderr == ""
    interpreter = litert.load(tiny_backbone)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None].astype(np.float32))
    interpreter.invoke()
    features = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    expected = dict(zip(parts.LABELS, parts.tiny_head().scores(features)[0].tolist(), strict=True))
    assert answer["result"]["classification"] == pytest.approx(expected, abs=1e-5)
    deadline = time.monotonic() + 60  # the SDK doesn't wait for the process that it ends
    segment = SHARED_MEMORY / name.strip("/")
    while segment.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not segment.exists()


def test_scores_through_shared_memory_are_those_of_the_same_parts_in_this_process(
    tiny_eim: Path, tiny_backbone: bytes
) -> None:
    interpreter = litert.load(tiny_backbone)
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    pictures = np.random.default_rng(6).integers(0, 256, (20, 32, 32, 3), np.uint8)
    with start_impulse(tiny_eim, start_deadline_s=60) as impulse:
        for picture in pictures:
            interpreter.set_tensor(source, picture[None].astype(np.float32))
            interpreter.invoke()
            expected = parts.tiny_head().scores(interpreter.get_tensor(sink))[0]
            assert np.abs(expected - list(impulse.classify(picture).scores.values())).max() < 1e-5


def test_a_camera_that_is_killed_leaves_no_eim_memory_or_folder(tiny_eim: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from appliance.eim.runner import start_impulse\n"
        "impulse = start_impulse(Path(sys.argv[1])); print(impulse.pid, flush=True); time.sleep(600)"
    )
    camera = subprocess.Popen(
        [sys.executable, "-c", code, tiny_eim],
        cwd=PROJECT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
    )
    assert camera.stdout
    pid = int(camera.stdout.readline())
    segments = segments_of(pid)
    assert len(segments) == 2  # the protocol's, and the fast lane's
    camera.send_signal(signal.SIGKILL)
    camera.wait()
    camera.stdout.close()
    deadline = time.monotonic() + 60
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs(pid)
    assert not any(segment.exists() for segment in segments)
    assert list(tmp_path.iterdir()) == []


def test_grey_is_luma_in_all_channels() -> None:
    picture = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 10, 10]]], np.uint8)
    assert _grey(picture).tolist() == [[[76] * 3, [150] * 3, [29] * 3, [10] * 3]]


def test_a_temporary_folder_with_too_long_a_name_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(ConfigError, match="TMPDIR"):
        start_impulse(write_shaped(tmp_path / "m.eim", "old"))
    assert list(long.iterdir()) == []


def test_an_impulse_nobody_closed_is_ended_with_its_last_reference(tmp_path: Path) -> None:
    before = Traces.now()
    impulse = start_impulse(write_shaped(tmp_path / "m.eim", "shared-memory"))
    [segment] = segments_of(impulse.pid)
    del impulse
    assert not Traces.now().beyond(before)
    assert not segment.exists()


@pytest.mark.parametrize("module", ["cv2", "six", "edge_impulse_linux"])
def test_a_missing_sdk_is_a_clear_error_not_an_exit(module: str) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from appliance.errors import ConfigError\n"
        "try: import appliance.eim.sdk\n"
        "except ConfigError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "can't be imported" in done.stdout
    assert '"camera" extra' in done.stdout
    assert done.stderr == ""


def test_without_pyaudio_the_sdk_gets_an_empty_module() -> None:
    code = (
        "import sys; sys.modules['pyaudio'] = None\n"
        "import appliance.eim.sdk, importlib.util\n"
        "print(vars(sys.modules['pyaudio']).get('PyAudio'), importlib.util.find_spec('pyaudio').name)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "pyaudio"]


def test_the_types_can_be_had_without_opencv() -> None:
    code = "import sys, appliance.eim.runner; print('cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
