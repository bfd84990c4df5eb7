"""When a label becomes an event: several votes must agree, and one person is one event.

A vote is one decision; above four frames per second it is what most decisions of the same quarter of a second say,
because frames that close together are nearly the same frame: twenty of them in a second are no twenty witnesses. And
votes must have had their time: "three of the last five" takes half a second at least, however fast frames come.

An event keeps its trail: every vote of its first half minute, then ever fewer, so that an hour takes six hundred of
them and a day a thousand. And the frame that shows it best: its pixels are only pointed at here; whoever gets it does
the work in a thread of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from appliance.config import AlarmSettings
from appliance.events_record import SEEN, Event, Vote
from appliance.frame import Decision, Frame

KIND = SEEN

Witness = Callable[[str, Sequence[Vote], Frame | None], None]

_VOTES_PER_S = 4
_PATIENCE = 3  # so many quiet times may pass while the camera is unsure before an event ends all the same
_TRAIL_S = 30.0  # every vote of so long; after that one in each such share of the time that has passed
_TRAIL_MOST = 1500
_CLEARER = 0.02  # a frame takes the place of the best one only if its score is higher by this: so at most 50 times
_WORDS = {"head": "bare head"}


def alarm_words(label: str) -> str:
    """What people call what an alarm watches for."""
    return _WORDS.get(label, label)


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
class _Ballot:
    """A vote while it is being cast."""

    slot: int
    began_utc: datetime
    tally: _Tally = field(default_factory=_Tally)
    for_it: Decision | None = None
    against: Decision | None = None

    @property
    def yes(self) -> bool:
        return 2 * self.tally.agreed > self.tally.decisions

    def count(self, decision: Decision, says: bool) -> None:
        self.tally.count(decision, says)
        if says:
            self.for_it = decision
        else:
            self.against = decision

    def vote(self) -> Vote | None:
        """As the trail keeps it: the last decision of those that won."""
        said = self.for_it if self.yes else self.against
        if said is None:
            return None
        return Vote(self.began_utc, said.label, round(said.confidence, 4), said.prediction.version)


@dataclass
class _Lasting:
    event: Event
    said_utc: datetime
    tally: _Tally
    kept: int = 0  # votes in its trail
    kept_utc: datetime | None = None  # the last of them

    def wants(self, vote: Vote) -> bool:
        """Whether a vote belongs into the trail: each of the first half minute, then ever fewer."""
        if self.kept_utc is None or self.kept >= _TRAIL_MOST:
            return self.kept < _TRAIL_MOST
        since_began = vote.at_utc - self.event.began_utc
        return vote.at_utc - self.kept_utc >= since_began / (_TRAIL_S * _VOTES_PER_S)


class Alarm:
    """Watches the decisions for one label. Call it from one thread, with every frame in order.

    It knows time only from the frames. A pause longer than ``quiet_s``, or a clock that was set back, empties the
    window: what was seen before a camera went away does not count towards what is seen after.

    Args:
        settings: The label, how many must agree, and when it is over.
        on_event: Told of every event as it begins, and again as it ends. Must return at once.
        witness: Given an event's id, new votes of its trail, and a frame where it shows the event better than those
            before; first just before the event itself. Must return at once.
    """

    def __init__(
        self,
        settings: AlarmSettings,
        on_event: Callable[[Event], None],
        witness: Witness = lambda _id, _votes, _best: None,
    ) -> None:
        self._settings = settings
        self._on_event = on_event
        self._witness = witness
        self._quiet = timedelta(seconds=settings.quiet_s)
        self._votes: deque[_Ballot] = deque(maxlen=settings.of)
        self._best: tuple[float, datetime, Frame] | None = None  # score, its vote's beginning
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
            if says:
                self._look(frame, decision)
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
        lasting, self._lasting = self._lasting, None
        if lasting:
            if self._votes:
                self._remember(lasting, [self._votes[-1]])
            self._on_event(replace(lasting.event, ended_utc=lasting.said_utc, detail=lasting.tally.detail()))
        self._votes.clear()
        self._best = None

    def _vote(self, now: datetime, decision: Decision, says: bool) -> None:
        slot = int(now.timestamp() * _VOTES_PER_S)
        if not self._votes or self._votes[-1].slot != slot:
            if self._lasting and self._votes:
                self._remember(self._lasting, [self._votes[-1]])
            self._votes.append(_Ballot(slot, now))
        self._votes[-1].count(decision, says)

    def _look(self, frame: Frame, decision: Decision) -> None:
        """Keep the frame that shows it best: of the window before an event, of all of the event while it lasts."""
        if self._best is not None:
            score, seen_utc, _ = self._best
            stale = self._lasting is None and seen_utc < self._votes[0].began_utc
            if not stale and decision.confidence < score + _CLEARER:
                return
        self._best = decision.confidence, self._votes[-1].began_utc, frame
        if self._lasting:
            self._witness(self._lasting.event.id, (), frame)

    def _begin(self, now: datetime) -> None:
        agreeing = [ballot for ballot in self._votes if ballot.yes]
        wanted = self._settings.agree
        if len(agreeing) < wanted or now - agreeing[0].began_utc < timedelta(seconds=(wanted - 1) / _VOTES_PER_S):
            return
        tally = _Tally(
            decisions=sum(ballot.tally.decisions for ballot in self._votes),
            agreed=sum(ballot.tally.agreed for ballot in self._votes),
            highest=max(ballot.tally.highest for ballot in self._votes),
        )
        event = Event(KIND, f"{alarm_words(self._settings.label)} seen", agreeing[0].began_utc, detail=tally.detail())
        self._lasting = _Lasting(event, now, tally)
        cast = list(self._votes)[:-1]  # the last one is still being cast
        self._remember(self._lasting, cast, self._best[2] if self._best else None)
        self._on_event(event)

    def _remember(self, lasting: _Lasting, ballots: Sequence[_Ballot], best: Frame | None = None) -> None:
        """Hand votes over to whoever keeps the trail."""
        new = []
        for vote in filter(None, (ballot.vote() for ballot in ballots)):
            if lasting.wants(vote):
                new.append(vote)
                lasting.kept, lasting.kept_utc = lasting.kept + 1, vote.at_utc
        if new or best is not None:
            self._witness(lasting.event.id, new, best)
