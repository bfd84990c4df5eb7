"""Small real parts: a backbone, heads, a manifest and an .eim that cost milliseconds, not seconds."""

from __future__ import annotations

import dataclasses
import secrets
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from appliance.eim.pack import pack
from appliance.models.head import Head
from appliance.models.manifest import Manifest, Part
from appliance.vision import InputSpec

SIDE = 32
FEATURES = 8
LABELS = ("head", "hardhat", "nobody")
INPUT = InputSpec(SIDE, SIDE, "fit-shortest")

_PROJECT = Path(__file__).resolve().parents[2]
_CACHED = _PROJECT / ".sitecam" / "cache" / "tests" / "tiny-backbone-1.tflite"  # count up when _author changes


class NoTensorFlowError(Exception):
    """The tiny backbone isn't cached yet and there is no TensorFlow to make it."""


def tiny_backbone() -> bytes:
    """A float32 .tflite: RGB [1, 32, 32, 3], 0 to 255, to 8 features. Authored once a machine, then cached.

    Raises:
        NoTensorFlowError: It would have to be authored now, and TensorFlow isn't installed.
    """
    if not _CACHED.exists():
        _CACHED.parent.mkdir(parents=True, exist_ok=True)
        # A process of its own: TensorFlow takes seconds and half a gigabyte, which no test should carry on.
        code = f"import sys; from {__name__} import _author; _author(sys.argv[1])"
        fresh = _CACHED.with_suffix(f".{secrets.token_hex(4)}")
        made = subprocess.run(
            [sys.executable, "-c", code, fresh], cwd=_PROJECT, capture_output=True, text=True, check=False
        )
        if "No module named 'tensorflow'" in made.stderr:
            raise NoTensorFlowError
        if made.returncode:
            raise RuntimeError(made.stderr)
        fresh.replace(_CACHED)
    return _CACHED.read_bytes()


def _author(out: str) -> None:
    import tensorflow as tf

    tf.keras.utils.set_random_seed(7)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            tf.keras.Input((SIDE, SIDE, 3), batch_size=1),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(FEATURES, 5, strides=2, activation="relu"),
            layers.GlobalAveragePooling2D(),
        ]
    )
    # from_keras_model: from_concrete_functions drops a Keras 3 model's weights without a word.
    Path(out).write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())


def tiny_head(*, hidden_units: int = 0, seed: int = 1, labels: int = len(LABELS)) -> Head:
    """A head that nobody trained, but with an opinion: different pictures get clearly different scores."""
    arrays = Head.untrained(FEATURES, labels, hidden_units, seed=seed).arrays
    return Head.from_arrays([np.asarray(array * 6, np.float32) for array in arrays])


def tiny_manifest(backbone: bytes, head: bytes, *, version: int = 1, hidden_units: int = 0) -> Manifest:
    """The manifest of these parts."""
    return Manifest(
        fleet="test fleet",
        version=version,
        parent=version - 1 or None,
        labels=LABELS,
        input=INPUT,
        hidden_units=hidden_units,
        feature_count=FEATURES,
        parts={
            "backbone": Part.of(backbone),
            "head": Part.of(head),
            "trainer": Part.of(b"no test of the .eim needs one"),
        },
        metrics={},
        night=None,
        created_utc=datetime(2026, 1, 1, tzinfo=UTC),
    )


def tiny_eim(out: Path, backbone: bytes, *, version: int = 1, head: Head | None = None) -> Path:
    """Pack a whole small .eim into ``out``."""
    part = (head or tiny_head()).to_bytes()
    hidden_units = head.hidden_units if head else 0
    pack(tiny_manifest(backbone, part, version=version, hidden_units=hidden_units), backbone, part, out)
    return out


def relabelled(manifest: Manifest, *labels: str) -> Manifest:
    """The same manifest with other labels."""
    return dataclasses.replace(manifest, labels=labels)
