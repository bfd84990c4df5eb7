"""Processes as the kernel lists them: who started whom, and who is still alive."""

from __future__ import annotations

import contextlib
from pathlib import Path


def family(pid: int) -> set[int]:
    """A process and everything that it started, directly or not."""
    parents = parents_by_pid()
    found, fresh = {pid}, {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh} - found
        found |= fresh
    return found


def parents_by_pid() -> dict[int, int]:
    """Every process's parent (proc(5))."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended while we looked
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    return parents


def alive(pid: int) -> bool:
    """Whether a process still runs; a dead one that nobody has asked after does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
