"""Writes a folder of pictures as a whole or not at all, and finds every picture a name that is safe and its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from appliance.errors import DatasetError
from appliance.files import sync_folder

_LONGEST_BYTES = 240  # of the 255 that Linux allows; the rest is for a number
_NOT_IN_NAMES = ("Cc", "Cs")  # control characters, halves of characters
_LABELS_FILES = {"info.labels", "bounding_boxes.labels"}


@contextmanager
def new_folder(directory: Path) -> Iterator[Path]:
    """A folder to write into that becomes ``directory`` at the end; if the block raises, nothing is left of it.

    Raises:
        DatasetError: ``directory`` is there already.
        OSError: The disk refused.
    """
    if os.path.lexists(directory):
        raise DatasetError(
            f"{directory} is there already",
            means="Nothing was written: what exists is never overwritten",
            do="Name a folder that does not exist yet",
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".datasets.", suffix=".tmp", dir=directory.parent) as temporary:
        made = Path(temporary) / "data"
        made.mkdir()
        yield made
        for folder, _, _ in os.walk(made):
            sync_folder(Path(folder))
        made.rename(directory)  # refuses a folder that came meanwhile and holds something
    sync_folder(directory.parent)


def copy_to(source: Path, target: Path) -> None:
    """Copy a file's bytes to a new file, folders made, on the disk when it returns.

    Raises:
        OSError: It can't be read, is there already, or the disk refused.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as read, target.open("xb") as written:
        shutil.copyfileobj(read, written)
        written.flush()
        os.fsync(written.fileno())


def safe_name(text: str) -> str:
    """The text as the name of a visible file or folder: the text itself wherever it can be.

    Slashes, control characters and a dot at the front become %XX of their UTF-8 bytes, as in addresses (RFC 3986,
    2.1); what is too long is cut and ends in a piece of its SHA-256. Two texts may get one name.
    """
    name = "".join(
        _quoted(letter) if letter == "/" or unicodedata.category(letter) in _NOT_IN_NAMES else letter for letter in text
    )
    if name.startswith(".") or name in _LABELS_FILES:
        name = _quoted(name[0]) + name[1:]
    if len(name.encode()) > _LONGEST_BYTES:
        stem, suffix = os.path.splitext(name)  # noqa: PTH122  # pathlib refuses some names that this takes
        suffix = suffix if len(suffix.encode()) <= 10 else ""
        tail = "~" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12] + suffix
        name = stem.encode()[: _LONGEST_BYTES - len(tail.encode())].decode(errors="ignore") + tail
    return name or "%"


class Names:
    """Gives every picture a place of its own below a folder, and remembers which had to be called otherwise."""

    def __init__(self) -> None:
        self._taken: set[tuple[str, str]] = set()
        self._renamed: list[tuple[str, str]] = []

    def place(self, folder: str, name: str) -> PurePosixPath:
        """Where the picture goes; upper and lower case are one, because many disks think so."""
        stem, suffix = os.path.splitext(safe_name(name))  # noqa: PTH122  # as above
        free, number = stem + suffix, 1
        while (folder.casefold(), free.casefold()) in self._taken:
            number += 1
            free = f"{stem}.{number}{suffix}"
        self._taken.add((folder.casefold(), free.casefold()))
        if free != name:
            self._renamed.append((name, f"{folder}/{free}"))
        return PurePosixPath(folder, free)

    def notes(self) -> tuple[str, ...]:
        """A sentence about what was renamed, if anything was."""
        if not self._renamed:
            return ()
        old, new = self._renamed[0]
        sentence = (
            f"{len(self._renamed)} files were renamed, because two in one folder had one name or a name was not safe:"
            f" {ascii(old)[1:-1]} is {new}, for one"
        )
        return (sentence,)


def _quoted(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode(errors="surrogatepass"))
