"""What the decisions benchmark looks at: stills of people and of places without any, made live.

A still becomes seconds of film with sensor noise, slowly drifting light and a mount that shakes by a pixel. Nobody
walks, nothing moves: that is what a still can give, and every figure made with it must say so.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from appliance.errors import DatasetError, PictureError
from appliance.frame import Frame, Pixels
from appliance.vision import InputSpec, prepare, read_picture
from datasets.cast import Cast
from datasets.emoji import EmojiFont
from datasets.folders import read_folders
from datasets.likeness import content_hash, likeness, scenes, stacked
from datasets.samples import HALL, YARD, SampleCounts, make_frame, make_site
from datasets.scenery import Style

Kind = Literal["head", "hardhat", "site", "unrelated"]

SIDE = 240  # pixels of a film's frames: half as much again as the model takes
_MARGIN = 8
_FEWEST = 10  # scenes of people: they are divided by five, and each fifth needs something in it
_NOISE = 6.0  # standard deviation, steps of 255
_DRIFT = 0.12  # light swings by so much
_START = datetime(2026, 1, 1, tzinfo=UTC)
_HOURS = {"train": 1.0, "test": 0.8, "film": 1.2}  # the light at three different hours

# A third place that no camera of the sample site has: sodium lamps at night, over concrete and water.
_QUAY = Style(
    palette=((30, 34, 48), (70, 58, 40), (20, 50, 70), (110, 96, 70), (52, 52, 56), (140, 60, 30)),
    brightness=(0.7, 1.2),
    tint=(1.1, 0.98, 0.82),
    blur_px=(0.3, 1.6),
    noise=(4.0, 11.0),
)


@dataclass(frozen=True, eq=False)
class Still:
    """A picture to learn from, to test on, or to make a film of.

    Attributes:
        name: Unique; seeds everything left to chance.
        kind: ``site``: a place that was taught empty; ``unrelated``: one that never was.
        scene: Near-identical pictures share one.
        pixels: uint8 [height, width, 3], RGB.
    """

    name: str
    kind: Kind
    scene: str
    pixels: Pixels


@dataclass(frozen=True)
class Material:
    """All stills of one run.

    Attributes:
        people: ``head`` and ``hardhat``.
        site: Places that are taught as nobody.
        unrelated: Places that are not.
        origin: Where they come from, for people.
    """

    people: tuple[Still, ...]
    site: tuple[Still, ...]
    unrelated: tuple[Still, ...]
    origin: str


def gather(
    data: Path | None, empty: Path | None, font: Path | None, cache: Path, *, places: int = 48, most: int = 0
) -> Material:
    """Read or draw the stills.

    Args:
        data: Labelled pictures of people, class folders ``head`` and ``hardhat``; None: the drawn sample frames.
        empty: Pictures without people; every other one is taught as a place of the site. None: drawn places.
        font: For drawing.
        cache: Where drawn sample frames are kept.
        places: How many places to draw, half of them taught.
        most: At most so many stills of each kind, the first ones; 0: all.

    Raises:
        DatasetError: The folders don't fit, or there is no font to draw with.
    """
    if font is None and (data is None or empty is None):
        raise DatasetError(
            "There is no emoji font to draw sample frames with",
            do="Run ./install.sh demo once, or give --data and --empty",
        )
    if data is None and font is not None:
        data = cache / "benchmark-site"
        make_site(font, data, seed=7, per_class=SampleCounts(train=40, test=15, server=10, evaluate=0))
        people, origin = _people(data), "people drawn (datasets/samples.py)"
    else:
        people, origin = _people(data or Path()), f"people from {(data or Path()).name}"
    if empty is not None:
        stills = _photos(empty)
        origin += f", {len(stills)} places from {empty.name}"
    else:
        stills = drawn_places(font or Path(), places)
        origin += f", {len(stills)} places drawn"
    taught = {scene for number, scene in enumerate(dict.fromkeys(still.scene for still in stills)) if number % 2 == 0}
    site = tuple(_as(still, "site") for still in stills if still.scene in taught)
    unrelated = tuple(still for still in stills if still.scene not in taught)
    if most:
        people = tuple(still for kind in ("head", "hardhat") for still in [p for p in people if p.kind == kind][:most])
        site, unrelated = site[:most], unrelated[:most]
    if len({still.scene for still in people}) < _FEWEST:
        raise DatasetError(f"The pictures of people show fewer than {_FEWEST} scenes", do="Give more with --data")
    return Material(people, site, unrelated, origin)


def taught(still: Still, hour: Literal["train", "test"], count: int) -> list[Pixels]:
    """A still as this camera captured it to be labelled: a place in the light of one hour, ``count`` frames."""
    light = _HOURS[hour] if still.kind == "site" else 1.0
    return [frame.pixels for frame in live(still, count, fps=0.2, light=light, salt=hour)]


def film(still: Still, frames: int, fps: float) -> Iterator[Frame]:
    """A still as a camera would see it for some time; a place is seen at another hour than it was taught at."""
    return live(still, frames, fps, light=_HOURS["film"] if still.kind == "site" else 1.0, salt="film")


def live(still: Still, frames: int, fps: float, *, light: float, salt: str) -> Iterator[Frame]:
    """Frames of a still, uint8 [SIDE, SIDE, 3]: noise, drifting light, a shake of one pixel.

    Args:
        still: What stands before the camera.
        frames: How many.
        fps: Their rate.
        light: Factor on all of it.
        salt: Another one, other noise, drift and shake.
    """
    rng = np.random.default_rng([zlib.crc32(still.name.encode()), zlib.crc32(salt.encode())])
    side = SIDE + 2 * _MARGIN
    base = prepare(still.pixels, InputSpec(side, side, "fit-shortest")).astype(np.float32) * np.float32(light)
    grain = rng.standard_normal((2 * SIDE, 2 * SIDE, 3)).astype(np.float32) * np.float32(_NOISE)
    period_s, phase = rng.uniform(20, 60), rng.uniform(0, 2 * np.pi)
    place = np.array([_MARGIN, _MARGIN])
    for number in range(frames):
        seconds = number / fps
        swing = 1 + _DRIFT * np.sin(2 * np.pi * seconds / period_s + phase) + rng.normal(0, 0.01)
        place = np.clip(place + rng.integers(-1, 2, 2), _MARGIN - 1, _MARGIN + 1)
        top, left = place
        y, x = rng.integers(0, SIDE, 2)
        picture = base[top : top + SIDE, left : left + SIDE] * np.float32(swing) + grain[y : y + SIDE, x : x + SIDE]
        yield Frame(np.clip(picture, 0, 255).astype(np.uint8), _START + timedelta(seconds=seconds), number)


def folds(stills: Sequence[Still], count: int) -> dict[str, int]:
    """A fold for each still by name; one scene, one fold, the same at every run."""
    order = sorted({still.scene for still in stills}, key=lambda scene: zlib.crc32(scene.encode()))
    place = {scene: number % count for number, scene in enumerate(order)}
    return {still.name: place[still.scene] for still in stills}


def _people(data: Path) -> tuple[Still, ...]:
    found: dict[str, tuple[Kind, str, Pixels]] = {}
    for file in read_folders(data):
        if file.label in ("head", "hardhat"):
            pixels = read_picture(file.path)
            kind: Kind = "head" if file.label == "head" else "hardhat"
            found.setdefault(content_hash(pixels), (kind, str(file.path.relative_to(data)), _small(pixels)))
    if {kind for kind, _, _ in found.values()} != {"head", "hardhat"}:
        raise DatasetError(f"{data} needs pictures of both head and hardhat", do="Name another folder with --data")
    hashes = stacked([likeness(pixels) for _, _, pixels in found.values()])
    groups = scenes(hashes).tolist()
    return tuple(
        Still(name, kind, f"people-{group}", pixels)
        for (kind, name, pixels), group in zip(found.values(), groups, strict=True)
    )


def _photos(folder: Path) -> list[Still]:
    """Pictures of places; those in one inner folder are one place."""
    found: list[tuple[Path, Pixels]] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            found.append((path.relative_to(folder), _small(read_picture(path))))
        except PictureError:
            continue  # a folder of pictures may hold a licence text beside them
    if len(found) < 4:
        raise DatasetError(f"{folder} holds {len(found)} pictures", do="Name a folder with four or more")
    groups = scenes(stacked([likeness(pixels) for _, pixels in found])).tolist()
    return [
        Still(f"empty/{name}", "unrelated", str(group) if name.parent == Path() else str(name.parent), pixels)
        for (name, pixels), group in zip(found, groups, strict=True)
    ]


def drawn_places(font: Path, count: int) -> list[Still]:
    """Places without people, drawn; of each second pair one is of a kind that no sample camera has."""
    cast = Cast(EmojiFont(font))
    stills = []
    for number in range(count):
        # Taught places are of the two sample sites; of the others every second is of a kind that no camera has seen.
        style = (YARD, HALL)[number // 2 % 2] if number % 4 != 3 else _QUAY
        pixels = make_frame(cast, style, "nobody", np.random.default_rng([77, number]))
        stills.append(Still(f"drawn/{number}", "unrelated", f"place-{number}", pixels))
    return stills


def _as(still: Still, kind: Kind) -> Still:
    return Still(still.name, kind, still.scene, still.pixels)


def _small(pixels: Pixels) -> Pixels:
    """No larger than films need: hundreds of stills are in memory at once."""
    image = Image.fromarray(pixels)
    image.thumbnail((640, 640))
    return np.asarray(image)
