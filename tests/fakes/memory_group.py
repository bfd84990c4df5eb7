"""A control group with a memory limit, as a small board has it for everything; needs root, and a kernel that counts."""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")
_LOOK_S = 0.5


@dataclass
class MemoryGroup:
    """The group, and what was seen in it.

    Attributes:
        folder: Its folder.
        limit_bytes: What all its processes may have together, page cache included.
        peak_pss_bytes: The most that its processes had of their own at one look, shared pages counted once.
        at_peak: Then, by the program's name: bytes.
    """

    folder: Path
    limit_bytes: int
    peak_pss_bytes: int = 0
    at_peak: dict[str, int] = field(default_factory=dict)

    def before(self) -> Sequence[str]:
        """What to put before a command so that it, and all that it starts, runs in the group."""
        return ("sh", "-c", f'echo $$ > "{self.folder}/cgroup.procs" && exec "$@"', "sh")

    @property
    def peak_bytes(self) -> int:
        """The most that was charged to the group, page cache included: that is given back when it gets tight."""
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            if (self.folder / name).exists():
                return int((self.folder / name).read_text())
        return 0

    @property
    def killed(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""
        names = ("memory.oom_control", "memory.events")
        text = "".join((self.folder / name).read_text() for name in names if (self.folder / name).exists())
        found = re.search(r"^oom_kill ([0-9]+)$", text, re.MULTILINE)
        return int(found[1]) if found else 0

    def look(self) -> None:
        """Take the processes' sizes down if they are larger than ever."""
        sizes: dict[str, int] = {}
        for pid in (self.folder / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):  # it ended
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
                found = re.search(r"^Pss:\s+([0-9]+) kB$", rollup, re.MULTILINE)
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                name = _name(command)
                sizes[name] = sizes.get(name, 0) + (int(found[1]) * 1024 if found else 0)
        if sum(sizes.values()) > self.peak_pss_bytes:
            self.peak_pss_bytes, self.at_peak = sum(sizes.values()), sizes

    def text(self) -> str:
        """What was measured, in one line."""
        parts = ", ".join(f"{name} {size / 2**20:.0f}" for name, size in sorted(self.at_peak.items()))
        return (
            f"limit {self.limit_bytes / 2**20:.0f} MB; most at once {self.peak_pss_bytes / 2**20:.0f} MB of processes"
            f" ({parts}), {self.peak_bytes / 2**20:.0f} MB with page cache; killed: {self.killed}"
        )


@contextlib.contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup | None]:
    """A group of this size while the context lasts; None where none can be made. Its processes must have ended then."""
    folder = _make(limit_bytes)
    if folder is None:
        yield None
        return
    group = MemoryGroup(folder, limit_bytes)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_S):
            group.look()

    thread = threading.Thread(target=watch, name="memory-group", daemon=True)
    thread.start()
    try:
        yield group
    finally:
        ended.set()
        thread.join()
        ends = time.monotonic() + 20
        while (folder / "cgroup.procs").read_text().strip() and time.monotonic() < ends:
            time.sleep(0.1)
        folder.rmdir()


def _make(limit_bytes: int) -> Path | None:
    ways = (
        (_V1, "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit_bytes),
        (_V2, "memory.max", "memory.swap.max", 0),
    )
    for parent, limit, swap, most_bytes in ways:
        folder = parent / f"sitecam-test-{secrets.token_hex(4)}"
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / limit).exists():
            try:
                (folder / limit).write_text(str(limit_bytes))
                if (folder / swap).exists():
                    (folder / swap).write_text(str(most_bytes))
            except OSError:
                folder.rmdir()
                continue
            return folder
        folder.rmdir()
    return None


def _name(command: str) -> str:
    for name, sign in (
        ("impulse", ".eim"),
        ("camera", "appliance.cli"),
        ("supernode", "flower-supernode"),
        ("night", "trainer."),
    ):
        if sign in command:
            return name
    return "other"
