"""What an .eim leaves in the file system, and that it goes with the process, whichever way that ends."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where Linux keeps POSIX shared memory; a client opens it by name
_PR_SET_PDEATHSIG = 1


class Leftovers:
    """Names in the file system that must not outlive this process, whichever way it ends."""

    def __init__(self) -> None:
        self._paths: set[Path] = set()

    def add(self, path: Path) -> Path:
        """Note a name, before the file is made: a signal may come in between."""
        self._paths.add(path)
        return path

    def remove(self, path: Path) -> None:
        """Delete one of them now."""
        path.unlink(missing_ok=True)
        self._paths.discard(path)

    def sweep(self) -> None:
        """Delete all of them."""
        for path in list(self._paths):
            self.remove(path)

    def segment(self, size_bytes: int) -> tuple[str, mmap.mmap]:
        """Make shared memory; by hand, because multiprocessing would start a process to watch over it.

        Returns:
            The name by which a client opens it, and the memory.

        Raises:
            OSError: There is none.
        """
        path = self.add(SHARED_MEMORY / f"sitecam-{os.urandom(6).hex()}")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, size_bytes)  # a full /dev/shm says so now, not by SIGBUS later
                return f"/{path.name}", mmap.mmap(descriptor, size_bytes)
            finally:
                os.close(descriptor)
        except OSError:
            self.remove(path)
            raise


def end_cleanly(leftovers: Leftovers) -> None:
    """Make the signals that end a program, and the death of the parent, take the leftovers along."""

    def end(number: int, _frame: object) -> None:
        leftovers.sweep()
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    parent = int(os.environ.get("SITECAM_PARENT") or os.getppid())  # the shell at our head names it

    def end_if_orphaned(number: int, frame: object) -> None:
        # Linux sends this when the *thread* that started us ends, which is no reason to go.
        if os.getppid() != parent:
            end(number, frame)

    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        signal.signal(signal.SIGUSR1, end_if_orphaned)
        prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)
        end_if_orphaned(signal.SIGUSR1, None)  # it may have died while we asked to be told
