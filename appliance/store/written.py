"""Counts what is written to the disk: an SD card lives for so many bytes, and people should know how many a day."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OF_THREAD = Path("/proc/thread-self/io")
_OF_PROCESS = Path("/proc/self/io")


class Written:
    """A counter of bytes that the threads of this process handed to the kernel inside ``counted`` blocks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._local = threading.local()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """So far: pictures, thumbnails, the database's log and its checkpoints. 0 where the kernel keeps no books."""
        with self._lock:
            return self._bytes

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what this thread writes inside the block; blocks may lie in one another."""
        depth: int = getattr(self._local, "depth", 0)
        self._local.depth = depth + 1
        before = 0 if depth else _field(_OF_THREAD, "wchar") or 0
        try:
            yield
        finally:
            self._local.depth = depth
            if not depth:
                after = _field(_OF_THREAD, "wchar") or 0
                with self._lock:
                    self._bytes += max(0, after - before)


def process_written_bytes() -> int | None:
    """What this process made the disks write since it started (proc(5), ``write_bytes``); None if nobody counts.

    Pages of files that were written and not yet brought to the disk are in it; what the file system writes for its
    own books is not.
    """
    return _field(_OF_PROCESS, "write_bytes")


def _field(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None  # a kernel without CONFIG_TASK_IO_ACCOUNTING
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
