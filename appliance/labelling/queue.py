"""The day's queue: a dozen frames worth a person's two minutes, in an order that stays all day.

False alarms come first. Then frames that were kept at random take turns with those that the model is least certain
of, each of another scene: without the random ones everybody would label what the model finds hard, and no test would
measure the truth. The order is made when the day's first person comes, and kept: reloading shows the same frames, what
is put off goes to the end, and what comes in later is added behind. After a restart it is made again, of what is left
of the day's number. Whoever has done all of them and asks again gets as many more.
"""

from __future__ import annotations

import itertools
import statistics
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, tzinfo

from appliance.config import LabellingSettings
from appliance.store import queue
from appliance.store.frames import FrameStore
from appliance.store.queue import Candidate, Done
from appliance.store.records import FrameRecord

USUAL_S = 10.0  # for one frame, before a person's own pace is known: a dozen takes two minutes

_FALSE_ALARMS = 50
_PACE_OF = 200  # last answers of all people, in which a person's own are looked for
_PACE_NEEDS = 5
_PAUSE_S = 120.0  # whoever took longer was away


@dataclass(frozen=True)
class Day:
    """The queue as it stands.

    Attributes:
        frames: What is left of it, in order.
        asked: So many are asked for today.
        done: So many were answered today, whoever did it.
        words: For people: "12 frames today, about 2 minutes".
    """

    frames: tuple[FrameRecord, ...]
    asked: int
    done: int
    words: str


@dataclass
class _Plan:
    """The order of one day."""

    of: date
    wanted: int
    ids: list[str] = field(default_factory=list)
    scenes: set[str] = field(default_factory=set)

    def add(self, candidates: Iterable[Candidate], *, first: bool = False) -> None:
        new = [each for each in candidates if each.id not in self.ids]
        self.scenes |= {each.scene for each in new}
        ids = [each.id for each in new]
        self.ids = ids + self.ids if first else self.ids + ids


class DayQueue:
    """Safe for several threads; one for all people: what one has answered nobody else is asked.

    Args:
        store: The camera's.
        settings: ``[labelling]``.
        zone: The site's time zone: its day is the queue's.
        now: The time, timezone-aware.
    """

    def __init__(
        self,
        store: FrameStore,
        settings: LabellingSettings,
        zone: tzinfo,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._settings = settings
        self._zone = zone
        self._now = now
        self._lock = threading.Lock()
        self._plan: _Plan | None = None

    def today(self, person: str) -> Day:
        """The queue; where the day's frames are done, as many again.

        Args:
            person: Who asks; their pace makes the words.

        Raises:
            StoreError: The store can't be read.
        """
        with self._lock:
            done = self._done()
            plan = self._planned()
            left = queue.still_waiting(self._store, plan.ids)
            if not left and done.frames >= plan.wanted:
                plan.wanted = done.frames + self._settings.per_day
            alarms = [each for each in queue.false_alarms(self._store, _FALSE_ALARMS) if each.id not in plan.ids]
            plan.add(alarms, first=True)
            wanted = plan.wanted - done.frames - len(left) - len(alarms)
            if wanted > 0:
                planned_random = done.at_random + sum(frame.reason == queue.RANDOM for frame in left)
                plan.add(self._choose(plan, wanted, planned_random))
            if alarms or wanted > 0:
                left = queue.still_waiting(self._store, plan.ids)
        pace_s = seconds_per_answer(queue.answer_times(self._store, person, _PACE_OF))
        asked = self._settings.per_day
        return Day(tuple(left), asked, done.frames, _words(len(left), done.frames, asked, pace_s))

    def done_today(self) -> int:
        """Frames answered today.

        Raises:
            StoreError: The store can't be read.
        """
        return self._done().frames

    def _done(self) -> Done:
        midnight = datetime.combine(self._day(), time(), self._zone)
        return queue.done_since(self._store, midnight.astimezone(UTC))

    def _day(self) -> date:
        return self._now().astimezone(self._zone).date()

    def _planned(self) -> _Plan:
        day = self._day()
        if self._plan is None or self._plan.of != day:
            self._plan = _Plan(day, self._settings.per_day)
        return self._plan

    def _choose(self, plan: _Plan, wanted: int, at_random: int) -> list[Candidate]:
        """So many frames of scenes that the plan lacks; random ones up to their share of the day, or more of them
        where there is nothing else, and the other way round."""
        owed = max(0, min(wanted, round(plan.wanted * self._settings.random_share) - at_random))
        scenes = set(plan.scenes) | {frame.scene for frame in queue.still_waiting(self._store, plan.ids)}
        fair = _fresh(queue.at_random(self._store), plan, scenes)
        random_ones = list(itertools.islice(fair, owed))
        doubtful = list(
            itertools.islice(_fresh(queue.least_certain(self._store), plan, scenes), wanted - len(random_ones))
        )
        random_ones += itertools.islice(fair, wanted - len(random_ones) - len(doubtful))
        return interleaved(random_ones, doubtful)


def _fresh(candidates: Iterable[Candidate], plan: _Plan, scenes: set[str]) -> Iterable[Candidate]:
    """Those of scenes not seen yet, which are then."""
    for each in candidates:
        if each.scene not in scenes and each.id not in plan.ids:
            scenes.add(each.scene)
            yield each


def interleaved(few: Sequence[Candidate], many: Sequence[Candidate]) -> list[Candidate]:
    """Both in their own order, evenly mixed."""
    places = [((number + 0.5) / len(few), 0, number) for number in range(len(few))]
    places += [((number + 0.5) / len(many), 1, number) for number in range(len(many))]
    return [(few, many)[which][number] for _, which, number in sorted(places)]


def seconds_per_answer(times: Sequence[datetime]) -> float:
    """A person's pace: the median time between two of their answers, newest first, pauses left out.

    ``USUAL_S`` before there are enough of them.
    """
    gaps = [(later - earlier).total_seconds() for later, earlier in itertools.pairwise(times)]
    worked = [gap for gap in gaps if 0 < gap <= _PAUSE_S]
    return statistics.median(worked) if len(worked) >= _PACE_NEEDS else USUAL_S


def _words(left: int, done: int, asked: int, pace_s: float) -> str:
    if not left:
        return f"Done for today: {_frames(done)}. Thank you." if done else "Nothing to label today."
    minutes = round(left * pace_s / 60)
    long = "less than a minute" if minutes < 1 else "about 1 minute" if minutes == 1 else f"about {minutes} minutes"
    if done >= asked:
        return f"Done for today. {_frames(left)} more if you like, {long}"
    return f"{_frames(left)} {'more ' if done else ''}today, {long}"


def _frames(number: int) -> str:
    return "1 frame" if number == 1 else f"{number} frames"
