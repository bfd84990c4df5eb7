"""Reads folders of labelled pictures: class folders, with or without a split, and the tutorial's layout."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.errors import DatasetError

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

_TUTORIAL_PART = re.compile(r"dataset_(client\d+|server)")
_LAYOUTS = "DIR/<label>/*, DIR/{train,test}/<label>/* or DIR/dataset_client1/{train,test}/<label>/*"


@dataclass(frozen=True)
class LabelledFile:
    """A file in a class folder.

    Attributes:
        path: The file; whether it is a picture is not known yet.
        label: Its class folder's name.
        split: What the folders say it is for; None where they don't say.
    """

    path: Path
    label: str
    split: Split | None


def is_part(name: str) -> bool:
    """Whether a folder of this name is a camera's or the server's in the tutorial's layout."""
    return _TUTORIAL_PART.fullmatch(name) is not None


def labels_in(files: Iterable[LabelledFile]) -> tuple[str, ...]:
    """The labels found, in alphabetical order."""
    return tuple(sorted({file.label for file in files}))


def read_folders(directory: Path, *, fewest_labels: int = 2) -> list[LabelledFile]:
    """List the labelled files below ``directory``, in the order of their paths.

    Three layouts are read: ``<label>/*``; ``{train,test}/<label>/*``; and the tutorial's, where either of these
    lies in dataset_client1, dataset_client2, ... and dataset_server. Hidden files and whatever isn't a file are
    passed over. File names' endings mean nothing: many a .jpg is a PNG.

    Args:
        directory: Where to look.
        fewest_labels: How many different labels there must be.

    Raises:
        DatasetError: No such folder, no class folders in it, an empty class folder, or too few labels.
    """
    if not directory.is_dir():
        raise DatasetError(
            f"There is no folder {directory}", means="Nothing was read", do="Check the path and its spelling"
        )
    parts = [folder for folder in _folders(directory) if is_part(folder.name)]
    files = [file for part in parts or [directory] for file in _read_part(part)]
    labels = labels_in(files)
    if len(labels) < fewest_labels:
        raise DatasetError(
            f"{directory} holds pictures of one class only ({labels[0]})",
            means="A model that has seen one class calls everything by its name",
            do="Add a folder of pictures of what the camera should tell it from",
        )
    return files


def _read_part(folder: Path) -> list[LabelledFile]:
    inner = _folders(folder)
    split_folders = [child for child in inner if child.name in SPLITS and _folders(child)]
    if not split_folders:
        return _read_classes(folder, None)
    others = [child.name for child in inner if child not in split_folders]
    if others:
        raise DatasetError(
            f"{folder} holds {', '.join(others)} beside {' and '.join(child.name for child in split_folders)}",
            means="It is not clear whether those pictures are to train or to test on",
            do="Move them into train or test, or out of this folder",
        )
    return [
        file for split in SPLITS if folder / split in split_folders for file in _read_classes(folder / split, split)
    ]


def _read_classes(folder: Path, split: Split | None) -> list[LabelledFile]:
    classes = _folders(folder)
    if not classes:
        raise DatasetError(
            f"{folder} has no class folders in it",
            means="Without them nobody knows what its pictures show",
            do=f"Put the pictures into one folder per label: {_LAYOUTS}",
        )
    files: list[LabelledFile] = []
    for labelled in classes:
        found = sorted(path for path in labelled.iterdir() if not _hidden(path) and path.is_file())
        if not found:
            raise DatasetError(
                f"The class folder {labelled} is empty",
                means=f"Nothing can be learned about {labelled.name!r} from it",
                do="Put pictures into it, or remove it",
            )
        files += [LabelledFile(path, labelled.name, split) for path in found]
    return files


def _folders(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if not _hidden(path) and path.is_dir())


def _hidden(path: Path) -> bool:
    return path.name.startswith(".")
