"""What a file or folder holds, read again only when it has changed: for what the page asks many times a second."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

_TICK_S = 2.0  # file systems count in steps: two changes within one may leave the same time


class Cached(Generic[T]):
    """A value that is read from a path. Safe for several threads.

    Args:
        path: Whose change makes a new reading necessary: a file that is replaced, or a folder whose files are.
        read: Reads it; what it raises is raised, and tried again the next time.
    """

    def __init__(self, path: Path, read: Callable[[], T]) -> None:
        self._path = path
        self._read = read
        self._lock = threading.Lock()
        self._known: tuple[tuple[int, int, int], T] | None = None

    def __call__(self) -> T:
        """The value as it is now."""
        with self._lock:
            mark = self._mark()
            if self._known is not None and mark is not None and self._known[0] == mark:
                return self._known[1]
            value = self._read()
            settled = mark is not None and abs(time.time() - mark[0] / 1e9) > _TICK_S
            self._known = (mark, value) if settled and mark is not None else None
            return value

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)  # noqa: PTH116  several times a second
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
