"""Reads and writes Edge Impulse's export format: training/ and testing/, described by info.labels.

Format: https://docs.edgeimpulse.com/tools/specifications/data-annotation/ei-labels. A file's entry has path, name,
category (training, testing, or split: Studio decides), label, metadata and boundingBoxes; paths start at the labels
file's own folder. Older exports of object detection have bounding_boxes.labels beside the pictures, which is read too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from appliance.errors import DatasetError
from appliance.files import write_atomically
from datasets.folders import Split, is_part
from datasets.labels_file import LabelsFile, boxes_of, boxes_out, pairs_of, read_labels_file
from datasets.pictures import PART_KEY, Dataset, LabelledPicture, check_writable
from datasets.writing import Names, copy_to, new_folder

INFO = "info.labels"
BOXES = "bounding_boxes.labels"

_FOLDERS = ("training", "testing")
_SPLITS: dict[str, Split | None] = {"training": "train", "testing": "test", "split": None}
_CATEGORIES: dict[Split | None, str] = {split: category for category, split in _SPLITS.items()}
_KNOWN = {"path", "name", "category", "label", "metadata", "boundingBoxes"}
_UPLOADED = {".jpg", ".jpeg", ".png"}

_Found = dict[Path, LabelledPicture]


def is_edge_impulse(directory: Path) -> bool:
    """Whether a labels file of Edge Impulse lies in the folder, or in its training or testing."""
    return any((folder / name).is_file() for folder in _places(directory) for name in (INFO, BOXES))


def read_edge_impulse(directory: Path) -> Dataset:
    """Read an unpacked export.

    info.labels may lie in the folder itself, in training and testing, or in all of them. A label whose type is
    ``unlabeled``, or that is missing, is None.

    Raises:
        DatasetError: No labels file; one that can't be read or is of another version; a path that is missing, given
            twice, or leaves the folder; two files that contradict each other; labels of time series. File and line
            are named.
    """
    found: _Found = {}
    unknown: set[str] = set()
    files = [folder / INFO for folder in _places(directory) if (folder / INFO).is_file()]
    boxed = [folder / BOXES for folder in _places(directory) if (folder / BOXES).is_file()]
    if not files and not boxed:
        raise DatasetError(
            f"{directory} has no {INFO} or {BOXES}, nor have its folders training and testing",
            means="It is not an unpacked export of Edge Impulse",
            do="Unpack the export there: Studio, Dashboard, Export",
        )
    for path in files:
        _read_info(directory, read_labels_file(path), found, unknown)
    for path in boxed:
        _read_boxes(directory, read_labels_file(path), found)
    return Dataset(tuple(found.values()), tuple(_notes(directory, found, unknown)))


def write_edge_impulse(pictures: Sequence[LabelledPicture], directory: Path) -> tuple[str, ...]:
    """Write pictures as ``edge-impulse-uploader --info-file info.labels`` takes them.

    Args:
        pictures: At least one.
        directory: Where to; it appears whole or not at all.

    Returns:
        Sentences about what was renamed, or what Edge Impulse will not take.

    Raises:
        DatasetError: The folder is there already, or :func:`datasets.pictures.check_writable`.
        OSError: The disk refused, or a picture is gone. Nothing was written.
    """
    check_writable(pictures)
    names, entries = Names(), []
    with new_folder(directory) as folder:
        for picture in pictures:
            place = names.place(_CATEGORIES[picture.split], picture.path.name)
            copy_to(picture.path, folder / place)
            entries.append(_entry(picture, place.as_posix()))
        text = json.dumps({"version": 1, "files": entries}, ensure_ascii=False, indent=1)
        write_atomically(folder / INFO, text.encode())
    notes = list(names.notes())
    strange = sum(picture.path.suffix.lower() not in _UPLOADED for picture in pictures)
    if strange:
        notes.append(f"{strange} files don't end in .jpg, .jpeg or .png; Edge Impulse's uploader passes them over")
    return tuple(notes)


def _places(directory: Path) -> list[Path]:
    return [directory, *(directory / name for name in _FOLDERS)]


def _read_info(directory: Path, file: LabelsFile, found: _Found, unknown: set[str]) -> None:
    entries = file.body.get("files")
    if not isinstance(entries, list):
        file.refuse("files is not a list", line=file.line_of_key("files"))
    mine: set[Path] = set()
    for number, entry in enumerate(entries):
        try:
            picture = _picture(directory, file.path.parent, entry)
            if picture.path in mine:
                raise ValueError(f"{entry['path']!r} stands here twice")
            if found.get(picture.path, picture) != picture:
                raise ValueError(f"{entry['path']!r} is described otherwise in {directory / INFO}")
        except ValueError as error:
            line = file.line_of_item("files", number)
            file.refuse(f"entry {number + 1} of files: {error}", line=line)
        unknown |= entry.keys() - _KNOWN
        mine.add(picture.path)
        found[picture.path] = picture


def _picture(directory: Path, folder: Path, entry: Any) -> LabelledPicture:  # from a file
    if not isinstance(entry, dict):
        raise ValueError("it is not an object")
    path = _inside(directory, folder, entry.get("path"))
    name = entry.get("name")
    if name is not None and not isinstance(name, str):
        raise ValueError("name is not a text")
    category = entry.get("category", _category_of(directory, path))
    if not isinstance(category, str) or category not in _SPLITS:
        raise ValueError(f"category is {category!r}, none of {', '.join(_SPLITS)}")
    metadata = dict(pairs_of(entry.get("metadata")))
    part = metadata.pop(PART_KEY, None)
    if part is not None and not is_part(part):
        raise ValueError(f"metadata {PART_KEY} is {part!r}, neither dataset_server nor dataset_client1, 2, ...")
    return LabelledPicture(
        path,
        _label(entry.get("label")),
        _SPLITS[category],
        part,
        name,
        boxes_of(entry.get("boundingBoxes")),
        tuple(sorted(metadata.items())),
    )


def _label(label: Any) -> str | None:  # from a file
    if label is None:
        return None
    kind = label.get("type") if isinstance(label, dict) else None
    if kind == "unlabeled":
        return None
    if kind != "label":
        raise ValueError(f"its label is of type {kind!r}; a picture has one label or none")
    if not isinstance(label.get("label"), str):
        raise ValueError("its label is not a text")
    return str(label["label"])


def _read_boxes(directory: Path, file: LabelsFile, found: _Found) -> None:
    by_name = file.body.get("boundingBoxes")
    if file.body.get("type") != "bounding-box-labels" or not isinstance(by_name, dict):
        file.refuse('it has no "type": "bounding-box-labels" and object boundingBoxes', line=1)
    mine: set[Path] = set()
    for name, value in by_name.items():
        try:
            path = _inside(directory, file.path.parent, name)
            boxes = boxes_of(value)
            split = _SPLITS[_category_of(directory, path)]
            known = found.get(path, LabelledPicture(path, None, split, boxes=boxes))
            if path in mine:
                raise ValueError("it stands here twice")
            if known.boxes not in ((), boxes):
                raise ValueError(f"it has other boxes in {INFO}")
        except ValueError as error:
            file.refuse(f"{name!r}: {error}", line=file.line_of_key(name))
        mine.add(path)
        found[path] = replace(known, boxes=boxes)


def _inside(directory: Path, folder: Path, name: Any) -> Path:  # from a file
    if not isinstance(name, str) or not name or "\0" in name:
        raise ValueError("path is not the name of a file")
    path = folder / name
    try:
        there, inside = path.is_file(), path.resolve().is_relative_to(directory.resolve())
    except (OSError, RuntimeError) as error:  # too long a name, links in a circle
        raise ValueError(f"{name!r} can't be opened ({error})") from error
    if Path(name).is_absolute() or ".." in Path(name).parts or not inside:
        raise ValueError(f"{name!r} leaves the folder")
    if not there:
        raise ValueError(f"there is no file {name!r}")
    return path


def _category_of(directory: Path, path: Path) -> str:
    top = path.relative_to(directory).parts[0]
    return top if top in _FOLDERS else "split"


def _notes(directory: Path, found: _Found, unknown: set[str]) -> list[str]:
    notes = []
    if unknown:
        notes.append(f"{INFO} says more of its files, which is not read: {', '.join(sorted(unknown))}")
    listed = {path.resolve() for path in found}
    folders = [directory / name for name in _FOLDERS if (directory / name).is_dir()]
    left = [
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".labels"
        if path.resolve() not in listed
    ]
    if left:
        notes.append(f"{len(left)} files are in no labels file and were passed over: {left[0]}, for one")
    return notes


def _entry(picture: LabelledPicture, place: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"path": place}
    if picture.name is not None:
        entry["name"] = picture.name
    entry["category"] = _CATEGORIES[picture.split]
    entry["label"] = {"type": "unlabeled"} if picture.label is None else {"type": "label", "label": picture.label}
    metadata = dict(picture.metadata) | ({PART_KEY: picture.part} if picture.part else {})
    if metadata:
        entry["metadata"] = metadata
    if picture.boxes:
        entry["boundingBoxes"] = boxes_out(picture.boxes)
    return entry
