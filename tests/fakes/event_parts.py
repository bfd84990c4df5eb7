"""Events, frames and votes for tests of the event log, and somebody who listens to it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from appliance.config import EventSettings
from appliance.events import Change, Event, EventLog, Vote
from appliance.frame import Frame

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR_AGO = NOW - timedelta(hours=1)


def event(minute: int, kind: str = "dark") -> Event:
    began = HOUR_AGO + timedelta(minutes=minute)
    return Event(kind, f"{kind} at {minute}", began, began + timedelta(seconds=30), detail={"mean": 3.5})


def lasting(minute: int, kind: str = "seen") -> Event:
    return replace(event(minute, kind), ended_utc=None)


def frame(shade: int) -> Frame:
    return Frame(np.full((32, 48, 3), shade, np.uint8), NOW, 0)


def vote(second: float, label: str | None = "head") -> Vote:
    return Vote(HOUR_AGO + timedelta(seconds=second), label, 0.9, 7)


@contextlib.contextmanager
def running(folder: Path, settings: EventSettings | None = None) -> Iterator[EventLog]:
    """A log that has written everything at the end of the block."""
    log = EventLog(folder, settings)
    log.start()
    try:
        yield log
    finally:
        log.stop(deadline_s=30)


def reopened(folder: Path, count: int = 100) -> tuple[Event, ...]:
    with running(folder) as log:
        return log.recent(count)


class Heard:
    """A listener."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Change]] = []
        self.snapshots: list[bool] = []

    def __call__(self, event: Event, change: Change) -> None:
        self.said.append((event.sentence, change))
        self.snapshots.append(event.snapshot)
