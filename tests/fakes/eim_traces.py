"""What a process can leave behind, listed: for tests that say nothing of an .eim is left."""

from __future__ import annotations

import gc
import os
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.eim_shaped import token_of


@dataclass(frozen=True)
class Traces:
    """What this process holds on to.

    Attributes:
        descriptors: What its open files are.
        children: Its child processes, zombies too.
        threads: Names of its threads.
    """

    descriptors: Counter[str]
    children: Counter[int]
    threads: Counter[str]

    @staticmethod
    def now() -> Traces:
        """List them."""
        gc.collect()  # an array in an exception's traceback keeps its mapping, which keeps a descriptor
        descriptors = []
        for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208  a listing needs no Path for each
            try:
                descriptors.append(os.readlink(f"/proc/self/fd/{entry}"))  # noqa: PTH115
            except FileNotFoundError:
                continue  # the descriptor that the listing itself had
        children = Counter(
            int(child)
            for task in Path("/proc/self/task").iterdir()
            for child in (task / "children").read_text().split()
        )
        threads = Counter(thread.name for thread in threading.enumerate())
        return Traces(Counter(descriptors), children, threads)

    def beyond(self, before: Traces) -> list[object]:
        """What there is now and wasn't then."""
        return [
            *(self.descriptors - before.descriptors),
            *(self.children - before.children),
            *(self.threads - before.threads),
        ]


def segments_of_fake(path: Path) -> list[str]:
    """Shared memory that the fake at ``path`` made and that is still there."""
    return [entry.name for entry in Path("/dev/shm").glob(f"shm-{token_of(path)}*")]  # noqa: S108


def segments_of(pid: int) -> list[Path]:
    """Shared memory that a live process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return sorted({Path(line[line.index("/dev/shm/") :]) for line in lines if "/dev/shm/" in line})  # noqa: S108


def runs(pid: int) -> bool:
    """Whether a process runs; a zombie doesn't."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
