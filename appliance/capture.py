"""Captures from a camera for months: whatever it does, it is opened again or somebody is told why not.

Two threads. One calls the camera: open, capture, close, and after a fault open again. A driver may simply never
return from any of these calls, so the other thread watches the first. A call that takes too long is a fault, and the
camera is closed from outside, which wakes most drivers. One that still doesn't return is given up: it can't be
stopped, and a driver that is stuck can't be opened twice in a process, so only a fresh process helps.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from appliance.camera.health import Condition, Health, HealthLimits
from appliance.camera.source import CameraSource
from appliance.errors import CameraError
from appliance.events import Event
from appliance.frame import Frame
from appliance.ladder import Ladder

logger = logging.getLogger(__name__)

_RETRY_S = (0.5, 1, 2, 5, 10)  # between attempts to bring the camera back
_TICK_S = 0.25  # how often the watching thread looks
_CLOSING = "closing"
_SAME_AGAIN_S = 600.0  # a camera that is absent for a week is worth a line every ten minutes, not every ten seconds


@dataclass(frozen=True)
class Patience:
    """How long a camera's call may take before it counts as stuck.

    Attributes:
        capture_s: Beyond the time-out that the capture was given.
        open_s: Beyond that time-out too. The first opening imports picamera2: ten seconds from a slow SD card.
        close_s: Likewise. More than the five seconds after which PiCamera leaves its driver behind by itself.
        release_s: From closing the camera from outside until the stuck call must have returned.
    """

    capture_s: float = 2.0
    open_s: float = 20.0
    close_s: float = 8.0
    release_s: float = 5.0


@dataclass
class _Call:
    """A call into the camera that is under way."""

    doing: str
    began_s: float  # time.monotonic()
    limit_s: float
    closed_s: float | None = None  # when it was closed from outside


class Capture:
    """Hands every frame of a camera on, and says what is wrong while there are none.

    Args:
        source: Opened and closed from here only.
        deliver: Called with every frame from the capturing thread; must return at once.
        timeout_s: A capture that takes longer is a fault.
        rate_fps: Frames per second asked of the source.
        ladder: Says when only a fresh process helps; None never does, but for a stuck driver.
        health: How long the pictures must be bad before it is said.
        on_event: Called with every event when it begins and, complete, when it ends; from the watching thread,
            so that a slow one costs no picture.
        patience: When a call counts as stuck.
    """

    def __init__(
        self,
        source: CameraSource,
        deliver: Callable[[Frame], None],
        *,
        timeout_s: float,
        rate_fps: float,
        ladder: Ladder | None = None,
        health: HealthLimits | None = None,
        on_event: Callable[[Event], None] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._source = source
        self._deliver = deliver
        self._timeout_s = timeout_s
        self._ladder = ladder
        self._on_event = on_event
        self._patience = patience or Patience()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._health = Health(
            source.name, rate_fps=rate_fps, is_live=source.is_live, on_event=self._events.put, limits=health
        )
        self._lock = threading.Lock()  # guards _call, _given_up and _fault
        self._closing = threading.Lock()  # a close from outside must be over before the camera is opened again
        self._call: _Call | None = None
        self._woken = False  # the last call ended after it was closed from outside
        self._given_up: str | None = None
        self._fault: str | None = None
        self._logged = ("", 0.0)
        self._attempt = 0
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._capturing = threading.Thread(target=self._capture, name="capture", daemon=True)
        self._watching = threading.Thread(target=self._watch, name="capture-watch", daemon=True)
        self._closers: list[threading.Thread] = []

    @property
    def fault(self) -> str | None:
        """Why there are no pictures, for a person; None while they come."""
        return self._fault

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Why the pictures that come are worth little: dark, frozen, slow."""
        return self._health.conditions

    @property
    def must_restart(self) -> str | None:
        """Why this process must be started afresh, for a person; None while it needn't. Once said, it stays."""
        return self._ladder.must_restart if self._ladder else self._given_up

    def start(self) -> None:
        """Open the camera and begin; a camera that fails at first is tried again. Once only."""
        self._capturing.start()
        self._watching.start()

    def stop(self, *, deadline_s: float = 10.0) -> None:
        """Close the camera and end both threads. Returns when they have ended or the deadline has passed.

        A thread that is truly stuck in its driver is left behind and logged; it doesn't keep the process alive.
        """
        self._stopping.set()
        self._wake.set()
        self._close_from_outside()
        ends_s = time.monotonic() + deadline_s
        for thread in (self._capturing, self._watching, *self._closers):
            if thread.ident is None:  # never started
                continue
            thread.join(max(0.0, ends_s - time.monotonic()))
            if thread.is_alive():
                logger.error("%s: the thread %r did not end within %g s", self._source.name, thread.name, deadline_s)
        if not self._watching.is_alive():
            self._health.finish()
            self._pass_events_on()

    # The capturing thread

    def _capture(self) -> None:
        while self._goes_on():
            try:
                self._open_and_capture()
            except CameraError as error:
                self._fail(str(error))
            except Exception as error:  # noqa: BLE001  # a driver raises what it likes; _fail logs it with its trace
                sentence = self._said(
                    f"{self._source.name} failed ({error!r})",
                    means="There are no pictures from it for now",
                    do="It is opened again by itself; if this repeats, report what the log says",
                )
                self._fail(sentence, error)
        self._close()  # stop() may have closed it just before it was opened again

    def _open_and_capture(self) -> None:
        with self._watched("opening", self._patience.open_s):
            self._source.open()
        while self._goes_on() and not self._woken:
            with self._watched("a capture", self._patience.capture_s):
                frame = self._source.capture(self._timeout_s)
            if self._goes_on():
                self._take(frame)
        self._close()  # it came back late, after it was closed from outside: whether it is open nobody knows

    def _goes_on(self) -> bool:
        return not self._stopping.is_set() and self._given_up is None

    @contextlib.contextmanager
    def _watched(self, doing: str, patience_s: float) -> Iterator[None]:
        with self._lock:
            self._call = _Call(doing, time.monotonic(), self._timeout_s + patience_s)
        try:
            yield
        finally:
            with self._lock:
                self._woken = self._call is not None and self._call.closed_s is not None
                self._call = None

    def _take(self, frame: Frame) -> None:
        self._attempt = 0
        if self._ladder:
            self._ladder.picture()
        self._health.see(frame)
        if self._fault is not None:
            with self._lock:
                self._fault = None
            logger.info("%s sends pictures again", self._source.name)
        self._deliver(frame)

    def _fail(self, sentence: str, unforeseen: Exception | None = None) -> None:
        """Say it, close the camera, and wait before the next attempt."""
        if not self._goes_on():
            return
        if not self._woken:  # else it only says that it was closed; why we closed it is said already
            with self._lock:
                self._fault = sentence
            self._health.miss(sentence)
            self._log(sentence, unforeseen)
            self._wake.set()
        self._close()
        self._stopping.wait(_RETRY_S[min(self._attempt, len(_RETRY_S) - 1)])
        self._attempt += 1

    def _close(self) -> None:
        with self._watched(_CLOSING, self._patience.close_s), self._closing:
            self._close_source()

    def _close_source(self) -> None:
        try:
            self._source.close()
        except Exception:
            logger.exception("%s did not close cleanly", self._source.name)

    # The watching thread

    def _watch(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(_TICK_S)
            self._wake.clear()
            self._look_for_a_stuck_call()
            if self._ladder:
                self._ladder.step()
            self._pass_events_on()

    def _look_for_a_stuck_call(self) -> None:
        now_s = time.monotonic()
        with self._lock:
            call = self._call
            if call is None or self._given_up or now_s - call.began_s < call.limit_s:
                return
            taken_s = now_s - call.began_s
            what = f"{self._source.name} has not come back from {call.doing} for {taken_s:.0f} s"
            if call.closed_s is None and call.doing != _CLOSING:  # another close can't help one that hangs
                call.closed_s = now_s
                do = "It is closed and opened again by itself; if this repeats, check the ribbon cable"
            elif call.closed_s is not None and now_s - call.closed_s < self._patience.release_s:
                return
            else:
                self._given_up = f"{what}. The camera service starts afresh."
                do = "The camera service starts afresh by itself; if this repeats, switch the Pi off and on"
            self._fault = sentence = self._said(what, means="Its driver is stuck, and there are no pictures", do=do)
        self._health.miss(sentence)
        self._log(sentence)
        if self._given_up is None:
            self._close_from_outside()
        elif self._ladder:
            self._ladder.stuck(what)

    def _close_from_outside(self) -> None:
        """In a thread of its own, because a stuck driver may hang in that too."""

        def work() -> None:
            if not self._closing.acquire(blocking=False):
                return  # it is being closed already
            try:
                self._close_source()
            finally:
                self._closing.release()

        self._closers = [thread for thread in self._closers if thread.is_alive()]
        thread = threading.Thread(target=work, name="capture-close", daemon=True)
        self._closers.append(thread)
        thread.start()

    def _pass_events_on(self) -> None:
        while True:
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                return
            if self._on_event is None:
                continue
            try:
                self._on_event(event)
            except Exception:
                logger.exception("The event %r could not be passed on", event.sentence)

    # Both

    @staticmethod
    def _said(what: str, *, means: str, do: str) -> str:
        return str(CameraError(what, means=means, do=do))

    def _log(self, sentence: str, unforeseen: Exception | None = None) -> None:
        """A warning, unless it is the same as the last within ten minutes."""
        last, at_s = self._logged
        now_s = time.monotonic()
        if sentence != last or now_s - at_s >= _SAME_AGAIN_S:
            self._logged = (sentence, now_s)
            logger.warning("%s", sentence, exc_info=unforeseen)
