"""The official Python SDK, unmodified and used as its own examples use it, runs our .eim."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from appliance.eim.runner import start_impulse
from appliance.vision import prepare, read_picture
from tests.fakes.parts import INPUT, LABELS

pytest.importorskip("cv2", reason="OpenCV isn't installed")

# PyAudio is imported by the SDK and used for sound only; an empty module of its name stands for it, as the README says.
_START = """
import json, sys, types
try:
    import pyaudio
except ImportError:
    sys.modules["pyaudio"] = types.ModuleType("pyaudio")
import cv2
from edge_impulse_linux.image import ImageImpulseRunner
"""

PICTURE = (
    _START
    + """
with ImageImpulseRunner(sys.argv[1]) as runner:
    try:
        told = runner.init()
        picture = cv2.cvtColor(cv2.imread(sys.argv[2]), cv2.COLOR_BGR2RGB)
        for features, _ in (
            runner.get_features_from_image_auto_studio_settings(picture),
            runner.get_features_from_image(picture),
        ):
            print(json.dumps([told["model_parameters"], runner.classify(features)]))
    finally:
        runner.stop()
"""
)

VIDEO = (
    _START
    + """
with ImageImpulseRunner(sys.argv[1]) as runner:
    try:
        runner.init()
        for (answer, cropped), _ in zip(runner.classifier(sys.argv[2]), range(3)):
            print(json.dumps([list(cropped.shape), answer]))
    finally:
        runner.stop()
"""
)


def ran(script: str, *arguments: Path) -> list[list[Any]]:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def ours(eim: Path, picture: Path) -> Mapping[str, float]:
    with start_impulse(eim, start_deadline_s=60, reply_deadline_s=60) as impulse:
        return impulse.classify(prepare(read_picture(picture), INPUT)).scores


def test_a_picture_gets_the_answer_that_our_runner_gets(tiny_eim: Path, tmp_path: Path) -> None:
    picture = tmp_path / "worker.png"
    Image.fromarray(np.random.default_rng(5).integers(0, 256, (96, 128, 3), np.uint8)).save(picture)
    (parameters, studio), (_, deprecated) = ran(PICTURE, tiny_eim, picture)
    assert tuple(parameters["labels"]) == LABELS
    expected = ours(tiny_eim, picture)
    assert studio["result"]["classification"] == pytest.approx(expected, abs=0.02)
    assert deprecated["result"]["classification"].keys() == expected.keys()
    assert {"dsp", "classification", "anomaly"} <= studio["timing"].keys()


def test_its_classifier_of_videos_runs(tiny_eim: Path, tmp_path: Path) -> None:
    import cv2

    video = tmp_path / "gate.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for level in (20, 120, 220, 120):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    answers = ran(VIDEO, tiny_eim, video)
    assert len(answers) == 3
    for shape, answer in answers:
        assert shape == [32, 32, 3]
        scores = answer["result"]["classification"]
        assert tuple(scores) == LABELS
        assert sum(scores.values()) == pytest.approx(1, abs=1e-4)
