"""Writes .eim files in the shapes that Edge Impulse has built over the years, and runs as them.

A file execs this module, which speaks the protocol over its socket: what it says of itself is its shape's, its scores
are shares of colour, so that a test knows the right answer. Only the standard library, so that it starts quickly.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.fakes import eim_program

_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Shape:
    """How a file was built.

    Attributes:
        labels: Its own: the first one's score is the share of red, then green, blue, and 0.
        width: Pixels.
        height: Pixels.
        channels: 3, or 1 for grey: then the first label's score is the brightness, the second's the rest.
        mode: ``image_resize_mode``; empty where it doesn't name one, as before 2024.
        shared_memory: As offered since August 2025.
        int8: Scores come in steps of 1/256, as a quantised softmax gives them.
        kind: ``model_type``.
        frames: ``image_input_frames``.
        result: What stands in its answers: ``classification`` or something else.
        fault: See :mod:`tests.fakes.eim_program`.
    """

    labels: tuple[str, ...] = ("hardhat", "head", "nobody")
    width: int = 96
    height: int = 96
    channels: int = 3
    mode: str = ""
    shared_memory: bool = False
    int8: bool = False
    kind: str = "classification"
    frames: int = 1
    result: str = "classification"
    fault: str = "none"


SHAPES = {
    "2022": Shape(),
    "2022-grey-int8": Shape(channels=1, int8=True, labels=("hardhat", "head")),
    "2023-more-labels": Shape(labels=("Hard_Hat", "Head", "nobody", "background", "vest"), width=160, height=160),
    "2024-fit-shortest": Shape(mode="fit-shortest", width=160, height=120),
    "2025-fit-longest": Shape(mode="fit-longest", width=320, height=320, shared_memory=True, int8=True),
    "2026-squash-grey": Shape(mode="squash", channels=1, shared_memory=True, labels=("head", "hardhat")),
    "2026-not-reported": Shape(mode="not-reported", shared_memory=True),
}
# What must be refused, and the words by which the sentence names it.
REFUSED = {
    "objects": (Shape(kind="object_detection"), "object detection"),
    "fomo": (Shape(kind="constrained_object_detection"), "constrained object detection"),
    "objects-unsaid": (Shape(result="bounding_boxes"), "answered with bounding_boxes"),
    "anomaly": (Shape(labels=()), "anomaly detection"),
    "sound": (Shape(width=0, height=0), "sound or sensor readings"),
    "several-frames": (Shape(frames=4), "4 frames"),
}
# And what must be found out.
BROKEN = {
    "dies-at-once": Shape(fault="exits-at-once"),
    "hangs-up": Shape(fault="exits-mid-reply"),
    "no-scores": Shape(result="freeform"),
    "not-a-number": Shape(fault="score-not-a-number"),
    "half-the-memory": Shape(shared_memory=True, fault="memory-too-small"),
    "unknown-mode": Shape(mode="fit-diagonal"),
}


def write_foreign(path: Path, shape: Shape) -> Path:
    """Write an executable of that shape; return its path."""
    code = f"import sys; sys.path.insert(0, {str(_PROJECT)!r}); from tests.fakes.foreign_eim import main; main()"
    command = [sys.executable, "-I", "-S", "-c", code, json.dumps(asdict(shape))]
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o755)
    return path


class _Foreign(eim_program.Program):
    """One run."""

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__("foreign", body["fault"], "foreign")
        self.body = body
        self.labels = body["labels"]
        self.pixels = body["width"] * body["height"]

    def hello(self) -> dict[str, Any]:
        body = self.body
        model: dict[str, Any] = {
            "axis_count": 1,
            "frequency": 0,
            "has_anomaly": 0 if self.labels else 1,
            "image_channel_count": body["channels"],
            "image_input_frames": body["frames"],
            "image_input_height": body["height"],
            "image_input_width": body["width"],
            "input_features_count": self.pixels,
            "interval_ms": 1,
            "label_count": len(self.labels),
            "labels": self.labels,
            "model_type": body["kind"],
            "sensor": 3 if self.pixels else 1,
            "slice_size": self.pixels // 4,
            "use_continuous_mode": False,
        }
        project = {"id": 9, "owner": "somebody", "name": "helmets", "deploy_version": 3}
        reply: dict[str, Any] = {"project": project, "model_parameters": model}
        if body["mode"]:
            model |= {"image_resize_mode": body["mode"], "thresholds": [], "inferencing_engine": 4}
            reply |= {"inferencing_engine": {"engine_type": 4, "properties": []}}
        return reply | ({"features_shm": self.share()} if body["shared_memory"] else {})

    def classify(self, numbers: Sequence[float]) -> dict[str, Any]:
        reply = super().classify(numbers)
        scores = reply["result"].pop("classification")
        if self.body["int8"]:
            scores = {label: round(score * 256) / 256 for label, score in scores.items()}
        found: object = scores if self.body["result"] == "classification" else []
        reply["result"][self.body["result"]] = found
        return reply

    def colours(self, numbers: Sequence[float]) -> dict[str, Any]:
        pixels = [int(number) for number in numbers]
        colours = [sum(pixel >> shift & 255 for pixel in pixels) for shift in (16, 8, 0)]
        if self.body["channels"] == 1:
            if len(set(colours)) > 1:
                raise ValueError("This was not a grey picture")
            bright = colours[0] / (255 * self.pixels)
            shares = [bright, 1 - bright]
        else:
            shares = [colour / (sum(colours) or 1) for colour in colours]
        return dict.fromkeys(self.labels, 0.0) | dict(zip(self.labels, shares, strict=False))


def main() -> None:
    """Be the program: SHAPE SOCKET."""
    body, path = json.loads(sys.argv[1]), sys.argv[2]
    if body["fault"] == "exits-at-once":
        sys.exit("cannot load the model: out of luck")
    program = _Foreign(body)

    def end(number: int, _frame: object) -> None:
        program.tidy()
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        eim_program.serve(program, path)
    finally:
        program.tidy()
