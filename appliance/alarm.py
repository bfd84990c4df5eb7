"""When a label becomes an event: several votes must agree, and one person is one event.

A vote is one decision; above four frames per second it is what most decisions of the same quarter of a second say,
because frames that close together are nearly the same frame: twenty of them in a second are no twenty witnesses. And
votes must have had their time: "three of the last five" takes half a second at least, however fast frames come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from appliance.config import AlarmSettings
from appliance.events import Event
from appliance.frame import Decision, Frame

KIND = "seen"

_VOTES_PER_S = 4
_PATIENCE = 3  # so many quiet times may pass while the camera is unsure before an event ends all the same
_WORDS = {"head": "bare head"}


@dataclass
class _Tally:
    """What decisions said of the label: those of one vote, or of a whole event."""

    decisions: int = 0
    agreed: int = 0
    highest: float = 0.0

    def count(self, decision: Decision, says: bool) -> None:
        self.decisions += 1
        if says:
            self.agreed += 1
            self.highest = max(self.highest, decision.confidence)

    def detail(self) -> dict[str, float]:
        return {"decisions": self.decisions, "agreed": self.agreed, "highest_score": round(self.highest, 4)}


@dataclass
class _Vote:
    slot: int
    began_utc: datetime
    tally: _Tally = field(default_factory=_Tally)

    @property
    def yes(self) -> bool:
        return 2 * self.tally.agreed > self.tally.decisions


@dataclass
class _Lasting:
    event: Event
    said_utc: datetime
    tally: _Tally


class Alarm:
    """Watches the decisions for one label. Call it from one thread, with every frame in order.

    It knows time only from the frames. A pause longer than ``quiet_s``, or a clock that was set back, empties the
    window: what was seen before a camera went away does not count towards what is seen after.

    Args:
        settings: The label, how many must agree, and when it is over.
        on_event: Told of every event as it begins, and again as it ends. Must return at once.
    """

    def __init__(self, settings: AlarmSettings, on_event: Callable[[Event], None]) -> None:
        self._settings = settings
        self._on_event = on_event
        self._quiet = timedelta(seconds=settings.quiet_s)
        self._votes: deque[_Vote] = deque(maxlen=settings.of)
        self._before: datetime | None = None  # the last frame's time
        self._lasting: _Lasting | None = None

    @property
    def current(self) -> Event | None:
        """The event that lasts, as it began."""
        lasting = self._lasting
        return lasting.event if lasting else None

    def __call__(self, frame: Frame, decision: Decision | None) -> None:
        """Take note of a decision; of None, that no model answered, only that time passes."""
        now = frame.taken_utc
        if self._before is not None and not timedelta(0) <= now - self._before <= self._quiet:
            self.pause()
        self._before = now
        says = decision is not None and decision.label == self._settings.label
        if decision is not None:
            self._vote(now, decision, says)
        if self._lasting is None:
            self._begin(now)
            return
        if decision is not None:
            self._lasting.tally.count(decision, says)
        if says:
            self._lasting.said_utc = now
        unsure = decision is None or decision.label is None
        if now - self._lasting.said_utc >= (_PATIENCE * self._quiet if unsure else self._quiet):
            self.pause()

    def pause(self) -> None:
        """Forget the window and end the event that lasts; also for when the process ends."""
        self._votes.clear()
        lasting, self._lasting = self._lasting, None
        if lasting:
            self._on_event(replace(lasting.event, ended_utc=lasting.said_utc, detail=lasting.tally.detail()))

    def _vote(self, now: datetime, decision: Decision, says: bool) -> None:
        slot = int(now.timestamp() * _VOTES_PER_S)
        if not self._votes or self._votes[-1].slot != slot:
            self._votes.append(_Vote(slot, now))
        self._votes[-1].tally.count(decision, says)

    def _begin(self, now: datetime) -> None:
        agreeing = [vote for vote in self._votes if vote.yes]
        wanted = self._settings.agree
        if len(agreeing) < wanted or now - agreeing[0].began_utc < timedelta(seconds=(wanted - 1) / _VOTES_PER_S):
            return
        tally = _Tally(
            decisions=sum(vote.tally.decisions for vote in self._votes),
            agreed=sum(vote.tally.agreed for vote in self._votes),
            highest=max(vote.tally.highest for vote in self._votes),
        )
        label = self._settings.label
        event = Event(KIND, f"{_WORDS.get(label, label)} seen", agreeing[0].began_utc, detail=tally.detail())
        self._lasting = _Lasting(event, now, tally)
        self._on_event(event)
