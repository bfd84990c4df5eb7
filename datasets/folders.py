"""Reads folders of labelled pictures: class folders, with or without train and test above them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.errors import DatasetError

Split = Literal["train", "test"]
_SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(frozen=True)
class LabelledFile:
    """A file in a class folder.

    Attributes:
        path: Where it is.
        label: Its folder's name.
        split: The split folder above that; None where there is none.
    """

    path: Path
    label: str
    split: Split | None


def read_folders(root: Path) -> list[LabelledFile]:
    """All files of ``root/<label>/`` or ``root/{train,test}/<label>/``, sorted; hidden ones are left out.

    Raises:
        DatasetError: No such folder, no class folders in it, or an empty class folder.
    """
    if not root.is_dir():
        raise DatasetError(f"There is no folder {root}", do="Check the path")
    files: list[LabelledFile] = []
    for split, label, folder in _class_folders(root):
        inside = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        if not inside:
            raise DatasetError(
                f"The class folder {folder} is empty",
                means="Nothing was read",
                do=f"Put pictures of {label!r} into it, or remove it",
            )
        files += [LabelledFile(path, label, split) for path in inside]
    if not files:
        raise DatasetError(
            f"{root} has no class folders",
            means="A picture's label is the name of the folder that it lies in, so nothing could be read",
            do=f"Lay it out as {root}/<label>/ or {root}/train/<label>/ and {root}/test/<label>/",
        )
    return files


def label_names(root: Path) -> list[str]:
    """The labels of a folder that :func:`read_folders` reads, sorted."""
    return sorted({label for _, label, _ in _class_folders(root)})


def _class_folders(root: Path) -> Iterator[tuple[Split | None, str, Path]]:
    found = [(split, root / split) for split in _SPLITS if (root / split).is_dir()]
    if not found:
        yield from ((None, folder.name, folder) for folder in _subfolders(root))
    for split, above in found:
        yield from ((split, folder.name, folder) for folder in _subfolders(above))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
