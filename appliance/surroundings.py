"""What is around the live loop and takes longer to find out: machine, store, queue, neighbours, plan."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from appliance.errors import SitecamError
from appliance.status import Neighbour, QueueState, StoreState
from appliance.system import SystemState

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Surroundings:
    """What was found last; None where nobody has looked yet, or it could not be found out.

    Attributes:
        system: The machine.
        store: The frame store.
        queue: What waits for a person.
        neighbours: Who is told of events.
        tonight: The plan, in a sentence.
        recorder: Which live frames are kept, in a sentence.
    """

    system: SystemState | None = None
    store: StoreState | None = None
    queue: QueueState | None = None
    neighbours: tuple[Neighbour, ...] = ()
    tonight: str = ""
    recorder: str = ""


@dataclass(frozen=True)
class Sources:
    """Whom to ask; each may take some time, and may fail, which costs its own part only.

    Attributes:
        system: The machine; :meth:`appliance.system.System.look`.
        store: The frame store.
        queue: What waits for a person.
        neighbours: Who is told of events.
        tonight: The plan; :func:`appliance.night_plan.tonight`.
        recorder: Which live frames are kept.
    """

    system: Callable[[], SystemState | None] = lambda: None
    store: Callable[[], StoreState | None] = lambda: None
    queue: Callable[[], QueueState | None] = lambda: None
    neighbours: Callable[[], tuple[Neighbour, ...]] = tuple
    tonight: Callable[[], str] = str
    recorder: Callable[[], str] = str

    def look(self) -> Surroundings:
        """Ask everybody."""
        return Surroundings(
            system=_asked("the machine", self.system, None),
            store=_asked("the store", self.store, None),
            queue=_asked("the queue", self.queue, None),
            neighbours=_asked("neighbours", self.neighbours, ()),
            tonight=_asked("tonight's plan", self.tonight, ""),
            recorder=_asked("the recorder", self.recorder, ""),
        )


def _asked(what: str, source: Callable[[], T], instead: T) -> T:
    try:
        return source()
    except (SitecamError, OSError) as error:
        logger.warning("The status lacks %s: %s", what, error)
        return instead
