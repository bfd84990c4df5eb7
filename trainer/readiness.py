"""Is tonight a good night? Heat, power, clock, memory and disk, before a night begins and while it goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance.config import Settings
from appliance.errors import NightError
from appliance.night_status import read_night_status
from appliance.night_window import window_at
from appliance.paths import CameraPaths
from appliance.system import System, SystemState

# The board slows itself down from 80 degrees on; a night that makes it get there would slow the live loop down too.
BEGIN_BELOW_C = 70.0
PAUSE_FROM_C = 75.0
END_FROM_C = 80.0
NEEDED_BYTES = 320 * 2**20  # of memory and swap; measured: up to 314 MB for all of a night's processes
_DISK_BYTES = 200 * 2**20  # features of new frames, a version's parts, Flower's own files
_OWN_BYTES = 480 * 2**20  # MemoryMax= of the unit, for kernels that don't count memory
_LEFT_BYTES = 40 * 2**20  # of memory and swap; with less the live loop is next
_STEP_S = 10.0  # between two looks while a night goes on
_SYNCHRONISED = Path("run/systemd/timesync/synchronized")
_EARLIEST_YEAR = 2026  # a Pi without a network boots in the past


@dataclass(frozen=True)
class Objection:
    """Why a night should not begin now.

    Attributes:
        what: One sentence without its full stop.
        do: What somebody can do about it; empty where nobody needs to.
    """

    what: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.what}. {self.do}{'.' if self.do else ''}".strip()


def objections(state: SystemState, now_utc: datetime, *, root: Path = Path("/")) -> list[Objection]:
    """All that speaks against beginning a night on a machine in this state.

    Args:
        state: The machine's.
        now_utc: Timezone-aware.
        root: Where ``/run`` is; another folder in tests.
    """
    found = [*_hot(state), *_power(state)]
    clock = _clock(now_utc, root)
    if clock:
        found.append(clock)
    free = state.memory_and_swap_free_bytes
    if free is not None and free < NEEDED_BYTES:
        found.append(
            Objection(
                f"{free // 2**20} MB of memory and swap are free, and a night needs {NEEDED_BYTES // 2**20} MB",
                "End other programs, or give the board compressed swap: sudo apt install zram-tools",
            )
        )
    if state.disk_free_bytes is not None and state.disk_free_bytes < _DISK_BYTES:
        found.append(
            Objection(f"{state.disk_free_bytes // 2**20} MB of disk are free", "Delete frames, or use a larger card")
        )
    return found


def not_now(settings: Settings, now_utc: datetime) -> str:
    """Why no night may be on at this moment, in a sentence: it is day, or tonight's is over. Empty where one may.

    Args:
        settings: The camera's.
        now_utc: Timezone-aware.
    """
    night, zone = settings.night, settings.page.time_zone
    window = window_at(now_utc, night.begins, night.ends, zone)
    if window is None:
        return f"It is day: nights are from {night.begins} to {night.ends} ({zone})."
    last = read_night_status(CameraPaths(settings.state_dir).night_status)
    if last.phase == "done" and last.updated_utc is not None and last.updated_utc >= window.begins_utc:
        return f"Tonight's night is over: {last.message}"
    return ""


def left_s(settings: Settings, now_utc: datetime) -> float | None:
    """Seconds until this night's window ends; None by day."""
    window = window_at(now_utc, settings.night.begins, settings.night.ends, settings.page.time_zone)
    return None if window is None else (window.ends_utc - now_utc).total_seconds()


def memory_of(pid: int, root: Path = Path("/")) -> int:
    """Bytes of memory of a process and of all that it started; what several share counts once (PSS, proc(5))."""
    parents = {}
    for stat in (root / "proc").glob("[0-9]*/stat"):
        fields = _text(stat).rpartition(")")[2].split()
        if fields:
            parents[int(stat.parent.name)] = int(fields[1])
    family: set[int] = set()
    fresh = {pid}
    while fresh:
        family |= fresh
        fresh = {child for child, parent in parents.items() if parent in fresh} - family
    lines = (line for each in family for line in _text(root / f"proc/{each}/smaps_rollup").splitlines())
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


