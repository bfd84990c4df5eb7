"""Pictures drawn for tests: every seed another scene, and what makes near-twins of one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from appliance.frame import Pixels


def scene(seed: int, *, width: int = 96, height: int = 72) -> Pixels:
    """Soft random blotches, uint8 [height, width, 3]; two seeds are never near-identical."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def a_second_later(pixels: Pixels) -> Pixels:
    """The same scene, a little darker and with something small in a corner."""
    later = (pixels * 0.95).astype(np.uint8)
    later[: later.shape[0] // 10, : later.shape[1] // 10] = 255
    return later


def encoded(pixels: Pixels, form: str = "JPEG", **options: object) -> bytes:
    """The picture as a file of that form, as Pillow names it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Path:
    """A file with these bytes, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def class_folders(root: Path, *, seeds: dict[str, range]) -> Path:
    """One JPEG per seed in each folder, which may be several folders deep: ``{"train/head": range(3)}``."""
    for folder, of_folder in seeds.items():
        for seed in of_folder:
            write(root / folder / f"{seed}.jpg", encoded(scene(seed)))
    return root
