"""Asks a freshly started .eim what it must know, before it comes anywhere near a live frame."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from appliance.eim.runner import Impulse
from appliance.errors import SwapError
from appliance.frame import Pixels
from appliance.models.manifest import Manifest
from appliance.vision import InputSpec

QUESTIONS = 12


def probe(impulse: Impulse, manifest: Manifest, *, longest_ms: float) -> None:
    """Compare what it says of itself with its manifest, then ask it about golden pictures.

    Args:
        impulse: Started, not in the loop.
        manifest: Of the version that it should be.
        longest_ms: Its quickest answer may take so long: the quickest, because a busy machine slows some answers
            down, but a slow model all of them.

    Raises:
        SwapError: It is not that version, or too slow.
        ImpulseError: It doesn't answer, or with scores that are none.
    """
    info = impulse.info
    # What Edge Impulse built names the modes in its own way, and is given pictures that are resized already.
    same = manifest.built_for(platform.machine()) is not None
    spec = replace(info.input, resize_mode=manifest.input.resize_mode) if same else info.input
    told = _claims(info.version, info.labels, spec)
    wanted = _claims(manifest.version, manifest.labels, manifest.input)
    if told != wanted:
        raise SwapError(f"The .eim says it is {told}", means=f"The manifest says {wanted}; the old one runs")
    times_ms = [impulse.classify(picture).elapsed_ms for picture in _golden_pictures(manifest)]
    if min(times_ms) > longest_ms:
        raise SwapError(
            f"Version {manifest.version} needs {min(times_ms):.0f} ms for a picture, more than {longest_ms:.0f} ms",
            means="It would slow the camera down; the old one runs",
        )


def _claims(version: int, labels: Sequence[str], spec: InputSpec) -> str:
    return f"version {version} with labels {', '.join(labels)}, {spec.resize_mode} to {spec.width} x {spec.height}"


def _golden_pictures(manifest: Manifest) -> Iterator[Pixels]:
    shape = (manifest.input.height, manifest.input.width, 3)
    yield np.zeros(shape, np.uint8)
    yield np.full(shape, 255, np.uint8)
    generator = np.random.default_rng(0)
    for _ in range(QUESTIONS - 2):
        yield generator.integers(0, 256, shape, dtype=np.uint8)
