"""Swaps two folders in one step, so that at no moment neither of them is in its place."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from appliance.files import sync_folder

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_LIBC = ctypes.CDLL(None, use_errno=True)  # Python has no renameat2(2) of its own


def exchange(one: Path, other: Path) -> None:
    """Have each of two folders, of one parent, under the other's name; safe from a power cut when it returns.

    Raises:
        OSError: One isn't there, or this file system can't do it; nothing was changed.
    """
    if _LIBC.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(one))
    sync_folder(one.parent)


def can_exchange(folder: Path) -> bool:
    """Whether it can be done in ``folder``; found out by doing it."""
    with TemporaryDirectory(dir=folder, prefix=".exchange-") as inside:
        one, other = Path(inside, "one"), Path(inside, "other")
        one.mkdir()
        other.mkdir()
        try:
            exchange(one, other)
        except OSError:
            return False
    return True