class Care:
    """Looks after the board while a night goes on: no new work while it is hot, the end where it gets too hot.

    Args:
        system: Looks at the machine.
        say: Told what it waits for, in a sentence.
        wait: Waits so many seconds, or less if the night shall end.
        own_bytes: The memory that the night's processes have.
        clock: Seconds that only rise.
    """

    def __init__(
        self,
        system: System,
        *,
        say: Callable[[str], None],
        wait: Callable[[float], object],
        own_bytes: Callable[[], int] = lambda: memory_of(os.getpid()),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self._say, self._wait, self._clock = system.look, say, wait, clock
        self._own_bytes = own_bytes
        self._next_look_s = clock() + _STEP_S

    def step(self, going: Callable[[], bool]) -> None:
        """Look every ten seconds; where the board is hot, return once it has cooled down or the night is over.

        Raises:
            NightError: It is too hot, its power too weak, or its memory too short to go on.
        """
        if self._clock() < self._next_look_s:
            return
        state = self._looked()
        if _heat(state) < PAUSE_FROM_C:
            return
        while going() and _heat(state) >= BEGIN_BELOW_C:
            self._say(f"Paused: the board is {_heat(state):.0f} °C hot. It goes on below {BEGIN_BELOW_C:.0f} °C.")
            self._wait(_STEP_S)
            state = self._looked()
        self._say("Waiting for the server")

    def _looked(self) -> SystemState:
        state = self._look()
        self._next_look_s = self._clock() + _STEP_S
        if _heat(state) >= END_FROM_C:
            raise NightError(
                f"The board is {_heat(state):.0f} °C hot",
                means="Tonight's training ends, so that the live loop is not slowed down",
                do="Cool or shade it; it is tried again within this night's window",
            )
        if state.throttling is not None and "under-voltage" in state.throttling.now:
            raise NightError(
                "The power supply is too weak right now",
                means="Tonight's training ends: a board that loses power may lose its card",
                do="Use the board's own supply, and a short cable",
            )
        self._check_memory(state)
        return state

    def _check_memory(self, state: SystemState) -> None:
        free, own = state.memory_and_swap_free_bytes, self._own_bytes()
        if own > _OWN_BYTES:
            what = f"The night's programs have grown to {own // 2**20} MB of memory"
        elif free is not None and free < _LEFT_BYTES:
            what = f"Only {free // 2**20} MB of memory and swap are left"
        else:
            return
        raise NightError(
            what,
            means="Tonight's training ends, so that the live loop keeps its memory",
            do="End other programs, or give the board compressed swap: sudo apt install zram-tools",
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # that process has just ended
        return ""


def _heat(state: SystemState) -> float:
    """Degrees Celsius where a Pi's limits count; a laptop's are others, and it looks after itself."""
    return state.temperature_c or 0.0 if state.is_pi else 0.0


def _hot(state: SystemState) -> list[Objection]:
    if _heat(state) < BEGIN_BELOW_C:
        return []
    what = f"The board is {_heat(state):.0f} °C hot, and a night begins below {BEGIN_BELOW_C:.0f} °C"
    return [Objection(what, "Cool or shade it")]


def _power(state: SystemState) -> list[Objection]:
    if state.throttling is None:
        return []
    found = []
    if "under-voltage" in state.throttling.now:
        found.append(
            Objection("The power supply is too weak right now", "Use the board's own supply, and a short cable")
        )
    held = [kind for kind in state.throttling.now if kind != "under-voltage"]
    if held:
        found.append(Objection(f"The board holds itself back right now ({', '.join(held)})", "Cool or shade it"))
    return found


def _clock(now_utc: datetime, root: Path) -> Objection | None:
    """A clock that was never set would be refused by the server, minutes later and less clearly."""
    if now_utc.year < _EARLIEST_YEAR:
        return Objection(
            f"The clock says {now_utc:%Y-%m-%d}, so it was never set",
            "Let this machine reach a time server; timedatectl says whether it does",
        )
    daemon = root / _SYNCHRONISED.parent
    if daemon.is_dir() and not (root / _SYNCHRONISED).exists():  # other time services don't say it there
        return Objection(
            "The clock was not set by a time server since the start",
            "Let this machine reach a time server; timedatectl says whether it does",
        )
    return None
