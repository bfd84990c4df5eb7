"""What every format is read into and written from: a picture with its label, split, boxes and metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import DatasetError
from datasets.folders import Split

PART_KEY = "sitecam_part"  # under which a part of the tutorial's layout travels where a format has metadata only


@dataclass(frozen=True)
class Box:
    """Where in a picture something is: left, top, width and height in pixels of the upright picture."""

    label: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class LabelledPicture:
    """A picture of a data set, whatever format it came in.

    Attributes:
        path: The file; whether it is a picture is not known yet.
        label: What it shows as a whole; None where nobody said.
        split: What it is for; None where nobody said.
        part: Whose it is in the tutorial's layout: dataset_client1, ..., dataset_server.
        name: What Edge Impulse calls the sample, where that was given; the file may be called otherwise.
        boxes: What is where in it.
        metadata: Pairs of key and value, in the order of the keys.
    """

    path: Path
    label: str | None
    split: Split | None
    part: str | None = None
    name: str | None = None
    boxes: tuple[Box, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Dataset:
    """What a reader found.

    Attributes:
        pictures: In the order of the source.
        notes: Sentences about what was passed over.
    """

    pictures: tuple[LabelledPicture, ...]
    notes: tuple[str, ...] = ()


def check_writable(pictures: Sequence[LabelledPicture]) -> None:
    """Refuse what no format can hold.

    Raises:
        DatasetError: No picture; text that isn't Unicode; a metadata key that is Sitecam's own.
    """
    if not pictures:
        raise DatasetError(
            "There is no picture to write", means="Nothing was written", do="Look at what the source holds"
        )
    for picture in pictures:
        texts = [picture.label or "", picture.name or "", *(box.label for box in picture.boxes)]
        texts += [text for pair in picture.metadata for text in pair]
        try:
            "".join(texts).encode()
        except UnicodeEncodeError as error:
            raise DatasetError(
                f"A label, name or metadata of {str(picture.path)!a} is not Unicode text",
                means="Nothing was written",
                do="Rename it (often a folder from a disk with another encoding)",
            ) from error
        if PART_KEY in dict(picture.metadata):
            raise DatasetError(
                f"{picture.path} has metadata called {PART_KEY}",
                means="Sitecam writes the camera's part under that name; nothing was written",
                do="Rename that key",
            )
