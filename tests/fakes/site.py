"""A small site on disk: training graphs, pictures that the tiny backbone tells apart, a server made of tiny parts."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from appliance.errors import ModelError
from appliance.frame import Pixels
from appliance.models.manifest import Manifest
from appliance.vision import encode_jpeg
from server import fleet_init
from server.backbone import Backbone
from server.config import ServerSettings
from server.convert import convert
from tests.fakes import parts

_PROJECT = Path(__file__).resolve().parents[2]
_CACHE = _PROJECT / ".sitecam" / "cache" / "tests"
_COLOURS: Mapping[str, tuple[int, int, int]] = {
    "head": (190, 110, 90),
    "hardhat": (210, 190, 60),
    "nobody": (70, 100, 130),
}
PICTURE_SIDE = 48  # pixels


def tiny_trainer(labels: int = len(parts.LABELS), hidden: int = 0) -> bytes:
    """The real training graph for the tiny backbone's features, authored once a machine, then cached.

    Skips the test where it would have to be authored now and TensorFlow isn't installed.
    """
    source = hashlib.sha256((_PROJECT / "trainer" / "graphs.py").read_bytes()).hexdigest()[:16]
    cached = _CACHE / f"tiny-trainer-{source}-{parts.FEATURES}-{labels}-{hidden}.tflite"
    if not cached.exists():
        try:
            graph = convert("trainer", str(parts.FEATURES), str(labels), str(hidden))
        except ModelError as error:
            if "No module named 'keras'" in str(error) or "No module named 'tensorflow'" in str(error):
                pytest.skip("this training graph isn't cached and TensorFlow, which authors it, isn't installed")
            raise
        _CACHE.mkdir(parents=True, exist_ok=True)
        fresh = cached.with_suffix(f".{secrets.token_hex(4)}")
        fresh.write_bytes(graph)
        fresh.replace(cached)
    return cached.read_bytes()


def picture(label: str, *, seed: int) -> Pixels:
    """A patchwork in its label's colour, uint8 [48, 48, 3]; another seed is another scene."""
    patches = np.random.default_rng([seed, *label.encode()]).integers(-50, 50, (12, 12, 1))
    texture = patches.repeat(PICTURE_SIDE // 12, axis=0).repeat(PICTURE_SIDE // 12, axis=1)
    return np.clip(np.array(_COLOURS[label]) + texture, 0, 255).astype(np.uint8)


def jpeg(label: str, *, seed: int) -> bytes:
    """That picture as a file's content."""
    return encode_jpeg(picture(label, seed=seed), quality=95)


def draw_folders(root: Path, *, labels: tuple[str, ...], seed: int, train: int, test: int) -> Path:
    """Class folders of such pictures, ``train`` and ``test`` of each label; 0 leaves that split out."""
    for split, count, first in (("train", train, 0), ("test", test, 1000)):
        for label in labels if count else ():
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                name = f"{number:03}.jpg"
                (folder / name).write_bytes(jpeg(label, seed=seed * 10_000 + first + number))
    return root


@contextmanager
def tiny_graphs(backbone: bytes) -> Iterator[None]:
    """While this lasts, server.fleet_init makes fleets of the tiny backbone and its training graph."""

    def resolve(*_: object) -> Backbone:
        return Backbone(backbone, "tests")

    def trainer_part(feature_count: int, label_count: int, hidden_units: int, cache: Path) -> bytes:
        assert feature_count == parts.FEATURES
        assert cache.name
        return tiny_trainer(label_count, hidden_units)

    with patch.multiple(
        fleet_init, SIZE=parts.SIDE, FEATURE_COUNT=parts.FEATURES, resolve=resolve, trainer_part=trainer_part
    ):
        yield


def make_tiny_fleet(settings: ServerSettings, backbone: bytes) -> Manifest:
    """A whole fleet as ``sitecam-server init`` makes it, with tiny parts."""
    with tiny_graphs(backbone):
        return fleet_init.make_fleet(settings, say=lambda _: None)


def write_server_settings(path: Path, *, noise_multiplier: float = 0.0, **night: float | str) -> Path:
    """A sitecam-server.toml with its state beside it; ``night`` goes into [night]."""
    lines = ['state_dir = "server"', "[privacy]", f"noise_multiplier = {noise_multiplier}"]
    lines += ["[fleet]", 'name = "tiny site"', 'labels = ["head", "hardhat", "nobody"]']
    lines += ["[night]", *(f"{key} = {json.dumps(value)}" for key, value in night.items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
