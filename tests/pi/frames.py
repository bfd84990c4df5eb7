"""What the virtual cameras see: the project's own drawn sample frames, with their labels known to the tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from appliance.errors import ConfigError
from appliance.vision import encode_jpeg
from datasets.cast import Cast
from datasets.emoji import EmojiFont, find_font
from datasets.samples import HALL, LABELS, YARD, make_frame


def draw_frames(folder: Path, *, seed: int, per_label: int) -> None:
    """Write JPEG files named ``003-head.jpg``, all labels by turns.

    Args:
        folder: Made here.
        seed: Even ones look at a yard, odd ones at a hall.
        per_label: How many of each.

    Raises:
        ConfigError: There is no emoji font.
    """
    font = find_font()
    if font is None:
        raise ConfigError(
            "No colour emoji font was found",
            means="The frames can't be drawn",
            do="Install fonts-noto-color-emoji, or run ./install.sh test once",
        )
    cast, rng = Cast(EmojiFont(font)), np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(per_label):
        for place, label in enumerate(LABELS):
            pixels = make_frame(cast, HALL if seed % 2 else YARD, label, rng)
            name = f"{number * len(LABELS) + place:03d}-{label}.jpg"
            (folder / name).write_bytes(encode_jpeg(pixels))
