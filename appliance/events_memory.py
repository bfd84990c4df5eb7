"""The events that are at hand, and what is new about them since they were last written; all of it within bounds.

Nothing here locks, waits or touches the disk: :class:`appliance.events.EventLog` does, around every call.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from appliance.events_record import Change, Event, Vote
from appliance.frame import Frame
from appliance.vision import encode_jpeg

logger = logging.getLogger(__name__)

AT_HAND = 500  # events in memory

_MOST_UNWRITTEN = 200  # events that wait for a disk that takes nothing
_MOST_PICTURES = 10  # of which so many keep their snapshot: each is a few hundred kilobytes
_MOST_NEWS = 5 * _MOST_UNWRITTEN


@dataclass
class Unwritten:
    """What is new about an event since it was last written.

    Attributes:
        event: As it is now; None where only its trail or picture grew.
        votes: New steps of its trail.
        frame: The frame that shows it best, not encoded yet.
        jpeg: A new snapshot.
        late: It could not be written when it was new; listeners have heard of it from memory.
    """

    event: Event | None = None
    votes: list[Vote] = field(default_factory=list)
    frame: Frame | None = None
    jpeg: bytes | None = None
    late: bool = False

    def encode(self) -> None:
        """Make the snapshot of the frame; takes a while."""
        frame, self.frame = self.frame, None
        if frame is None:
            return
        try:
            self.jpeg = encode_jpeg(frame.pixels)
        except (OSError, ValueError) as error:
            logger.error("A snapshot could not be made (%s); its event goes without", error)


class EventMemory:
    """Events in memory.

    Attributes:
        events: By id, oldest first.
        unwritten: What is new, by event id.
        news: What listeners have not heard yet, in order.
        lost: Events that were never written, because too many waited.
    """

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}
        self.unwritten: dict[str, Unwritten] = {}
        self.news: deque[tuple[Event, Change]] = deque(maxlen=_MOST_NEWS)
        self.lost = 0
        self._deleted: set[str] = set()

    def load(self, stored: Sequence[Event]) -> None:
        """Have what is on the disk at hand too, below what is newer.

        Args:
            stored: Newest first.
        """
        self.events = {event.id: event for event in reversed(stored)} | self.events

    def put(self, event: Event) -> None:
        """Add an event, or say how a known one goes on; one that was deleted stays away."""
        if event.id in self._deleted:
            return
        known = self.events.get(event.id)
        if known is None:
            self.news.append((event, "began"))
        else:  # whoever reports it doesn't know what people have said of it
            event = dataclasses.replace(
                event,
                snapshot=known.snapshot,
                acknowledged_by=known.acknowledged_by,
                acknowledged_utc=known.acknowledged_utc,
                false=known.false,
            )
        if event.ended_utc is not None and (known is None or known.ended_utc is None):
            self.news.append((event, "ended"))
        self.events[event.id] = event
        self.unwritten.setdefault(event.id, Unwritten()).event = event
        self._forget_one()

    def witness(self, event_id: str, votes: Sequence[Vote], best: Frame | None) -> None:
        """Add to an event's trail; a better frame takes the place of one that waits."""
        if event_id in self._deleted:
            return
        new = self.unwritten.setdefault(event_id, Unwritten())
        new.votes.extend(votes)
        new.frame = best or new.frame

    def note(self, said: Event, changes: Sequence[Change]) -> Event:
        """What a person said of an event, as the disk has it; return the event as it is now."""
        event = said
        if said.id in self.events:
            event = self.events[said.id] = dataclasses.replace(
                self.events[said.id],
                acknowledged_by=said.acknowledged_by,
                acknowledged_utc=said.acknowledged_utc,
                false=said.false,
            )
        self.news.extend((event, change) for change in changes)
        return event

    def take(self) -> dict[str, Unwritten]:
        """What is new of known events, to be written; it is the caller's then."""
        taken = {key: each for key, each in self.unwritten.items() if key in self.events or each.event}
        for key in taken:
            del self.unwritten[key]
        return taken

    def take_news(self) -> list[tuple[Event, Change]]:
        """What listeners must hear of; it is the caller's then."""
        news = list(self.news)
        self.news.clear()
        return news

    def take_back(self, refused: dict[str, Unwritten]) -> None:
        """Keep what the disk refused, within bounds."""
        for event_id, older in refused.items():
            newer = self.unwritten.pop(event_id, Unwritten())
            self.unwritten[event_id] = Unwritten(
                newer.event or older.event,
                older.votes + newer.votes,
                newer.frame,
                older.jpeg,
                late=True,
            )
        for event_id in list(self.unwritten)[:-_MOST_UNWRITTEN]:
            del self.unwritten[event_id]
            self.lost += 1
        for each in [each for each in self.unwritten.values() if each.jpeg is not None][:-_MOST_PICTURES]:
            each.jpeg = None

    def has_pictures(self, changes: dict[str, Unwritten]) -> None:
        """Snapshots were made of these events."""
        for event_id, each in changes.items():
            if each.jpeg is not None and event_id in self.events:
                self.events[event_id] = dataclasses.replace(self.events[event_id], snapshot=True)

    def waiting(self) -> list[Event]:
        """Events that changed and are not written yet, newest first."""
        return [event for event in reversed(self.events.values()) if self._waits(event.id)]

    def merged(
        self, stored: Sequence[Event], *, before: str | None, kind: str | None, open_only: bool, count: int
    ) -> list[Event]:
        """What was found on the disk as it is now, below those that are in memory only; newest first.

        Args:
            stored: What the disk has, asked with the same ``before``, ``kind``, ``open_only`` and ``count``.
        """
        waiting = self.waiting()
        ids = [event.id for event in waiting]
        if before is not None:
            waiting = waiting[ids.index(before) + 1 :] if before in ids else []
        there = {event.id for event in stored}
        newest = [
            event
            for event in waiting
            if event.id not in there and kind in (None, event.kind) and not (open_only and event.acknowledged_utc)
        ]
        return (newest + [self.events.get(event.id, event) for event in stored])[:count]

    def touching(self, begin_utc: datetime, end_utc: datetime) -> list[Event]:
        """Events that touch [begin, end); what lasts does so until now."""
        now = datetime.now(UTC)
        return [
            event
            for event in self.events.values()
            if event.began_utc < end_utc and max(event.began_utc, event.ended_utc or now) >= begin_utc
        ]

    def forget(self, gone: Collection[str], *, for_good: bool) -> None:
        """Let go of events.

        Args:
            gone: Their ids.
            for_good: Whatever is still reported of them is dropped too.
        """
        for event_id in gone:
            self.events.pop(event_id, None)
            self.unwritten.pop(event_id, None)
        if for_good:
            self._deleted.update(gone)
            self.news = deque((each for each in self.news if each[0].id not in gone), maxlen=_MOST_NEWS)

    def _waits(self, event_id: str) -> bool:
        new = self.unwritten.get(event_id)
        return new is not None and new.event is not None

    def _forget_one(self) -> None:
        """Only what has ended: how one that lasts goes on is still to come."""
        if len(self.events) > AT_HAND:
            ended = next((key for key, event in self.events.items() if event.ended_utc is not None), None)
            if ended is not None:
                del self.events[ended]
