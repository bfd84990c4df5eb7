"""Tells which format a data set is in, reads it, and writes it in another."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.errors import DatasetError
from datasets.boxes import cut_out, without_boxes
from datasets.camera_export import read_camera_export
from datasets.edge_impulse import is_edge_impulse, read_edge_impulse, write_edge_impulse
from datasets.folders import is_part
from datasets.layouts import read_layout, write_folders, write_tutorial
from datasets.pictures import Dataset, LabelledPicture

Written = Literal["edge-impulse", "folders", "tutorial"]
Boxes = Literal["keep", "crop", "ignore"]

WRITERS: dict[Written, Callable[[Sequence[LabelledPicture], Path], tuple[str, ...]]] = {
    "edge-impulse": write_edge_impulse,
    "folders": write_folders,
    "tutorial": write_tutorial,
}


@dataclass(frozen=True)
class Conversion:
    """What a conversion did: how many pictures it read and wrote, and sentences about what was changed."""

    read: int
    written: int
    notes: tuple[str, ...]


def format_of(source: Path) -> Written | Literal["camera"]:
    """Which format a folder is in; a file is taken for a camera's export."""
    if source.is_file():
        return "camera"
    if source.is_dir() and any(is_part(child.name) and child.is_dir() for child in source.iterdir()):
        return "tutorial"
    return "edge-impulse" if is_edge_impulse(source) else "folders"


def read_pictures(directory: Path) -> Dataset:
    """Read a folder in whichever format it is.

    Raises:
        DatasetError: See :func:`datasets.edge_impulse.read_edge_impulse` and :func:`datasets.layouts.read_layout`.
    """
    return read_edge_impulse(directory) if format_of(directory) == "edge-impulse" else read_layout(directory)


@contextmanager
def opened(source: Path) -> Iterator[Dataset]:
    """The same, for a camera's export too: its pictures are there as long as the block lasts.

    Raises:
        DatasetError: As above; or :func:`datasets.camera_export.read_camera_export`.
        OSError: The disk refused.
    """
    if format_of(source) != "camera":
        yield read_pictures(source)
        return
    with tempfile.TemporaryDirectory(prefix="datasets-") as folder:
        yield read_camera_export(source, Path(folder))


def convert(source: Path, target: Path, *, to: Written, boxes: Boxes = "keep") -> Conversion:
    """Write a data set in another format; the bytes of the pictures stay as they are.

    Args:
        source: A folder in any format, or a camera's export.
        target: A folder that doesn't exist yet; it appears whole or not at all.
        to: The format.
        boxes: What becomes of bounding boxes. ``crop``: see :func:`datasets.boxes.cut_out`.

    Raises:
        DatasetError: The source can't be read, or the target is there already or lies in the source.
        PictureError: A picture whose boxes shall be cut out can't be read.
        OSError: The disk refused. Nothing was written.
    """
    if source.is_dir() and target.resolve().is_relative_to(source.resolve()):
        raise DatasetError(
            f"{target} lies in {source}",
            means="The copy would be read as part of the source the next time; nothing was written",
            do="Name a folder beside it",
        )
    with opened(source) as found, tempfile.TemporaryDirectory(prefix="datasets-") as folder:
        chosen = Dataset(found.pictures)
        if boxes == "crop":
            chosen = cut_out(found.pictures, Path(folder))
        elif boxes == "ignore":
            chosen = without_boxes(found.pictures)
        notes = WRITERS[to](chosen.pictures, target)
    return Conversion(len(found.pictures), len(chosen.pictures), (*found.notes, *chosen.notes, *notes))
