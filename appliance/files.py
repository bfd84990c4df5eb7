"""Writing files so that a power cut leaves the old content or the new, never half of it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data``: temporary name, fsync, rename, fsync of the folder.

    Args:
        path: The file; its folder must exist.
        data: The whole new content.
        mode: Permission bits of the new file, set before any byte is in it.

    Raises:
        OSError: The disk refused; ``path`` is as it was and the temporary file is gone.
    """
    with written_atomically(path, mode=mode) as file:
        file.write(data)


@contextmanager
def written_atomically(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """The same for content that shall not be in memory as a whole: a file to write to, which becomes ``path``.

    Raises:
        OSError: The disk refused; as for whatever else the block raises, ``path`` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # the umask had its say in open(); ours is the last word
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_no_link(path: Path) -> bytes:
    """A file's content, of a file itself: whoever could plant a link would else have any file read.

    Raises:
        OSError: It can't be read, or is a link.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def sync_folder(folder: Path) -> None:
    """Make renames and deletions inside ``folder`` survive a power cut.

    Raises:
        OSError: The folder is gone or the disk refused.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_temporaries(folder: Path) -> int:
    """Delete what a killed writer left in ``folder`` (not below it); return how many files that was."""
    left = list(folder.glob(".*.tmp"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)
