"""The live loop: newest frame -> impulse -> decision -> listeners.

One thread, fed by the capturing one through a mailbox for the newest frame. The next frame is prepared and handed over
while the model works on this one, where the ``.eim`` lets us ask ahead, so that the model never waits for us. A slow
model drops frames (they are counted), a slow listener misses frames, a dead ``.eim`` is started again; none of them
stops the loop. A new model is exchanged between two frames.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from appliance.eim.runner import Impulse
from appliance.errors import ImpulseError, SitecamError, SwapPostponedError
from appliance.frame import Decision, Frame, Prediction
from appliance.pace import Mark, Pace, PaceKeeper
from appliance.vision import prepare

logger = logging.getLogger(__name__)

_RETRY_S = (0.5, 1, 2, 5, 10)  # between attempts to bring an .eim back
_TICK_S = 1.0  # the thread shows that it lives at least so often
_COMPLAIN_S = 60.0


class Listener(Protocol):
    """Gets every frame and decision. Must return at once: hand work to a thread of your own."""

    def __call__(self, frame: Frame, decision: Decision | None) -> None:
        """Take note. ``decision`` is None while no model answers."""


@dataclass(frozen=True)
class RunningModel:
    """A started ``.eim`` and the version it is."""

    version: int
    impulse: Impulse


class LiveLoop:
    """Classifies frames, for months.

    Args:
        restart: Starts the ``.eim`` of the version that should run; called after a fault, in a thread of its own.
        decide: Makes a decision of a prediction; called from the loop's thread, must return at once.
        listeners: Called from the loop's thread with every frame.
        beat: Called from the loop's thread, at least every other second while it isn't stuck.
    """

    def __init__(
        self,
        restart: Callable[[], RunningModel],
        *,
        decide: Callable[[Prediction], Decision],
        listeners: Sequence[Listener] = (),
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._restart = restart
        self._make_decision = decide
        self._listeners = tuple(listeners)
        self._beat = beat
        self._changed = threading.Condition()
        self._waiting: Frame | None = None
        self._again: deque[Frame] = deque()  # asked about, but the model failed
        self._under_way: deque[Frame] = deque()
        self._model: RunningModel | None = None
        self._replacement: RunningModel | None = None
        self._before: RunningModel | None = None
        self._goes_back = False
        self._stopping = threading.Event()
        self._pace = PaceKeeper()
        self._failed_answers = 0
        self._thread: threading.Thread | None = None
        self._complained: dict[str, float] = {}  # time.monotonic() by who
        self.model_fault: str | None = None
        self.last_failure = ""

    def start(self) -> None:
        """Start classifying. A model that fails at first is tried again."""
        self._thread = threading.Thread(target=self._classify, name="live-classify", daemon=True)
        self._thread.start()

    def take(self, frame: Frame) -> None:
        """Put the newest frame into the mailbox; one that still waits there is dropped. Returns at once."""
        with self._changed:
            if self._waiting is not None:
                self._pace.drop()
            self._waiting = frame
            self._changed.notify_all()

    def stop(self, *, deadline_s: float = 10) -> None:
        """End the thread and the model. Returns when they have ended or the deadline has passed."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread:
            self._thread.join(deadline_s)
            if self._thread.is_alive():
                logger.error("%s did not end within %.0f s", self._thread.name, deadline_s)
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
            SwapPostponedError: The loop did not take it in time; it was not put in place.
        """
        with self._changed:
            self._replacement = model
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._replacement is None, timeout_s):
                self._replacement = None
                raise SwapPostponedError(
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
            SwapPostponedError: The loop did not get there in time.
        """
        with self._changed:
            old, self._before = self._before, None
            if old is None:  # it answers already, because the new one failed; or there was none
                return
            rejected, self._goes_back = self._model, True
        try:
            self.exchange(old, timeout_s=timeout_s)
        except SwapPostponedError:
            with self._changed:
                self._before = old  # still at hand, should the one that stays fail
            raise
        finally:
            self._goes_back = False
        if rejected and rejected is not self._model:
            rejected.impulse.close()

    @property
    def version(self) -> int | None:
        """The version that answers; None while none does."""
        model = self._model
        return model.version if model else None

    @property
    def typical_ms(self) -> float:
        """Median of the running model's last answers, milliseconds; 0 before the first."""
        return self._pace.typical_ms

    @property
    def dropped(self) -> int:
        """Frames that were never classified, since the start."""
        return self._pace.dropped

    @property
    def failed_answers(self) -> int:
        """How often a model was asked without giving an answer, since the start."""
        return self._failed_answers

    def mark(self) -> Mark:
        """A point in time for :meth:`pace_since`."""
        return self._pace.mark()

    def pace_since(self, mark: Mark) -> Pace:
        """The loop's decisions since a mark, with the gap that led into it."""
        return self._pace.since(mark)

    # The thread

    def _classify(self) -> None:
        while not self._stopping.is_set():
            try:
                self._step()
            except Exception as error:
                logger.exception("The live loop made a mistake of its own, and goes on with the model started afresh")
                self._start_over(error)

    def _step(self) -> None:
        self._beat()
        if self._model is None:
            self._bring_back()
            return
        self._hand_over(wait_s=_TICK_S)
        answered = self._collect()
        if answered:
            self._hand_over(wait_s=0)  # before anything else: the model must not wait
            self._conclude(*answered)

    def _start_over(self, error: Exception) -> None:
        """After a mistake nobody knows which answer belongs to which frame."""
        self.model_fault = self.last_failure = f"The live loop made a mistake of its own ({error!r})."
        with self._changed:
            model, self._model, self._before = self._model, self._before, None
            self._failed_answers += 1
            self._pace.drop(len(self._under_way))
            self._under_way.clear()
        if model:
            model.impulse.close()
        self._stopping.wait(_RETRY_S[0])

    def _hand_over(self, *, wait_s: float) -> None:
        """Give the model as many frames as it takes; wait for one only where it has none."""
        while (model := self._model) is not None and len(self._under_way) < model.impulse.depth:
            frame = self._next_frame(0 if self._under_way else wait_s)
            if frame is None:
                return
            model = self._model or model  # it may just have been exchanged
            self._under_way.append(frame)
            try:
                pixels = frame.pixels if frame.small is None else frame.small
                model.impulse.submit(prepare(pixels, model.impulse.info.input))
            except ImpulseError as error:
                self._give_up(model, error)

    def _next_frame(self, wait_s: float) -> Frame | None:
        """The next frame; the model is exchanged first where one waits to be, which needs nothing under way."""
        with self._changed:
            if wait_s:
                self._changed.wait_for(self._has_work, wait_s)
            if self._replacement is not None:
                if self._under_way:
                    return None
                self._take_replacement()
            if self._again:
                return self._again.popleft()
            frame, self._waiting = self._waiting, None
            return frame

    def _has_work(self) -> bool:
        return bool(self._waiting or self._replacement or self._again or self._stopping.is_set())

    def _take_replacement(self) -> bool:
        with self._changed:
            if self._replacement is None:
                return False
            # Going back, the one that is replaced is no model to fall back on.
            self._before = None if self._goes_back else self._model
            self._model = self._replacement
            self._replacement = None
            self._pace.another_model()
            self._changed.notify_all()
            return True

    def _collect(self) -> tuple[Frame, Prediction] | None:
        model = self._model
        if model is None or not self._under_way:
            return None
        try:
            answer = model.impulse.collect()
        except ImpulseError as error:
            self._give_up(model, error)
            return None
        self.model_fault = None
        return self._under_way.popleft(), Prediction(answer.scores, model.version, answer.elapsed_ms, answer.features)

    def _conclude(self, frame: Frame, prediction: Prediction) -> None:
        decision: Decision | None = None
        try:
            decision = self._make_decision(prediction)
        except Exception as error:  # noqa: BLE001  # logged; a mistake in a rule must not end the watch
            self._complain("The decider", error)
        self._pace.decided(prediction.classify_ms)
        self._tell(frame, decision)

    def _give_up(self, model: RunningModel, error: ImpulseError) -> None:
        """A model failed: the one before it answers, where an exchange isn't settled yet; else none does.

        Without one before, the frames are lost: asked about again, the one that did it might do it for ever.
        """
        logger.error("Version %d gave no answer: %s", model.version, error)
        self.model_fault = self.last_failure = str(error)
        with self._changed:
            self._failed_answers += 1
            self._model, self._before = self._before, None
            asked = list(self._under_way)
            self._under_way.clear()
            if self._model is not None:
                self._again.extendleft(reversed(asked))
                asked = []
            self._pace.drop(len(asked))
        model.impulse.close()
        for frame in asked:
            self._tell(frame, None)

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
                if self._stopping.is_set():
                    thread.join()  # what it starts must be ended, so it is waited for
            if started:
                with self._changed:
                    self._model = started[0]
                if self._stopping.is_set():
                    return
                self.model_fault = None
                return
            self._say_fault(str(failed[-1]) if failed else "The model could not be started")
            ends = time.monotonic() + _RETRY_S[min(attempt, len(_RETRY_S) - 1)]
            while time.monotonic() < ends and not self._stopping.is_set():
                self._show_without_model(0.2)
                if self._take_replacement():  # a new version may heal what a restart can't
                    return
            attempt += 1

    def _say_fault(self, fault: str) -> None:
        if fault != self.model_fault:  # once is enough for what is tried again every ten seconds
            logger.error("%s", fault)
        self.model_fault = fault

    def _show_without_model(self, wait_s: float) -> None:
        self._beat()
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._stopping.is_set(), wait_s)
            frame, self._waiting = self._waiting, None
            if frame is not None:
                self._pace.drop()
        if frame is not None:
            self._tell(frame, None)

    def _tell(self, frame: Frame, decision: Decision | None) -> None:
        for listener in self._listeners:
            try:
                listener(frame, decision)
            except Exception as error:  # noqa: BLE001  # logged; nor may one in a listener
                self._complain(f"The listener {type(listener).__name__}", error)

    def _complain(self, who: str, error: Exception) -> None:
        """Log a mistake, but not for every frame."""
        now = time.monotonic()
        if now - self._complained.get(who, -_COMPLAIN_S) >= _COMPLAIN_S:
            self._complained[who] = now
            logger.error("%s made a mistake; the loop goes on", who, exc_info=error)
