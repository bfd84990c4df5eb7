"""The events that this camera has seen: at hand in memory at once, and on disk a moment later.

Whoever reports an event never waits for the disk: a thread of its own encodes snapshots, writes, and tells listeners.
While the disk takes nothing, events go on in memory, and are written once there is room.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from appliance.config import EventSettings
from appliance.errors import NotThereError, SitecamError, StoreError, StoreFullError
from appliance.events_memory import AT_HAND, EventMemory
from appliance.events_old import read_old_events
from appliance.events_record import SEEN, Change, Event, EventListener, Vote
from appliance.events_store import EventStore, checked_id, no_such
from appliance.frame import Frame

__all__ = ["SEEN", "Change", "Event", "EventListener", "EventLog", "Vote"]

logger = logging.getLogger(__name__)

_TRAIL_EVERY_S = 30.0  # a trail that grows is written so often, to spare the SD card
_AGAIN_S = 15.0  # until a disk that refused is tried again
_PURGE_EVERY_S = 3600.0


class EventLog:
    """A camera's events. Safe for several threads.

    Args:
        folder: Of the database and the snapshots. An ``events.jsonl`` beside it, which earlier releases wrote, is
            taken over and removed.
        settings: How long events stay; the usual where it is left out.
        on_false: Given the event and its snapshot when a person calls it false, before that is written down.
    """

    def __init__(
        self,
        folder: Path,
        settings: EventSettings | None = None,
        *,
        on_false: Callable[[Event, bytes], object] = lambda _event, _jpeg: None,
    ) -> None:
        self._folder = folder
        self._settings = settings or EventSettings()
        self._on_false = on_false
        self._listeners: list[EventListener] = []
        self._disk = threading.Lock()  # held while the thread writes and tells, and while a person deletes
        self._changed = threading.Condition()  # guards what follows
        self._memory = EventMemory()
        self._writing = 0
        self._urgent = False
        self._busy = False
        self._stopping = False
        self.fault: str | None = None
        self._store: EventStore | None = None
        self._next_try_s = self._next_purge_s = 0.0
        self._thread = threading.Thread(target=self._work, name="events", daemon=True)
        self._open()

    def tell(self, listener: EventListener) -> None:
        """Have a listener told of every change, also of what none has heard of yet. Call it before :meth:`start`."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Write to the disk from now on."""
        try:
            if self._store is not None and self._listeners:
                self._memory.news.extendleft(reversed(self._store.untold()))
        except StoreError as error:
            self._failed(error)
        self._urgent = True
        self._thread.start()

    def stop(self, *, deadline_s: float = 5.0) -> None:
        """Write what is left, and end."""
        with self._changed:
            self._stopping = True
            self._hurry()
        if self._thread.is_alive():
            self._thread.join(deadline_s)
        if self._thread.is_alive():
            logger.error("The events were not written within %g s", deadline_s)
        elif self._store is not None:
            self._store.close()

    @property
    def unwritten(self) -> int:
        """How many events have changed and are not on the disk yet."""
        with self._changed:
            return self._writing + len(self._memory.waiting())

    @property
    def lost(self) -> int:
        """Events that were never written, because too many waited for a disk that took nothing."""
        return self._memory.lost

    # From the live loop and its neighbours: these never wait for the disk

    def put(self, event: Event) -> None:
        """Add an event, or, if it is there already, say how it goes on: it has ended. Returns at once."""
        with self._changed:
            self._memory.put(event)
            self._hurry()

    def witness(self, event_id: str, votes: Sequence[Vote], best: Frame | None = None) -> None:
        """Add to an event's trail; give the frame that shows it best so far. Returns at once.

        What is known when an event begins may come just before the event itself.
        """
        with self._changed:
            best = best if self._settings.snapshots else None
            self._memory.witness(event_id, votes, best)
            if best is not None and event_id in self._memory.events:
                self._hurry()

    def recent(self, count: int) -> tuple[Event, ...]:
        """The newest events, newest first; from memory, so at most some hundred."""
        with self._changed:
            return tuple(reversed(list(self._memory.events.values())[-count:])) if count > 0 else ()

    # From the page: what a person does is on the disk when these return

    def event(self, event_id: str) -> Event:
        """One event.

        Raises:
            NotThereError: There is no such event.
            StoreError: The disk failed.
        """
        checked_id(event_id)
        with self._changed:
            if event_id in self._memory.events:
                return self._memory.events[event_id]
        if self._store is None:
            raise no_such(event_id)
        return self._store.event(event_id)

    def events(
        self, *, before: str | None = None, kind: str | None = None, open_only: bool = False, count: int = 50
    ) -> list[Event]:
        """Events, newest first; see :meth:`appliance.events_store.EventStore.events`.

        Raises:
            NotThereError: There is no event ``before``.
            StoreError: The disk failed.
        """
        if before is not None:
            checked_id(before)
        stored: list[Event] = []
        if self._store is not None:
            try:
                stored = self._store.events(before=before, kind=kind, open_only=open_only, count=count)
            except NotThereError:
                if before not in self._memory.events:
                    raise
                # After one that is in memory only, all that are on the disk come.
                stored = self._store.events(before=None, kind=kind, open_only=open_only, count=count)
        with self._changed:
            return self._memory.merged(stored, before=before, kind=kind, open_only=open_only, count=count)

    def trail(self, event_id: str) -> list[Vote]:
        """An event's trail in its order.

        Raises:
            NotThereError: There is no such event.
            StoreError: The disk failed.
        """
        self.event(event_id)
        with self._disk:  # else what is being written now would be in neither place
            stored = self._store.trail(event_id) if self._store is not None else []
            with self._changed:
                new = self._memory.unwritten.get(event_id)
                return stored + (list(new.votes) if new else [])

    def snapshot(self, event_id: str) -> bytes | None:
        """An event's picture as a JPEG file; None where there is none."""
        checked_id(event_id)
        with self._changed:
            new = self._memory.unwritten.get(event_id)
            if new is not None and new.jpeg is not None:
                return new.jpeg
        return self._store.snapshot(event_id) if self._store is not None else None

    def acknowledge(self, event_id: str, by: str) -> Event:
        """A person has taken note of an event; who was first stays.

        Raises:
            NotThereError: There is no such event.
            StoreError: It could not be written down.
        """
        return self._take_note(event_id, by, false=False)

    def mark_false(self, event_id: str, by: str) -> Event:
        """A person says that an event was none, which also acknowledges it; its snapshot goes to ``on_false``.

        Raises:
            NotThereError: There is no such event.
            StoreError: It, or the snapshot, could not be written down; it is not marked.
        """
        event, jpeg = self.event(event_id), self.snapshot(event_id)
        if jpeg is not None and not event.false:
            self._on_false(event, jpeg)
        return self._take_note(event_id, by, false=True)

    def _take_note(self, event_id: str, by: str, *, false: bool) -> Event:
        before = self.event(event_id)
        self._flush()
        if self._store is None or self.fault is not None:
            raise StoreFullError(
                "This can't be written down now",
                means=f"Nothing was changed. {self.fault or ''}".strip(),
                do="Try again",
            )
        event = self._store.take_note(event_id, by, datetime.now(UTC), false=false)
        changes: list[Change] = [] if before.acknowledged_utc else ["acknowledged"]
        if event.false and not before.false:
            changes.append("false")
        with self._changed:
            event = self._memory.note(event, changes)
            self._hurry()
        return event

    def delete(self, begin_utc: datetime, end_utc: datetime) -> int:
        """Delete every event that touches [begin, end), with trail and snapshot, for good; return how many.

        Listeners have dropped what they still wanted to send of them when this returns.

        Raises:
            StoreError: The disk refused; some may be deleted already.
        """
        with self._disk:
            with self._changed:
                gone = {event.id: event for event in self._memory.touching(begin_utc, end_utc)}
                self._memory.forget(gone.keys(), for_good=True)
            if self._store is not None:
                gone |= {event.id: event for event in self._store.delete_between(begin_utc, end_utc)}
            for event in gone.values():
                self._tell(event, "deleted")
        return len(gone)

    def count_between(self, begin_utc: datetime, end_utc: datetime) -> int:
        """How many events :meth:`delete` would delete now.

        Raises:
            StoreError: The disk failed.
        """
        with self._changed:
            found = {event.id for event in self._memory.touching(begin_utc, end_utc)}
        if self._store is not None:
            found |= self._store.ids_between(begin_utc, end_utc)
        return len(found)

    def size_bytes(self) -> int:
        """What all of it takes on the disk.

        Raises:
            StoreError: The disk failed.
        """
        return self._store.size_bytes() if self._store is not None else 0

    def _flush(self, *, deadline_s: float = 5.0) -> None:
        """Have everything written by the thread, or tried."""
        with self._changed:
            self._next_try_s = 0.0
            self._hurry()
            self._changed.wait_for(lambda: not self._urgent and not self._busy, deadline_s)

    def _hurry(self) -> None:
        self._urgent = True
        self._changed.notify_all()

    # The thread

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._urgent or self._stopping, self._until_next_s())
                stopping = self._stopping
                if stopping:
                    self._next_try_s = 0.0
            try:
                self._step()
            except Exception:
                logger.exception("The events' thread made a mistake, and goes on")
            if stopping:
                return

    def _until_next_s(self) -> float:
        due_s = min(self._next_purge_s, time.monotonic() + _TRAIL_EVERY_S)
        if self.fault is not None:
            due_s = min(due_s, self._next_try_s)
        return max(0.05, due_s - time.monotonic())

    def _step(self) -> None:
        """Write what is new, and then tell of it."""
        now_s = time.monotonic()
        with self._disk:
            with self._changed:
                self._urgent, self._busy = False, True
                news = self._memory.take_news()
            try:
                if now_s >= self._next_try_s:
                    if self._store is None:
                        self._open()
                    self._write()
                self._mark_told([(event.id, change) for event, change in news if self._tell(event, change)])
                if now_s >= self._next_purge_s:
                    self._next_purge_s = now_s + _PURGE_EVERY_S
                    self._purge()
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _open(self) -> None:
        """Open the store; while that fails, events are in memory only."""
        old = self._folder.with_name("events.jsonl")
        try:
            self._store = EventStore(self._folder)
            events = read_old_events(old)
            self._store.add_old(events)
            old.unlink(missing_ok=True)
            stored = self._store.events(before=None, kind=None, open_only=False, count=AT_HAND)
        except (OSError, StoreError) as error:
            self._failed(error)
            return
        with self._changed:
            self._memory.load(stored)
        self.fault = None

    def _write(self) -> None:
        with self._changed:
            new = self._memory.take()
            self._writing = sum(each.event is not None for each in new.values())
        for each in new.values():
            each.encode()
        try:
            if new and self._store is not None:
                self._store.write(new, told=not self._listeners)
        except StoreError as error:
            self._failed(error)
        else:
            if self._store is not None:
                self.fault = None
        with self._changed:
            self._writing = 0
            self._memory.has_pictures(new)
            if self.fault is not None:
                self._memory.take_back(new)
            self._changed.notify_all()

    def _tell(self, event: Event, change: Change) -> bool:
        """Whether every listener has taken note."""
        with self._changed:
            event = dataclasses.replace(event, snapshot=self._memory.events.get(event.id, event).snapshot)
        told = True
        for listener in self._listeners:
            try:
                listener(event, change)
            except Exception:
                logger.exception("A listener could not be told that event %s %s", event.id, change)
                told = False
        return told

    def _mark_told(self, told: list[tuple[str, Change]]) -> None:
        if self._store is None or self.fault is not None:
            return
        if not self._listeners:  # what began or ended was written so already
            told = [each for each in told if each[1] not in ("began", "ended")]
        try:
            if told:
                self._store.mark_told(told)
        except StoreError as error:
            self._failed(error)

    def _purge(self) -> None:
        if self._store is None:
            return
        try:
            gone = {event.id for event in self._store.purge(days=self._settings.days, most=self._settings.most)}
        except StoreError as error:
            self._failed(error)
            return
        with self._changed:
            self._memory.forget(gone, for_good=False)

    def _failed(self, error: SitecamError | OSError) -> None:
        self._next_try_s = time.monotonic() + _AGAIN_S
        sentence = f"Events are in memory only. {error}"
        if sentence != self.fault:
            logger.error("%s", sentence)
        self.fault = sentence
