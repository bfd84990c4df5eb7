"""How much memory each of Sitecam's processes takes on this machine, and whether a night fits beside the day."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from appliance.system import SystemState

NIGHT_BYTES = 320 * 2**20  # measured: up to 314 MB for all of a night's processes
# What a process is, by its command line; the first that fits.
_KINDS = (
    ("impulse", re.compile(r"\.eim(\s|$)")),
    ("camera", re.compile(r"(appliance\.cli|/sitecam)\s(.*\s)?camera(\s|$)")),
    ("night", re.compile(r"trainer\.(night|wire|executor)|sitecam-night|flower-supernode")),
    ("superlink", re.compile(r"flower-superlink|flower-superexec|flwr-|server\.rounds")),
    ("fleet page", re.compile(r"server\.fleet\.cli|sitecam-fleet")),
    ("round", re.compile(r"server\.cli round|sitecam-server\s.*\bround\b")),
    ("proxy", re.compile(r"nginx.*sitecam|nginx: worker")),
)
_OURS = re.compile(r"sitecam-[a-z]+\.service")
_SIZE = re.compile(r"^(Rss|Pss|Swap):\s+([0-9]+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Footprint:
    """One process.

    Attributes:
        kind: ``camera``, ``impulse``, ``night`` and so on.
        pid: Its number.
        rss_bytes: In memory, shared pages counted whole.
        pss_bytes: Likewise, shared pages divided among those who share them; None where the kernel doesn't let us see.
        swap_bytes: Swapped out; None likewise.
        unit: The systemd unit that it belongs to; empty for none.
        limit_bytes: The unit's ``MemoryMax=``; None for none.
    """

    kind: str
    pid: int
    rss_bytes: int
    pss_bytes: int | None = None
    swap_bytes: int | None = None
    unit: str = ""
    limit_bytes: int | None = None


def footprints(root: Path = Path("/")) -> list[Footprint]:
    """Every process of Sitecam's, the largest first; those that end meanwhile are left out."""
    found = []
    for folder in (root / "proc").iterdir():
        if folder.name.isdecimal():
            process = _of(folder, root)
            if process is not None:
                found.append(process)
    return sorted(found, key=lambda each: -(each.pss_bytes or each.rss_bytes))


def text(found: list[Footprint], state: SystemState) -> str:
    """A table for a terminal of 80 columns, and what it means."""
    lines = [f"{'process':<12}{'pid':>8}{'memory':>10}{'alone':>10}{'swapped':>10}   unit, limit"]
    for each in found:
        limit = f", {_mb(each.limit_bytes)}" if each.limit_bytes else ""
        lines.append(
            f"{each.kind:<12}{each.pid:>8}{_mb(each.rss_bytes):>10}{_mb(each.pss_bytes):>10}{_mb(each.swap_bytes):>10}"
            f"   {each.unit or '-'}{limit}"
        )
    if not found:
        lines.append("none of Sitecam's processes runs")
    total = sum(each.pss_bytes or each.rss_bytes for each in found)
    lines.append(f"{'all':<12}{'':>8}{'':>10}{_mb(total):>10}")
    free = state.memory_and_swap_free_bytes
    if free is not None and state.memory_size_bytes is not None:
        lines.append(
            f"The board has {_mb(state.memory_size_bytes)}; {_mb(state.memory_free_bytes)} and"
            f" {_mb(state.swap_free_bytes or 0)} of swap are free."
        )
        if not any(each.kind == "night" for each in found):
            fits = "fits" if free >= NIGHT_BYTES else "does not fit, and waits"
            lines.append(f"A night takes up to {_mb(NIGHT_BYTES)}: it {fits} beside what runs now.")
    if any(each.pss_bytes is None for each in found):
        lines.append("Of other users' processes only `memory` can be seen; run it with sudo for the rest.")
    return "\n".join(lines)


def _of(folder: Path, root: Path) -> Footprint | None:
    try:
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        group = (folder / "cgroup").read_text(encoding="utf-8", errors="replace").strip()
        status = (folder / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None  # it ended, or is hidden from us
    unit = next(iter(_OURS.findall(group)), "")
    kind = next((kind for kind, form in _KINDS if form.search(command)), "")
    resident = re.search(r"^VmRSS:\s+([0-9]+) kB$", status, re.MULTILINE)
    if resident is None or not (kind or unit):
        return None
    if not unit and kind in ("proxy",) and "sitecam" not in command:
        return None  # somebody else's nginx
    try:
        sizes = dict(_SIZE.findall((folder / "smaps_rollup").read_text(encoding="ascii")))
    except OSError:
        sizes = {}
    return Footprint(
        kind=kind or unit.removeprefix("sitecam-").removesuffix(".service"),
        pid=int(folder.name),
        rss_bytes=int(resident[1]) * 1024,
        pss_bytes=int(sizes["Pss"]) * 1024 if "Pss" in sizes else None,
        swap_bytes=int(sizes["Swap"]) * 1024 if "Swap" in sizes else None,
        unit=unit,
        limit_bytes=_limit(group, root),
    )


def _limit(group: str, root: Path) -> int | None:
    """The memory limit of a process's control group (cgroup v2)."""
    path = next((line[3:] for line in group.splitlines() if line.startswith("0::")), "")
    try:
        said = (root / "sys/fs/cgroup" / path.strip("/") / "memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(said) if said.isdecimal() else None


def _mb(size_bytes: int | None) -> str:
    return "?" if size_bytes is None else f"{size_bytes / 2**20:.0f} MB"
