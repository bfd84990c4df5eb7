"""Reads the zip file that a camera's data page exports: pictures/ID.jpg and labels.json."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any, NoReturn

from appliance.errors import DatasetError
from datasets.folders import SPLITS
from datasets.pictures import Dataset, LabelledPicture

_NAME = re.compile(r"pictures/([0-9a-f]{32})\.jpg")
_LABELS = "labels.json"
_MOST_FILES = 200_001
_PICTURE_BYTES = 20_000_000
_LABELS_BYTES = 100_000_000
_FIELDS = ("id", "label", "split")  # the others become metadata


def read_camera_export(path: Path, folder: Path) -> Dataset:
    """Unpack a camera's export and read it.

    All that the camera knows of a frame beside label and split becomes metadata: when it was taken, by whom it was
    labelled, what the model said, in which nights it trained.

    Args:
        path: The zip file.
        folder: Where its pictures go; it must outlive what is returned.

    Raises:
        DatasetError: It is not such a file, or damaged.
        OSError: The disk refused.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            _check(path, infos)
            try:
                body = json.loads(archive.read(_LABELS))
                if body["format"] != 1:
                    raise ValueError(f"its format is {body['format']!r}, not 1")
                pictures = tuple(_picture(frame, folder) for frame in body["frames"])
            except (KeyError, TypeError, ValueError, RecursionError) as error:
                _refuse(path, f"{_LABELS} can't be read ({error!r})")
            wanted = {picture.path.name for picture in pictures}
            held = {info.filename.removeprefix("pictures/") for info in infos} - {_LABELS}
            if wanted != held or len(wanted) != len(pictures):
                _refuse(path, f"{_LABELS} and its pictures don't belong together")
            for picture in pictures:
                with archive.open(f"pictures/{picture.path.name}") as source, picture.path.open("xb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        _refuse(path, f"it is damaged ({error})")
    return Dataset(pictures)


def _check(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    if len(infos) > _MOST_FILES or len({info.filename for info in infos}) != len(infos):
        _refuse(path, "it has too many files, or one twice")
    for info in infos:
        most = _LABELS_BYTES if info.filename == _LABELS else _PICTURE_BYTES
        if info.filename != _LABELS and not _NAME.fullmatch(info.filename):
            _refuse(path, f"it has a file {info.filename[:80]!r}")
        if info.file_size > most:
            _refuse(path, f"{info.filename} has {info.file_size:,} bytes, more than {most:,}")


def _picture(frame: dict[str, Any], folder: Path) -> LabelledPicture:
    name, label, split = (frame[field] for field in _FIELDS)
    if not _NAME.fullmatch(f"pictures/{name}.jpg"):
        raise ValueError(f"{name!r} is no frame's id")
    if split not in SPLITS or not isinstance(label, str | None):
        raise ValueError(f"frame {name} has no label and split as a camera writes them")
    metadata = {key: _text(value) for key, value in frame.items() if key not in _FIELDS and value not in (None, "", [])}
    return LabelledPicture(folder / f"{name}.jpg", label, split, metadata=tuple(sorted(metadata.items())))


def _text(value: Any) -> str:  # whatever stood in the file
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _refuse(path: Path, why: str) -> NoReturn:
    raise DatasetError(
        f"{path} is not a camera's export: {why}",
        means="Nothing was read",
        do="Use the file as the page's Export made it, or name an unpacked folder",
    )
