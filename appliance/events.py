"""What happened in front of a camera or to it, kept as one JSON line per event: a bare head, a covered lens."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from appliance.files import write_atomically

logger = logging.getLogger(__name__)

_KEPT = 500


@dataclass(frozen=True)
class Event:
    """Something with a beginning and an end.

    Attributes:
        kind: ``seen`` (a label that people must hear of), ``dark``, ``frozen``, ``slow``, ``no picture``.
        sentence: For a person: "bare head seen".
        began_utc: Timezone-aware UTC.
        ended_utc: None while it lasts.
        detail: Numbers that explain it, by name.
    """

    kind: str
    sentence: str
    began_utc: datetime
    ended_utc: datetime | None = None
    detail: Mapping[str, float] = field(default_factory=dict)


class EventLog:
    """The last events. Safe for several threads; the file is written by a thread of its own.

    Args:
        path: Its file, one JSON object per line; a line that can't be read is left out.
        kept: So many; older ones are forgotten.
    """

    def __init__(self, path: Path, *, kept: int = _KEPT) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._events: deque[Event] = deque(_read(path), maxlen=kept)
        self._unwritten = False
        self._stopping = False
        self._thread = threading.Thread(target=self._write, name="events", daemon=True)

    def start(self) -> None:
        """Write to the file from now on."""
        self._thread.start()

    def stop(self, *, deadline_s: float = 5.0) -> None:
        """Write what is left, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def put(self, event: Event) -> None:
        """Add an event, or, if one of that kind and beginning is there, replace it: it has ended. Returns at once."""
        with self._changed:
            for index, known in enumerate(self._events):
                if (known.kind, known.began_utc) == (event.kind, event.began_utc):
                    self._events[index] = event
                    break
            else:
                self._events.append(event)
            self._unwritten = True
            self._changed.notify_all()

    def recent(self, count: int) -> tuple[Event, ...]:
        """The newest events, newest first."""
        with self._changed:
            return tuple(reversed(list(self._events)[-count:]))

    def _write(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._unwritten or self._stopping)
                if not self._unwritten:
                    return
                text = "".join(_line(each) for each in self._events)
                self._unwritten = False
            try:
                write_atomically(self._path, text.encode())
            except OSError as error:
                logger.error("The events could not be written (%s); the page still shows them", error)


def _line(event: Event) -> str:
    body = dataclasses.asdict(event)
    body["began_utc"] = event.began_utc.isoformat()
    body["ended_utc"] = event.ended_utc.isoformat() if event.ended_utc else None
    return json.dumps(body) + "\n"


def _read(path: Path) -> list[Event]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        logger.warning("%s can't be read (%s); events start anew", path, error)
        return []
    events = []
    for line in lines:
        try:
            event = _event(json.loads(line))
            # One that lasted when the power went: nobody knows how long it did.
            events.append(event if event.ended_utc else dataclasses.replace(event, ended_utc=event.began_utc))
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s has a line that is no event (%r)", path, error)
    return events


def _event(body: dict[str, Any]) -> Event:
    ended = body["ended_utc"]
    return Event(
        kind=str(body["kind"]),
        sentence=str(body["sentence"]),
        began_utc=datetime.fromisoformat(body["began_utc"]),
        ended_utc=None if ended is None else datetime.fromisoformat(ended),
        detail={str(key): float(value) for key, value in dict(body["detail"]).items()},
    )
