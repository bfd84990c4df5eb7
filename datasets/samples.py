"""Makes a site's worth of sample frames with known labels, so that a fresh machine has something to learn from.

They are for the demo and the tests; nothing learned from them says anything about real people in real hats.
Three labels: ``hardhat`` (workers), ``head`` (bare-headed people) and ``nobody`` (the same places, without people).
A frame depends on the font, the seed and its own name only, so two runs write the same bytes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from appliance.errors import DatasetError
from appliance.files import sync_folder, write_atomically
from appliance.frame import Pixels
from appliance.vision import encode_jpeg
from datasets.cast import Cast
from datasets.emoji import EmojiFont
from datasets.scenery import HEIGHT, WIDTH, Style, backdrop, photographed, put, turned

LABELS = ("hardhat", "head", "nobody")
STAMP = "sample-site.json"
GENERATOR = 2  # raise it whenever the pictures change: old folders are then made anew

# Two sites: dusty daylight in the open, and a dim hall under cold lamps.
YARD = Style(
    palette=((214, 190, 150), (160, 196, 226), (150, 120, 90), (190, 80, 50), (232, 226, 208), (120, 140, 80)),
    brightness=(0.8, 1.15),
    tint=(1.06, 1.0, 0.9),
    blur_px=(0.0, 1.4),
    noise=(1.0, 6.0),
)
HALL = Style(
    palette=((96, 104, 112), (60, 66, 78), (140, 148, 150), (48, 84, 96), (176, 150, 60), (120, 60, 60)),
    brightness=(0.65, 1.05),
    tint=(0.92, 1.0, 1.08),
    blur_px=(0.4, 1.8),
    noise=(3.0, 10.0),
)


@dataclass(frozen=True)
class SampleCounts:
    """Frames per label: to train and to test on for each camera, on the server, and for the final evaluation."""

    train: int = 40
    test: int = 15
    server: int = 25
    evaluate: int = 20


DEFAULT_COUNTS = SampleCounts()


def make_frame(cast: Cast, style: Style, label: str, rng: np.random.Generator) -> Pixels:
    """Draw one frame.

    Args:
        cast: Who and what can appear.
        style: The site's looks.
        label: One of LABELS.
        rng: Everything left to chance.

    Returns:
        uint8 [480, 640, 3], RGB; people stand wholly inside the centred square, which is what a model sees.
    """
    image = backdrop(rng, style)
    for _ in range(rng.integers(1, 5)):
        _put_thing(image, cast, rng, low=0)
    if label != "nobody":
        draw = cast.worker if label == "hardhat" else cast.bare_headed
        for _ in range(1 if rng.random() < 0.8 else 2):
            _put_person(image, draw(rng), rng)
    if rng.random() < 0.35:
        _put_thing(image, cast, rng, low=HEIGHT * 0.75)  # in front, low down: it may hide a chest, hardly a hat
    return photographed(rng, style, image)


def make_site(font: Path, root: Path, *, seed: int = 1, per_class: SampleCounts = DEFAULT_COUNTS) -> None:
    """Write two cameras' frames, the server's and the evaluation's, in the tutorial's layout.

    ``root`` gets dataset_client1 and dataset_client2 (train and test), dataset_server (test) and evaluate, each
    with one folder per label. It appears whole or not at all; where the same site stands already, nothing is done.

    Args:
        font: A colour emoji font; see :class:`~datasets.emoji.EmojiFont`.
        root: The folder to make. An older or other sample site there is replaced.
        seed: Another seed draws other frames.
        per_class: How many.

    Raises:
        ConfigError: The font can't be used.
        DatasetError: ``root`` holds something that this did not make.
    """
    emoji = EmojiFont(font)
    stamp = json.dumps(
        {"generator": GENERATOR, "font": emoji.sha256, "seed": seed, "per_class": asdict(per_class)}, indent=1
    ).encode()
    if root.is_dir() and any(root.iterdir()):
        if not (root / STAMP).is_file():
            raise DatasetError(
                f"{root} is not empty and holds no sample frames",
                means="Making sample frames there would delete what is in it",
                do="Name another folder",
            )
        if (root / STAMP).read_bytes() == stamp:
            return
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.", suffix=".tmp", dir=root.parent) as temporary:
        made = Path(temporary) / "site"
        _draw_site(made, Cast(emoji), seed, per_class)
        write_atomically(made / STAMP, stamp)
        if root.exists():
            shutil.rmtree(root)
        made.rename(root)
    sync_folder(root.parent)


def _draw_site(root: Path, cast: Cast, seed: int, counts: SampleCounts) -> None:
    parts: tuple[tuple[str, tuple[Style, ...], int], ...] = (
        ("dataset_client1/train", (YARD,), counts.train),
        ("dataset_client1/test", (YARD,), counts.test),
        ("dataset_client2/train", (HALL,), counts.train),
        ("dataset_client2/test", (HALL,), counts.test),
        ("dataset_server/test", (YARD, HALL), counts.server),
        ("evaluate", (YARD, HALL), counts.evaluate),
    )
    for part, styles, count in parts:
        for label in LABELS:
            folder = root / part / label
            folder.mkdir(parents=True)
            for index in range(count):
                name = f"{part}/{label}/{index:04d}.jpg"
                rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
                pixels = make_frame(cast, styles[index % len(styles)], label, rng)
                (root / name).write_bytes(encode_jpeg(pixels, quality=int(rng.integers(70, 93))))


def _put_person(image: Image.Image, person: Image.Image, rng: np.random.Generator) -> None:
    if rng.random() < 0.5:
        person = person.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    sprite = turned(
        person,
        height_px=float(rng.uniform(1.9, 3.2)) * person.height,  # a head alone is as large as one on shoulders
        stretch=float(rng.uniform(0.85, 1.15)),
        degrees=float(rng.uniform(-10, 10)),
    )
    slack_x, slack_y = (max(0, HEIGHT - length) / 2 for length in sprite.size)  # inside the centred square
    put(
        image,
        sprite,
        WIDTH / 2 + float(rng.uniform(-slack_x, slack_x)),
        HEIGHT / 2 + float(rng.uniform(-slack_y, slack_y)),
    )


def _put_thing(image: Image.Image, cast: Cast, rng: np.random.Generator, *, low: float) -> None:
    sprite = turned(
        cast.thing(rng),
        height_px=float(rng.uniform(40, 140)),
        stretch=float(rng.uniform(0.8, 1.25)),
        degrees=float(rng.uniform(-25, 25)),
    )
    centre_y = rng.uniform(low, HEIGHT) + (sprite.height / 2 if low else 0)
    put(image, sprite, float(rng.uniform(0, WIDTH)), float(centre_y))
