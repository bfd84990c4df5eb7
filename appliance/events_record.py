"""What an event is: something that happened in front of a camera or to it, with a beginning and an end."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

SEEN = "seen"
Change = Literal["began", "ended", "acknowledged", "false", "deleted"]


def new_id() -> str:
    """128 random bits as 32 hex digits."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Event:
    """Something with a beginning and an end.

    Two events are equal when they say the same, whatever their ids.

    Attributes:
        kind: ``seen`` (a label that people must hear of), ``dark``, ``frozen``, ``slow``, ``no picture``.
        sentence: For a person: "bare head seen".
        began_utc: Timezone-aware UTC.
        ended_utc: None while it lasts.
        detail: Numbers that explain it, by name.
        id: 32 hex digits.
        snapshot: Whether there is a picture of it.
        acknowledged_by: The account that took note of it; None before.
        acknowledged_utc: When.
        false: A person says that it was none.
    """

    kind: str
    sentence: str
    began_utc: datetime
    ended_utc: datetime | None = None
    detail: Mapping[str, float] = field(default_factory=dict)
    id: str = field(default_factory=new_id, compare=False)
    snapshot: bool = False
    acknowledged_by: str | None = None
    acknowledged_utc: datetime | None = None
    false: bool = False


@dataclass(frozen=True)
class Vote:
    """One step of the way to an event and through it: a decision that stands for a quarter of a second.

    Attributes:
        at_utc: When its frame was taken.
        label: What it said; None for unsure.
        confidence: Of the best label, 0 to 1.
        version: The model version that said it.
    """

    at_utc: datetime
    label: str | None
    confidence: float
    version: int


class EventListener(Protocol):
    """Hears of every change of an event, at least once, from one of the log's threads."""

    def __call__(self, event: Event, change: Change, /) -> None:
        """Take note: ``event`` is as it is after the change. Whatever is raised is logged, and told again later."""
