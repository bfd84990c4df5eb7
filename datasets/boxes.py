"""Makes pictures of a classifier from pictures with bounding boxes: each box cut out, under the box's label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from appliance.vision import read_picture
from datasets.pictures import Dataset, LabelledPicture

_CUT_FROM = "cut_from"
_STEM = 50  # characters, at most four bytes each


def without_boxes(pictures: Sequence[LabelledPicture]) -> Dataset:
    """The same pictures, their boxes forgotten."""
    number = sum(bool(picture.boxes) for picture in pictures)
    notes = (f"the boxes of {number} pictures were left out, as asked",) if number else ()
    return Dataset(tuple(replace(picture, boxes=()) for picture in pictures), notes)


def cut_out(pictures: Sequence[LabelledPicture], folder: Path) -> Dataset:
    """Replace every picture that has boxes by one picture per box.

    A cutting is a PNG, so that no pixel changes; it keeps split, part and metadata, and says in ``cut_from`` which
    file it is from: cuttings of one picture should stay in one split. A box is cut to its picture, sides rounded to
    whole pixels; one that lies outside it is left out and named.

    Args:
        pictures: Those without boxes stay as they are.
        folder: Where the cuttings go; it must outlive what is returned.

    Raises:
        PictureError: A picture with boxes can't be read.
        OSError: The disk refused.
    """
    made: list[LabelledPicture] = []
    outside: list[str] = []
    for number, picture in enumerate(pictures):
        made += _cuttings(picture, folder / str(number), outside) if picture.boxes else [picture]
    boxed = sum(bool(picture.boxes) for picture in pictures)
    cut = len(made) - (len(pictures) - boxed)
    notes = [f"{cut} pictures were cut out of {boxed}"] if boxed else []
    if outside:
        notes.append(f"{len(outside)} boxes lie outside their picture and were left out: {outside[0]}, for one")
    return Dataset(tuple(made), tuple(notes))


def _cuttings(picture: LabelledPicture, folder: Path, outside: list[str]) -> Iterator[LabelledPicture]:
    folder.mkdir(parents=True)
    pixels = read_picture(picture.path)
    height, width = pixels.shape[:2]
    metadata = {_CUT_FROM: ascii(picture.path.name)[1:-1]} | dict(picture.metadata)
    for number, box in enumerate(picture.boxes, start=1):
        left, right = (round(min(max(0.0, side), width)) for side in (box.x, box.x + box.width))
        top, bottom = (round(min(max(0.0, side), height)) for side in (box.y, box.y + box.height))
        if right <= left or bottom <= top:
            outside.append(f"box {number} of {picture.path}")
            continue
        path = folder / f"{picture.path.stem[:_STEM]}.box{number}.png"
        Image.fromarray(pixels[top:bottom, left:right]).save(path, "PNG")
        yield replace(
            picture, path=path, label=box.label, name=None, boxes=(), metadata=tuple(sorted(metadata.items()))
        )
