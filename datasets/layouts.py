"""Reads and writes class folders and the tutorial's layout without loss.

Folders say label, split and camera. What they can't say (boxes, metadata, a label with a slash in it, no label at
all) stands in sitecam-labels.json beside them, by the file's path; a file that somebody moved goes by its folder again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from appliance.files import write_atomically
from datasets.folders import SPLITS, LabelledFile, is_part, read_folders
from datasets.labels_file import LabelsFile, boxes_of, boxes_out, pairs_of, read_labels_file
from datasets.pictures import Dataset, LabelledPicture, check_writable
from datasets.writing import Names, copy_to, new_folder, safe_name

BESIDE = "sitecam-labels.json"
UNLABELLED = "unlabelled"

_FIRST_PART = "dataset_client1"
_FIELDS = {"label", "split", "part", "name", "boxes", "metadata"}


def read_layout(directory: Path) -> Dataset:
    """Read class folders, with or without a split, or the tutorial's layout: see :func:`read_folders`.

    Raises:
        DatasetError: As there; or sitecam-labels.json can't be used, with file and line.
    """
    pictures = {
        file.path.relative_to(directory).as_posix(): _plain(directory, file)
        for file in read_folders(directory, fewest_labels=1)
    }
    notes: tuple[str, ...] = ()
    if (directory / BESIDE).is_file():
        file = read_labels_file(directory / BESIDE)
        said = file.body.get("pictures")
        if not isinstance(said, dict):
            file.refuse("pictures is not an object", line=file.line_of_key("pictures"))
        gone = [place for place in said if place not in pictures]
        if gone:
            notes = (f"{BESIDE} names {len(gone)} files that are not there any longer: {gone[0]}, for one",)
        for place in said.keys() & pictures.keys():
            pictures[place] = _told(pictures[place], file, place, said[place])
    return Dataset(tuple(pictures.values()), notes)


def write_folders(pictures: Sequence[LabelledPicture], directory: Path) -> tuple[str, ...]:
    """Write class folders: <label>/*, or {train,test}/<label>/* if any picture has a split.

    Args:
        pictures: At least one.
        directory: Where to; it appears whole or not at all.

    Returns:
        Sentences about what was renamed or stands in sitecam-labels.json only.

    Raises:
        DatasetError: The folder is there already, or :func:`datasets.pictures.check_writable`.
        OSError: The disk refused, or a picture is gone. Nothing was written.
    """
    split = any(picture.split for picture in pictures)
    return _write(pictures, directory, lambda _: "", lambda _: split)


def write_tutorial(pictures: Sequence[LabelledPicture], directory: Path) -> tuple[str, ...]:
    """Write dataset_client1, ... and dataset_server; what belongs to none goes to dataset_client1.

    Args, returns and raises as :func:`write_folders`.
    """
    split = {picture.part or _FIRST_PART for picture in pictures if picture.split}
    return _write(
        pictures,
        directory,
        lambda picture: picture.part or _FIRST_PART,
        lambda picture: (picture.part or _FIRST_PART) in split,
    )


def _write(
    pictures: Sequence[LabelledPicture],
    directory: Path,
    part_of: Callable[[LabelledPicture], str],
    is_split: Callable[[LabelledPicture], bool],
) -> tuple[str, ...]:
    check_writable(pictures)
    names, beside, notes = Names(), dict[str, dict[str, Any]](), list[str]()
    with new_folder(directory) as folder:
        for picture in pictures:
            part = part_of(picture)
            split = (picture.split or SPLITS[0]) if is_split(picture) else None
            label = UNLABELLED if picture.label is None else _class_folder(picture.label)
            place = names.place(PurePosixPath(part, split or "", label).as_posix(), picture.path.name)
            copy_to(picture.path, folder / place)
            plain = LabelledPicture(picture.path, label, split, part or None)
            if picture != plain:
                beside[place.as_posix()] = _untold(picture, plain)
        if beside:
            text = json.dumps({"version": 1, "pictures": beside}, ensure_ascii=False, indent=1)
            write_atomically(folder / BESIDE, text.encode())
            notes.append(f"what folders can't say of {len(beside)} pictures stands in {BESIDE}: keep it with them")
    unlabelled = sum(picture.label is None for picture in pictures)
    if unlabelled:
        notes.append(f"{unlabelled} pictures have no label and lie in folders called {UNLABELLED}")
    return (*names.notes(), *notes)


def _class_folder(label: str) -> str:
    """A folder's name for a label; one that looks like a camera's part would be read as one."""
    return safe_name(label) if not is_part(label) else f"%{ord(label[0]):02X}{label[1:]}"


def _plain(directory: Path, file: LabelledFile) -> LabelledPicture:
    top = file.path.relative_to(directory).parts[0]
    return LabelledPicture(file.path, file.label, file.split, top if is_part(top) else None)


def _untold(picture: LabelledPicture, plain: LabelledPicture) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: getattr(picture, name)
        for name in ("label", "split", "part", "name")
        if getattr(picture, name) != getattr(plain, name)
    }
    if picture.boxes:
        fields["boxes"] = boxes_out(picture.boxes)
    if picture.metadata:
        fields["metadata"] = dict(picture.metadata)
    return fields


def _told(plain: LabelledPicture, file: LabelsFile, place: str, fields: Any) -> LabelledPicture:
    try:
        if not isinstance(fields, dict) or fields.keys() - _FIELDS:
            raise ValueError(f"it is not an object of {', '.join(sorted(_FIELDS))}")
        for name in ("label", "name", "part"):
            if not isinstance(fields.get(name), str | None):
                raise ValueError(f"{name} is not a text")
        if fields.get("part") is not None and not is_part(fields["part"]):
            raise ValueError("part is neither dataset_server nor dataset_client1, 2, ...")
        if fields.get("split") not in (*SPLITS, None):
            raise ValueError("split is neither train nor test")
        simple = {name: fields[name] for name in ("label", "split", "part", "name") if name in fields}
        return replace(plain, **simple, boxes=boxes_of(fields.get("boxes")), metadata=pairs_of(fields.get("metadata")))
    except ValueError as error:
        file.refuse(f"{place!r}: {error}", line=file.line_of_key(place))
