"""What the page sees of the live loop: the newest frame, and the state of everything around it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from appliance.alarm import Alarm
from appliance.cached import Cached
from appliance.capture import Capture
from appliance.errors import ModelError
from appliance.events import EventLog
from appliance.frame import Decision, Frame
from appliance.live import LiveLoop
from appliance.models.shelf import Shelf
from appliance.models.verdict import Verdict, newest_verdict
from appliance.night_status import NightStatus, read_night_status
from appliance.paths import CameraPaths
from appliance.starter import Starter
from appliance.surroundings import Surroundings
from appliance.swap import Swapper
from appliance.web.source import ModelChange, PageCondition, PageStatus, PageTrial, PageVerdict

_RATE_SPAN_S = 5.0
_HISTORY = 5
_EVENTS = 10


@dataclass(frozen=True)
class _Around:
    """What is asked for its state."""

    loop: LiveLoop
    capture: Capture
    swapper: Swapper
    starter: Starter
    alarm: Alarm
    events: EventLog
    surroundings: Callable[[], Surroundings]


class Watch:
    """Listens to the loop on the page's behalf; an ``appliance.web.source.PageSource``.

    Args:
        camera: The camera's name.
        fleet: The fleet's name.
        paths: The camera's state folder.
        shelf: Its models.
    """

    def __init__(self, camera: str, fleet: str, paths: CameraPaths, shelf: Shelf) -> None:
        self._camera = camera
        self._fleet = fleet
        self._night: Cached[NightStatus] = Cached(paths.night_status, lambda: read_night_status(paths.night_status))
        verdicts = shelf.root / "verdicts"
        self._newest_verdict: Cached[Verdict | None] = Cached(verdicts, lambda: newest_verdict(shelf.root))
        self._changed = threading.Condition()
        self._newest: tuple[Frame, Decision | None] | None = None
        self._times: deque[float] = deque(maxlen=1000)
        self._history: deque[ModelChange] = deque(maxlen=_HISTORY)
        self._labels: tuple[str, ...] = ()
        self._around: _Around | None = None

    def follow(
        self,
        loop: LiveLoop,
        capture: Capture,
        swapper: Swapper,
        starter: Starter,
        alarm: Alarm,
        events: EventLog,
        surroundings: Callable[[], Surroundings] = Surroundings,
    ) -> None:
        """Say whose state to show.

        Args:
            loop: The live loop.
            capture: What brings it frames.
            swapper: What exchanges its model.
            starter: What starts its model.
            alarm: What watches its decisions.
            events: What has happened.
            surroundings: Everything that is slower to find out; returns at once what was found last.
        """
        self._around = _Around(loop, capture, swapper, starter, alarm, events, surroundings)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model that answers tells apart; empty before its first decision."""
        return self._labels

    def __call__(self, frame: Frame, decision: Decision | None) -> None:
        """Take note of a frame (called by the loop)."""
        with self._changed:
            self._newest = (frame, decision)
            if decision is not None:
                self._times.append(time.monotonic())
                version = decision.prediction.version
                self._labels = tuple(decision.prediction.scores)
                if not self._history or self._history[0].version != version:
                    self._history.appendleft(ModelChange(version, datetime.now(UTC)))
            self._changed.notify_all()

    def newest(self, after_sequence: int, timeout_s: float) -> tuple[Frame, Decision | None] | None:
        """See ``PageSource.newest``."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_newer(after_sequence), timeout_s)
            return self._newest if self._is_newer(after_sequence) else None

    def status(self) -> PageStatus:
        """See ``PageSource.status``. Four times a second for every viewer: it reads no file that has not changed."""
        around = self._around
        with self._changed:
            now = time.monotonic()
            recent = sum(now - at < _RATE_SPAN_S for at in self._times)
            history = tuple(self._history)
            labels = self._labels
        verdict, damage = self._verdict()
        night = self._night()
        if around is None:
            return PageStatus(self._camera, self._fleet, labels, model_fault=damage, night=night, last_verdict=verdict)
        version = around.loop.version
        since = history[0].since_utc if history and history[0].version == version else None
        trial = around.swapper.trial
        slower = around.surroundings()
        alarm, events = around.alarm.current, around.events.recent(_EVENTS)  # the log knows who took note of it
        return PageStatus(
            camera=self._camera,
            fleet=self._fleet,
            labels=labels,
            model_version=version,
            model_since_utc=since,
            decisions_per_s=recent / _RATE_SPAN_S,
            frames_dropped=around.loop.dropped,
            camera_fault=around.capture.fault or around.capture.must_restart,
            model_fault=around.loop.model_fault or around.starter.stand_in or damage,
            night=night,
            last_verdict=verdict,
            history=history,
            conditions=tuple(
                PageCondition(condition.kind, condition.sentence, condition.since_utc)
                for condition in around.capture.conditions
            ),
            trial=PageTrial(trial.version, str(trial.state)) if trial else None,
            alarm=alarm and next((event for event in events if event.id == alarm.id), alarm),
            events=events,
            system=slower.system,
            store=slower.store,
            queue=slower.queue,
            neighbours=slower.neighbours,
            tonight=slower.tonight,
            recorder=slower.recorder,
        )

    def _verdict(self) -> tuple[PageVerdict | None, str | None]:
        """The newest verdict, or why it can't be read."""
        try:
            newest = self._newest_verdict()
        except ModelError as error:
            return None, str(error)
        if newest is None:
            return None, None
        return PageVerdict(
            newest.version, newest.accepted, newest.reason, newest.at_utc, newest.state, newest.quarantined
        ), None

    def _is_newer(self, sequence: int) -> bool:
        return self._newest is not None and self._newest[0].sequence > sequence
