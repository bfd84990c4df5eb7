"""What process trees cost: memory at its peak, process by process, and CPU seconds.

A process's own figures hide what it shares with others. The sum of PSS (proportional set size: shared pages divided
among those who share them) counts every page of a tree once, but lets strangers on the same machine who happen to
use the same libraries pay for some. So each peak is counted a second time as if the tree were alone: its anonymous
memory, and of every mapped file as much as the process that uses most of it has in memory. Both from
/proc/PID/smaps and smaps_rollup, proc(5).
"""

from __future__ import annotations

import os
import re
import resource
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.fakes.processes import family

_HEADER = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ (?P<offset>\S+) (?P<device>\S+) (?P<inode>\d+)")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Peak:
    """The most memory a tree had.

    Attributes:
        pss_mb: Sum of PSS over its processes at that moment.
        alone_mb: The same as if nothing else on the machine used the same files.
        parts_mb: PSS by kind of process at that moment.
        highest_mb: The most each kind ever had.
        cpu_s: CPU seconds of the tree, and of what it has waited for, until it was last seen.
    """

    pss_mb: float = 0.0
    alone_mb: float = 0.0
    parts_mb: dict[str, float] = field(default_factory=dict)
    highest_mb: dict[str, float] = field(default_factory=dict)
    cpu_s: float = 0.0


class Watch:
    """Samples a process and everything that it starts, while the context lasts.

    Args:
        roots: Their process ids.
        kind: Names a process by (pid, command line), e.g. "SuperNode".
        every_s: Seconds between two looks.
    """

    def __init__(self, roots: Iterable[int], kind: Callable[[int, str], str], *, every_s: float = 0.1) -> None:
        self._roots = tuple(roots)
        self._kind = kind
        self._every_s = every_s
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._peak = Peak()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(5)

    @property
    def peak(self) -> Peak:
        """Since the start, or the last :meth:`take`."""
        with self._lock:
            return self._peak

    def take(self) -> Peak:
        """The peak so far; another one begins."""
        with self._lock:
            peak, self._peak = self._peak, Peak(cpu_s=self._peak.cpu_s)
        return peak

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        pids = {pid for root in self._roots for pid in family(root)}
        memory = {pid: found for pid in pids if (found := pss_mb(pid)) is not None}
        total = sum(memory.values())
        parts: dict[str, float] = {}
        for pid, value in memory.items():
            name = self._kind(pid, command_line(pid))
            parts[name] = parts.get(name, 0.0) + value
        used = cpu_s_of(pids)
        with self._lock:
            higher = total > self._peak.pss_mb
            for name, value in parts.items():
                self._peak.highest_mb[name] = max(value, self._peak.highest_mb.get(name, 0.0))
            self._peak.cpu_s = max(self._peak.cpu_s, used)
            if higher:
                self._peak.pss_mb, self._peak.parts_mb = total, parts
        if higher:
            alone = alone_mb(list(memory))
            with self._lock:
                self._peak.alone_mb = max(self._peak.alone_mb, alone)


def pss_mb(pid: int) -> float | None:
    """Its PSS, MB; None where it has ended."""
    found = _rollup(pid)
    return found["Pss"] / 1024 if found else None


def alone_mb(pids: Iterable[int]) -> float:
    """Memory of some processes, MB, as if no others used the same files."""
    own = 0.0
    files: dict[tuple[str, str], int] = {}
    for pid in pids:
        rollup = _rollup(pid)
        if rollup is None:
            continue
        own += rollup.get("Pss_Anon", 0) + rollup.get("Pss_Shmem", 0)
        for name, kb in mapped_files_kb(_text(Path(f"/proc/{pid}/smaps"))).items():
            files[name] = max(kb, files.get(name, 0))
    return float(own + sum(files.values())) / 1024


def mapped_files_kb(smaps: str) -> dict[tuple[str, str], int]:
    """Resident pages of each mapped file that are the file's own, kB, by (device:inode, offset)."""
    found: dict[tuple[str, str], int] = {}
    name: tuple[str, str] | None = None
    for line in smaps.splitlines():
        header = _HEADER.match(line)
        if header:
            name = (f"{header['device']}:{header['inode']}", header["offset"]) if header["inode"] != "0" else None
        elif name and line.startswith("Rss:"):
            found[name] = found.get(name, 0) + int(line.split()[1])
        elif name and line.startswith("Anonymous:"):  # written to: no longer the file's, and counted with PSS
            found[name] -= int(line.split()[1])
    return found


def cpu_s_of(pids: Iterable[int]) -> float:
    """CPU seconds, user and system, of processes and of what they have waited for."""
    total = 0
    for pid in pids:
        fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / _TICKS_PER_S


def command_line(pid: int) -> str:
    """Its command line; empty where it has ended."""
    return _text(Path(f"/proc/{pid}/cmdline")).replace("\0", " ").strip()


def cpu_s() -> float:
    """CPU seconds of this process and of those it has waited for, user and system."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measured(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """The result of some work, and its CPU and wall seconds."""
    cpu, wall = cpu_s(), time.monotonic()
    result = work()
    return result, {"cpu_s": cpu_s() - cpu, "wall_s": time.monotonic() - wall}


def _rollup(pid: int) -> Mapping[str, int] | None:
    lines = _text(Path(f"/proc/{pid}/smaps_rollup")).splitlines()[1:]
    values = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return values or None


def _text(path: Path) -> str:
    """A file of /proc; empty where its process has ended, which happens while one looks."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
