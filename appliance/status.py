"""Everything about a running camera in one tree: what the page, ``sitecam status`` and ``/metrics`` tell.

Plain values, so that it can be written down; see :mod:`appliance.status_file`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance.system import SystemState

_LATE = 3  # a status so many times older than it should be: the process is there, but stuck
_LATE_S = 30.0


@dataclass(frozen=True)
class LoopState:
    """The live loop.

    Attributes:
        decisions_per_s: Over the last seconds.
        frames_dropped: Since the process's start.
        answers_failed: How often the model was asked and gave no answer, since then.
        inference_ms: Median of the running model's last answers; 0 before the first.
    """

    decisions_per_s: float = 0.0
    frames_dropped: int = 0
    answers_failed: int = 0
    inference_ms: float = 0.0


@dataclass(frozen=True)
class VerdictState:
    """On the newest version that came; as ``appliance.web.source.PageVerdict``."""

    version: int
    accepted: bool
    sentence: str
    at_utc: datetime
    quarantined: bool


@dataclass(frozen=True)
class ModelState:
    """The model that answers.

    Attributes:
        version: Which; None while none does.
        created_utc: When the fleet made it.
        since_utc: Since when it answers, in this process.
        accepted: Versions that earned their place on this camera so far.
        refused: Versions that did not, and are kept out.
        waiting: Versions that something else stood in the way of.
        verdict: On the newest version that came.
        trial: A version on its way into the loop, in words.
    """

    version: int | None = None
    created_utc: datetime | None = None
    since_utc: datetime | None = None
    accepted: int = 0
    refused: int = 0
    waiting: int = 0
    verdict: VerdictState | None = None
    trial: str | None = None


@dataclass(frozen=True)
class StoreState:
    """The frame store.

    Attributes:
        size_bytes: Pictures, thumbnails and features together.
        budget_bytes: They stay below this.
        free_bytes: Of the disk.
        floor_bytes: So much of it stays free.
        state: ``ok``, ``purging`` or ``full``; see :class:`appliance.store.room.RoomState`.
        sentence: For a person.
        written_bytes: By the store, since the process's start.
    """

    size_bytes: int = 0
    budget_bytes: int = 0
    free_bytes: int = 0
    floor_bytes: int = 0
    state: str = "ok"
    sentence: str = ""
    written_bytes: int = 0


@dataclass(frozen=True)
class QueueState:
    """What waits for a person.

    Attributes:
        waiting: Frames in the store that nobody has labelled.
        asked: How many of them a day's queue asks for.
        done_today: Labelled today, on the site's clock.
    """

    waiting: int = 0
    asked: int = 0
    done_today: int = 0


@dataclass(frozen=True)
class NightState:
    """Tonight and last night.

    Attributes:
        phase: See :class:`appliance.night_status.NightStatus`.
        night: The last night's name.
        sentence: How it went, or goes.
        at_utc: When that was written.
        up_bytes: What left this camera in the last night that ended, everything on the wire counted.
        down_bytes: What came to it.
        tonight: The plan.
    """

    phase: str = "idle"
    night: str | None = None
    sentence: str = ""
    at_utc: datetime | None = None
    up_bytes: int = 0
    down_bytes: int = 0
    tonight: str = ""


@dataclass(frozen=True)
class Neighbour:
    """Somebody who is told of events: an MQTT broker, a webhook's server.

    Attributes:
        name: ``mqtt``, ``webhook``.
        ok: Whether it takes what it is sent.
        sentence: For a person.
        sent: Messages it took, since the process's start.
        waiting: Messages that wait for it.
        dropped: Messages that it never got, since then.
    """

    name: str
    ok: bool
    sentence: str
    sent: int = 0
    waiting: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class ConditionState:
    """Pictures come, but are worth little; as ``appliance.web.source.PageCondition``."""

    kind: str
    sentence: str
    since_utc: datetime


@dataclass(frozen=True)
class ProcessState:
    """The camera process.

    Attributes:
        pid: Its number.
        started_ticks: When the kernel started it, clock ticks after the machine's start: tells it from a later process
            of the same number.
        started_utc: By the clock.
        release: Of Sitecam.
    """

    pid: int
    started_ticks: int
    started_utc: datetime
    release: str


@dataclass(frozen=True)
class Status:
    """A running camera. Times are timezone-aware UTC.

    Attributes:
        camera: Its name.
        fleet: The fleet's.
        written_utc: When this was true.
        every_s: So often it is written.
        process: The process that wrote it.
        ended_utc: When that process ended in order; None while it runs, or where it was killed.
        page: The page's address.
        viewers: Who watch the live picture now.
        faults: Why nobody is watching, in sentences; empty where all is well.
        conditions: Pictures come, but are worth little.
        alarm: The event that lasts, in words.
        loop: The live loop.
        model: The model that answers.
        system: The machine; None where nobody has looked yet.
        store: The frame store; likewise.
        queue: What waits for a person; likewise.
        night: Tonight and last night.
        neighbours: Who is told of events.
        recorder: Which live frames are kept, in a sentence.
        written_bytes: What the camera process made the disk write since its start; None where the kernel keeps no
            books.
        written_per_day_bytes: At the pace of the last day, or since the start; None before an hour has passed.
    """

    camera: str
    fleet: str
    written_utc: datetime
    every_s: float
    process: ProcessState
    ended_utc: datetime | None = None
    page: str = ""
    viewers: int = 0
    faults: tuple[str, ...] = ()
    conditions: tuple[ConditionState, ...] = ()
    alarm: str | None = None
    loop: LoopState = LoopState()
    model: ModelState = ModelState()
    system: SystemState | None = None
    store: StoreState | None = None
    queue: QueueState | None = None
    night: NightState = NightState()
    neighbours: tuple[Neighbour, ...] = ()
    recorder: str = ""
    written_bytes: int | None = None
    written_per_day_bytes: int | None = None

    @property
    def alive(self) -> bool:
        """Whether the process that wrote it is still there."""
        return self.ended_utc is None and started_ticks(self.process.pid) == self.process.started_ticks

    def late_s(self, now: datetime) -> float:
        """How much older than it should be; 0 where it isn't."""
        age_s = (now - self.written_utc).total_seconds()
        return age_s if age_s > max(_LATE_S, _LATE * self.every_s) else 0.0


def warnings(status: Status) -> tuple[str, ...]:
    """What does not stop the watch, but somebody should know."""
    found = [condition.sentence for condition in status.conditions]
    found += status.system.warnings if status.system else ()
    if status.store is not None and status.store.state == "full":
        found.append(status.store.sentence)
    found += [neighbour.sentence for neighbour in status.neighbours if not neighbour.ok]
    return tuple(found)


def started_ticks(pid: int) -> int | None:
    """When the kernel started a process, clock ticks after the machine's start; None where there is no such process.

    Field 22 of ``/proc/<pid>/stat`` (proc(5)); the name before it may hold spaces and brackets. A zombie is no process.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])
