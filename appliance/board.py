"""What a board is, and what the model takes on it: how long for a picture, how much memory, how large a file.

Nothing is measured here but memory: how long a picture takes, the live loop knows, and writes into the camera's status
file. A second model that was started to measure would slow the first one down and take the night's memory.
"""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from appliance.status import Status
from appliance.status_file import read_status
from appliance.system import System, SystemState

_LONGEST = 100  # characters of a name
_SIZES = re.compile(r"^(Rss|Pss):\s+([0-9]+) kB$", re.MULTILINE)
_IMPULSE = re.compile(r"\.eim(\s|$)")


@dataclass(frozen=True)
class Board:
    """A board and its model; None for what it doesn't tell.

    Attributes:
        name: "Raspberry Pi 4 Model B Rev 1.5", else the processor's name.
        machine: Its architecture, as ``uname -m`` says it.
        cores: Of the processor.
        memory_bytes: All of it.
        threads: CPU threads for one inference.
        inference_ms: Median of the live loop's last answers, from picture to scores.
        impulse_bytes: Memory of the ``.eim`` process; pages that others use too count in part (PSS).
        file_bytes: Size of the ``.eim``.
    """

    name: str
    machine: str
    cores: int | None = None
    memory_bytes: int | None = None
    threads: int = 1
    inference_ms: float | None = None
    impulse_bytes: int | None = None
    file_bytes: int | None = None

    @staticmethod
    def of(body: Mapping[str, Any]) -> Board:
        """Read what ``dataclasses.asdict`` made, maybe on a camera of another release.

        Raises:
            ValueError: It is no board.
            KeyError: Likewise.
            TypeError: Likewise.
            AttributeError: Likewise.
        """
        return Board(
            name=str(body["name"])[:_LONGEST],
            machine=str(body["machine"])[:_LONGEST],
            cores=_whole(body.get("cores")),
            memory_bytes=_whole(body.get("memory_bytes")),
            threads=int(body["threads"]),
            inference_ms=_amount(body.get("inference_ms")),
            impulse_bytes=_whole(body.get("impulse_bytes")),
            file_bytes=_whole(body.get("file_bytes")),
        )


def this_board(system: SystemState) -> Board:
    """The machine that this runs on, without a model."""
    name = system.board or _processor() or platform.machine()
    return Board(name[:_LONGEST], platform.machine(), system.cores, system.memory_size_bytes)


def camera_board(state_dir: Path, eim: Path | None, *, threads: int) -> Board:
    """A camera's board, with what its camera process says of itself; without that where it doesn't run.

    Args:
        state_dir: The camera's state folder.
        eim: The ``.eim`` that should run; None where none does.
        threads: CPU threads for one inference.
    """
    status = read_status(state_dir)
    system = status.system if status is not None and status.system is not None else System(state_dir).look()
    size = eim.stat().st_size if eim is not None and eim.exists() else None
    board = replace(this_board(system), threads=threads, file_bytes=size)
    if status is None or not status.alive:
        return board
    pid = impulse_pid(status)
    memory = None if pid is None else memory_of(pid)
    return replace(board, inference_ms=status.loop.inference_ms or None, impulse_bytes=memory[0] if memory else None)


def _amount(value: Any) -> float | None:
    if value is None:
        return None
    amount = float(value)
    if not (math.isfinite(amount) and amount >= 0):
        raise ValueError(f"{value!r} is no amount")
    return amount


def _whole(value: Any) -> int | None:
    amount = _amount(value)
    return None if amount is None else int(amount)


def _processor() -> str:
    """What the processor calls itself; empty where the kernel doesn't tell, as on ARM."""
    found = re.search(r"^model name\s*:\s*(.+)$", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    return found[1].strip() if found else ""


# What a camera's live loop takes


def impulse_pid(status: Status, root: Path = Path("/")) -> int | None:
    """The process of the ``.eim`` that a camera process has started; the oldest, while a newer one is on trial.

    None where it can't be seen.
    """
    parents, impulses = {}, []
    for folder in (root / "proc").iterdir():
        if not folder.name.isdecimal():
            continue
        fields = _text(folder / "stat").rpartition(")")[2].split()
        if len(fields) < 20:
            continue  # it has ended
        pid = int(folder.name)
        parents[pid] = int(fields[1])
        if _IMPULSE.search(_text(folder / "cmdline").replace("\0", " ")):
            impulses.append((int(fields[19]), pid))
    return next((pid for _, pid in sorted(impulses) if _descends(pid, status.process.pid, parents)), None)


def memory_of(pid: int, root: Path = Path("/")) -> tuple[int, int] | None:
    """What a process has in memory, bytes: shared pages divided among those who share them (PSS), and whole (RSS).

    None where it has ended, or the kernel doesn't let us see.
    """
    sizes = dict(_SIZES.findall(_text(root / f"proc/{pid}/smaps_rollup")))
    return (int(sizes["Pss"]) * 1024, int(sizes["Rss"]) * 1024) if sizes.keys() >= {"Pss", "Rss"} else None


def _descends(pid: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    seen = set()
    while pid in parents and pid not in seen:
        seen.add(pid)
        pid = parents[pid]
        if pid == ancestor:
            return True
    return False


def _text(path: Path) -> str:
    """A file of the kernel's; empty where it tells nothing: a process that ended, or another user's."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
