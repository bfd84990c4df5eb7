"""The seam to the live loop: what the page shows, and where it gets it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from appliance.events import Event
from appliance.frame import Decision, Frame
from appliance.night_status import IDLE, NightStatus
from appliance.status import Neighbour, QueueState, StoreState
from appliance.system import SystemState


@dataclass(frozen=True)
class PageVerdict:
    """What became of the last version that came.

    Attributes:
        version: Which.
        accepted: Whether it earned its place.
        sentence: Why (not), for a person.
        at_utc: When, timezone-aware UTC.
        state: The swap's state in which it was decided.
        quarantined: Whether the version itself was at fault and is kept out until a person says otherwise.
    """

    version: int
    accepted: bool
    sentence: str
    at_utc: datetime
    state: str = ""
    quarantined: bool = False


@dataclass(frozen=True)
class PageTrial:
    """A version on its way into the loop.

    Attributes:
        version: Which.
        state: Where it stands; see :mod:`appliance.models.trial`.
    """

    version: int
    state: str


@dataclass(frozen=True)
class PageCondition:
    """Pictures come, but are worth little.

    Attributes:
        kind: ``dark``, ``frozen`` or ``slow``.
        sentence: For a person.
        since_utc: When it began, timezone-aware UTC.
    """

    kind: str
    sentence: str
    since_utc: datetime


@dataclass(frozen=True)
class ModelChange:
    """A version took over.

    Attributes:
        version: Which.
        since_utc: When, timezone-aware UTC.
    """

    version: int
    since_utc: datetime


@dataclass(frozen=True)
class PageStatus:
    """Everything on the page but the picture and its scores.

    Attributes:
        camera: Its name.
        fleet: The fleet's name; empty before enrolment.
        labels: What the model tells apart, in the order in which the page lists them.
        model_version: The version that answers; None while none does.
        model_since_utc: Since when, timezone-aware UTC.
        decisions_per_s: Over the last seconds.
        frames_dropped: Since the start.
        camera_fault: What is wrong with the camera, for a person; None while it works.
        model_fault: Likewise for the model.
        night: How the night goes.
        last_verdict: On the newest version that came; None before the first.
        history: Versions that ran here, newest first; a handful is enough.
        conditions: What is wrong with the pictures that come.
        trial: A version on its way into the loop.
        alarm: The event that lasts: somebody must hear of it now.
        events: The last ones, newest first.
        system: The machine; None where nobody has looked yet.
        store: The frame store; likewise.
        queue: What waits for a person; likewise.
        neighbours: Who is told of events.
        tonight: The plan, in a sentence.
        recorder: Which live frames are kept, in a sentence.
    """

    camera: str
    fleet: str = ""
    labels: tuple[str, ...] = ()
    model_version: int | None = None
    model_since_utc: datetime | None = None
    decisions_per_s: float = 0.0
    frames_dropped: int = 0
    camera_fault: str | None = None
    model_fault: str | None = None
    night: NightStatus = IDLE
    last_verdict: PageVerdict | None = None
    history: tuple[ModelChange, ...] = ()
    conditions: tuple[PageCondition, ...] = ()
    trial: PageTrial | None = None
    alarm: Event | None = None
    events: tuple[Event, ...] = ()
    system: SystemState | None = None
    store: StoreState | None = None
    queue: QueueState | None = None
    neighbours: tuple[Neighbour, ...] = ()
    tonight: str = ""
    recorder: str = ""


class PageSource(Protocol):
    """What the page asks of the live loop. Both calls may come from several threads at once."""

    def newest(self, after_sequence: int, timeout_s: float) -> tuple[Frame, Decision | None] | None:
        """Wait for a frame newer than ``after_sequence`` (-1 takes any) and return the newest.

        Args:
            after_sequence: The last frame the caller has seen.
            timeout_s: How long to wait; 0 looks without waiting.

        Returns:
            The frame and what was made of it, None while no model answers; None if no newer frame came in time.
        """

    def status(self) -> PageStatus:
        """The state right now; returns at once."""
