"""Draws what stands around the people in a sample frame: walls, poles, clutter, light, blur and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from appliance.frame import Pixels

Colour = tuple[int, int, int]
Range = tuple[float, float]

WIDTH, HEIGHT = 640, 480

_LIT_SIDE = 1.2  # the light map only darkens, so the scene starts this much brighter
_GRAIN_PER_SIGMA = 30


@dataclass(frozen=True)
class Style:
    """How a site looks through its camera.

    Attributes:
        palette: Colours of its walls, grounds and clutter.
        brightness: Factor on all three channels, lowest and highest.
        tint: Factor per channel, red, green, blue.
        blur_px: Radius of the lens's and motion's blur, smallest and largest.
        noise: Standard deviation of the sensor's noise, in steps of 255.
    """

    palette: tuple[Colour, ...]
    brightness: Range
    tint: tuple[float, float, float]
    blur_px: Range
    noise: Range


def backdrop(rng: np.random.Generator, style: Style) -> Image.Image:
    """An empty place: an uneven wall or sky, a ground, structures and clutter, 640 x 480 RGB."""
    image = _uneven(rng, style)
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.5:
        horizon = int(rng.uniform(0.55, 0.9) * HEIGHT)
        draw.rectangle((0, horizon, WIDTH, HEIGHT), fill=_shade(rng, style))
    structures = (_bricks, _scaffold, _panels, _planks)
    for index in rng.permutation(len(structures))[: rng.integers(0, 3)]:
        structures[index](rng, style, draw)
    for _ in range(rng.integers(2, 10)):
        _clutter(rng, style, draw)
    return image


def put(image: Image.Image, sprite: Image.Image, centre_x: float, centre_y: float) -> None:
    """Lay an RGBA picture over ``image``, its centre there."""
    corner = (round(centre_x - sprite.width / 2), round(centre_y - sprite.height / 2))
    image.paste(sprite, corner, sprite)


def turned(sprite: Image.Image, *, height_px: float, stretch: float, degrees: float) -> Image.Image:
    """A sprite scaled to a height, its width stretched by a factor, then rotated."""
    height = max(4, round(height_px))
    width = max(4, round(height * stretch * sprite.width / sprite.height))
    scaled = sprite.resize((width, height), Image.Resampling.BICUBIC)
    return scaled.rotate(degrees, Image.Resampling.BILINEAR, expand=True)


def photographed(rng: np.random.Generator, style: Style, image: Image.Image) -> Pixels:
    """The scene as the site's camera sees it: its blur, its tint, its light from one side and its noise.

    Returns:
        uint8 [480, 640, 3], RGB.
    """
    # Whole frames go through Pillow's byte arithmetic: float arrays of this size cost three times as much.
    image = image.filter(ImageFilter.BoxBlur(rng.uniform(*style.blur_px)))
    contrast, brightness = rng.uniform(0.7, 1.05), rng.uniform(*style.brightness)
    gains = brightness * np.array(style.tint) * rng.uniform(0.92, 1.08, 3)
    levels = ((np.arange(256) - 128) * contrast + 128) * gains[:, None] * _LIT_SIDE
    image = image.point(np.clip(levels, 0, 255).astype(int).ravel().tolist())
    corners = rng.uniform(0.6, 1, (2, 2)) * 255
    light = Image.fromarray(corners.astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    image = ImageChops.multiply(image, Image.merge("RGB", [light] * 3))
    grain = (np.arange(256) - 128) / _GRAIN_PER_SIGMA * rng.uniform(*style.noise) + 128
    left, top = (int(rng.integers(length)) for length in image.size)
    noise = _grain().crop((left, top, left + WIDTH, top + HEIGHT)).point(grain.round().astype(int).tolist())
    return np.asarray(ImageChops.add(image, Image.merge("RGB", [noise] * 3), offset=-128))


@cache
def _grain() -> Image.Image:
    """Sensor noise to cut pieces from, four frames large; 128 is none."""
    values = np.random.default_rng(0).standard_normal((2 * HEIGHT, 2 * WIDTH)) * _GRAIN_PER_SIGMA + 128
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def _pick(rng: np.random.Generator, colours: Sequence[Colour]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _shade(rng: np.random.Generator, style: Style) -> Colour:
    """A colour of the palette, lighter or darker and a little off."""
    base = np.array(_pick(rng, style.palette)) * rng.uniform(0.6, 1.3) + rng.normal(0, 12, 3)
    red, green, blue = np.clip(base, 0, 255).astype(int).tolist()
    return red, green, blue


def _uneven(rng: np.random.Generator, style: Style) -> Image.Image:
    """A gradient between two colours with large soft stains."""
    first, second = (np.array(_shade(rng, style), np.float32) for _ in range(2))
    rows, columns = np.mgrid[0:12, 0:16] / 12
    angle = rng.uniform(0, 2 * np.pi)
    share = np.cos(angle) * rows + np.sin(angle) * columns
    share = (share - share.min()) / (share.max() - share.min())
    coarse = first + share[..., None] * (second - first)
    coarse = coarse + rng.normal(0, rng.uniform(3, 22), (12, 16, 1)) + rng.normal(0, 5, (12, 16, 3))
    small = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8))
    return small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def _bricks(rng: np.random.Generator, style: Style, draw: ImageDraw.ImageDraw) -> None:
    colour, joint = _shade(rng, style), int(rng.integers(1, 4))
    row_px, brick_px = int(rng.integers(14, 44)), int(rng.integers(30, 110))
    top = int(rng.integers(-row_px, HEIGHT // 2))
    for row, y in enumerate(range(top, HEIGHT, row_px)):
        draw.line((0, y, WIDTH, y), fill=colour, width=joint)
        for x in range((row % 2) * brick_px // 2, WIDTH, brick_px):
            draw.line((x, y, x, y + row_px), fill=colour, width=joint)


def _scaffold(rng: np.random.Generator, style: Style, draw: ImageDraw.ImageDraw) -> None:
    colour, thick = _shade(rng, style), int(rng.integers(3, 12))
    bay, lift = int(rng.integers(90, 220)), int(rng.integers(80, 180))
    left, top = int(rng.integers(-bay, bay)), int(rng.integers(-lift, lift))
    for x in range(left, WIDTH + bay, bay):
        draw.line((x, 0, x, HEIGHT), fill=colour, width=thick)
        for y in range(top, HEIGHT + lift, lift):
            if rng.random() < 0.3:
                draw.line((x, y, x + bay, y + lift), fill=colour, width=max(2, thick // 2))
    for y in range(top, HEIGHT + lift, lift):
        draw.line((0, y, WIDTH, y), fill=colour, width=thick)


def _panels(rng: np.random.Generator, style: Style, draw: ImageDraw.ImageDraw) -> None:
    columns, rows = int(rng.integers(2, 7)), int(rng.integers(1, 5))
    colour, wide, high = _shade(rng, style), WIDTH // columns, HEIGHT // rows
    gap = rng.uniform(0.05, 0.3)
    for column in range(columns):
        for row in range(rows):
            if rng.random() < 0.7:
                x, y = column * wide, row * high
                draw.rectangle(
                    (x + gap * wide, y + gap * high, x + (1 - gap) * wide, y + (1 - gap) * high),
                    fill=colour,
                    outline=_shade(rng, style),
                    width=3,
                )


def _planks(rng: np.random.Generator, style: Style, draw: ImageDraw.ImageDraw) -> None:
    slope, y = rng.uniform(-0.25, 0.25), float(rng.uniform(-60, HEIGHT * 0.7))
    while y < HEIGHT + 80:
        thick = int(rng.integers(8, 46))
        draw.line((0, y, WIDTH, y + slope * WIDTH), fill=_shade(rng, style), width=thick)
        y += thick + rng.uniform(2, 90)


def _clutter(rng: np.random.Generator, style: Style, draw: ImageDraw.ImageDraw) -> None:
    x, y = rng.uniform(-40, WIDTH), rng.uniform(-40, HEIGHT)
    wide, high = rng.uniform(10, 170, 2)
    colour = _shade(rng, style)
    kind = rng.integers(4)
    if kind == 0:
        draw.ellipse((x, y, x + wide, y + high), fill=colour)
    elif kind == 1:
        draw.rectangle((x, y, x + wide, y + high), fill=colour)
    elif kind == 2:
        corners = rng.uniform(0, 1, (int(rng.integers(3, 6)), 2)) * (wide, high) + (x, y)
        draw.polygon([(float(a), float(b)) for a, b in corners], fill=colour)
    else:  # half a disc: the outline of a hat with nobody under it
        draw.pieslice((x, y, x + wide, y + high), 180, 360, fill=colour)
