"""The live loop: newest frame -> impulse -> decision -> listeners.

Two threads. One captures and keeps only the newest frame; one classifies. A slow model drops frames (they are
counted), a slow listener misses frames, a dead camera is opened again, a dead ``.eim`` is started again; none of
them stops the loop. A new model is exchanged between two frames.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from appliance.camera.source import CameraSource
from appliance.decide import decide
from appliance.eim.runner import Impulse
from appliance.errors import CameraError, ImpulseError, SitecamError
from appliance.frame import Decision, Frame, Prediction
from appliance.vision import prepare

logger = logging.getLogger(__name__)

_RETRY_S = (0.5, 1, 2, 5, 10)  # between attempts to bring a camera or an .eim back
_GAPS_KEPT = 20_000  # half an hour at 10 fps


class Listener(Protocol):
    """Gets every frame and decision. Must return at once: hand work to a thread of your own."""

    def __call__(self, frame: Frame, decision: Decision | None) -> None:
        """Take note. ``decision`` is None while no model answers."""


@dataclass(frozen=True)
class RunningModel:
    """A started ``.eim`` and the version it is."""

    version: int
    impulse: Impulse


@dataclass(frozen=True)
class Pace:
    """The loop's decisions over some time.

    Attributes:
        decisions: How many.
        dropped: Frames that were never classified: pushed out by a newer one, or without a model's answer.
        gaps_ms: Times between consecutive decisions.
    """

    decisions: int
    dropped: int
    gaps_ms: Sequence[float]

    @property
    def longest_gap_ms(self) -> float:
        """The longest time between two decisions; 0 where there were fewer than two."""
        return max(self.gaps_ms, default=0.0)

    @property
    def p99_gap_ms(self) -> float:
        """99th percentile of the times between decisions; 0 where there were fewer than two."""
        return float(np.percentile(self.gaps_ms, 99)) if self.gaps_ms else 0.0


class LiveLoop:
    """Classifies a camera's frames, for months.

    Args:
        source: Opened and closed by the loop.
        restart: Starts the ``.eim`` of the version that should run; called after a fault, off the loop's lock.
        sure_above: See :func:`appliance.decide.decide`.
        capture_timeout_s: A capture that takes longer is a fault.
        listeners: Called from the loop's thread with every frame.
    """

    def __init__(
        self,
        source: CameraSource,
        restart: Callable[[], RunningModel],
        *,
        sure_above: float,
        capture_timeout_s: float,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._source = source
        self._restart = restart
        self._sure_above = sure_above
        self._capture_timeout_s = capture_timeout_s
        self._listeners = tuple(listeners)
        self._changed = threading.Condition()
        self._waiting: Frame | None = None
        self._model: RunningModel | None = None
        self._replacement: RunningModel | None = None
        self._before: RunningModel | None = None
        self._stopping = threading.Event()
        self._decided_at: deque[float] = deque(maxlen=_GAPS_KEPT)  # time.monotonic()
        self._decisions = 0
        self._dropped = 0
        self._failed_answers = 0
        self._threads: list[threading.Thread] = []
        self.camera_fault: str | None = None
        self.model_fault: str | None = None
        self.last_failure = ""

    def start(self) -> None:
        """Start capturing and classifying. A model or camera that fails at first is tried again."""
        for work in (self._capture, self._classify):
            thread = threading.Thread(target=work, name=f"live-{work.__name__.strip('_')}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, *, deadline_s: float = 10) -> None:
        """End both threads and the model. Returns when they have ended or the deadline has passed."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        self._source.close()
        ends = time.monotonic() + deadline_s
        for thread in self._threads:
            thread.join(max(0, ends - time.monotonic()))
            if thread.is_alive():
                logger.error("%s did not end within %.0f s", thread.name, deadline_s)
        with self._changed:
            models = [self._model, self._replacement, self._before]
            self._model = self._replacement = self._before = None
        for model in models:
            if model:
                model.impulse.close()

    def exchange(self, model: RunningModel, *, timeout_s: float) -> None:
        """Put another model in place between two frames; the one before stays at hand until :meth:`settle`.

        Should the new one fail before that, the old one answers the very same frame.

        Args:
            model: Started and probed.
            timeout_s: How long the loop may take to get there.

        Raises:
            ImpulseError: The loop did not take it in time; it was not put in place.
        """
        with self._changed:
            self._replacement = model
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._replacement is None, timeout_s):
                self._replacement = None
                raise ImpulseError(
                    f"The live loop did not take the new model within {timeout_s:.0f} s",
                    means="The old model stays",
                    do="Look at the camera's fault on the page",
                )

    def settle(self) -> None:
        """The exchanged model stays: end the one before it."""
        with self._changed:
            old, self._before = self._before, None
        if old:
            old.impulse.close()

    def revert(self, *, timeout_s: float) -> None:
        """Go back to the model before, between two frames, and end the exchanged one.

        Raises:
            ImpulseError: The loop did not get there in time.
        """
        with self._changed:
            old, self._before = self._before, None
        if old is None:  # it answers already, because the new one failed; or there was none
            return
        self.exchange(old, timeout_s=timeout_s)
        self.settle()

    @property
    def version(self) -> int | None:
        """The version that answers; None while none does."""
        model = self._model
        return model.version if model else None

    @property
    def dropped(self) -> int:
        """Frames that were never classified, since the start."""
        return self._dropped

    @property
    def failed_answers(self) -> int:
        """How often a model was asked without giving an answer, since the start."""
        return self._failed_answers

    def mark(self) -> tuple[float, int, int]:
        """A point in time for :meth:`pace_since`."""
        with self._changed:
            return time.monotonic(), self._decisions, self._dropped

    def pace_since(self, mark: tuple[float, int, int]) -> Pace:
        """The loop's decisions since a mark, with the gap that led into it."""
        since, decisions, dropped = mark
        with self._changed:
            times = list(self._decided_at)
            result = (self._decisions - decisions, self._dropped - dropped)
        gaps = [(b - a) * 1000 for a, b in itertools.pairwise(times) if b >= since]
        return Pace(*result, gaps)

    # The two threads

    def _capture(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            try:
                self._source.open()
                while not self._stopping.is_set():
                    frame = self._source.capture(self._capture_timeout_s)
                    attempt, self.camera_fault = 0, None
                    self._keep_newest(frame)
            except CameraError as error:
                if self._stopping.is_set():
                    break
                self.camera_fault = str(error)
                logger.warning("%s", error)
                self._source.close()
                self._stopping.wait(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
                attempt += 1
        self._source.close()  # stop() may have closed it just before it was opened again

    def _keep_newest(self, frame: Frame) -> None:
        with self._changed:
            if self._waiting is not None:
                self._dropped += 1
            self._waiting = frame
            self._changed.notify_all()

    def _classify(self) -> None:
        while not self._stopping.is_set():
            if self._model is None:
                self._bring_back()
                continue
            frame = self._next_frame()
            if frame is None:
                continue
            decision = self._decide(frame)
            for listener in self._listeners:
                listener(frame, decision)

    def _next_frame(self) -> Frame | None:
        """Wait for a frame; exchange the model first where one waits to be."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting is not None or self._replacement or self._stopping.is_set(), 1.0
            )
            self._take_replacement()
            frame, self._waiting = self._waiting, None
            return frame

    def _take_replacement(self) -> bool:
        with self._changed:
            if self._replacement is None:
                return False
            self._before, self._model = self._model, self._replacement
            self._replacement = None
            self._changed.notify_all()
            return True

    def _decide(self, frame: Frame) -> Decision | None:
        while (model := self._model) is not None:
            try:
                picture = prepare(frame.pixels if frame.small is None else frame.small, model.impulse.info.input)
                answer = model.impulse.classify(picture)
            except ImpulseError as error:
                self._give_up(model, error)
                continue
            self.model_fault = None
            with self._changed:
                self._decisions += 1
                self._decided_at.append(time.monotonic())
            prediction = Prediction(answer.scores, model.version, answer.elapsed_ms)
            return decide(prediction, sure_above=self._sure_above)
        with self._changed:
            self._dropped += 1
        return None

    def _give_up(self, model: RunningModel, error: ImpulseError) -> None:
        """A model failed: the one before it answers, where an exchange isn't settled yet; else none does."""
        logger.error("Version %d gave no answer: %s", model.version, error)
        self.model_fault = self.last_failure = str(error)
        with self._changed:
            self._failed_answers += 1
            self._model, self._before = self._before, None
        model.impulse.close()

    def _bring_back(self) -> None:
        """Start the model that should run; while that takes, viewers still see the picture."""
        started: list[RunningModel] = []
        failed: list[Exception] = []

        def work() -> None:
            try:
                started.append(self._restart())
            except (SitecamError, OSError) as error:  # a dead .eim, a damaged part, a full disk
                failed.append(error)

        attempt = 0
        while not self._stopping.is_set():
            thread = threading.Thread(target=work, name="live-restart", daemon=True)
            thread.start()
            while thread.is_alive():
                self._show_without_model(0.05)
            if started:
                with self._changed:
                    self._model = started[0]
                if self._stopping.is_set():
                    return
                self.model_fault = None
                return
            self.model_fault = str(failed[-1]) if failed else "The model could not be started"
            logger.error("%s", self.model_fault)
            ends = time.monotonic() + _RETRY_S[min(attempt, len(_RETRY_S) - 1)]
            while time.monotonic() < ends and not self._stopping.is_set():
                self._show_without_model(0.2)
                if self._take_replacement():  # a new version may heal what a restart can't
                    return
            attempt += 1

    def _show_without_model(self, wait_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._stopping.is_set(), wait_s)
            frame, self._waiting = self._waiting, None
            if frame is not None:
                self._dropped += 1
        if frame is not None:
            for listener in self._listeners:
                listener(frame, None)
