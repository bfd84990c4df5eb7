"""Decides which frames of the live loop are kept for people to label, and writes them in batches.

Four reasons to keep a frame. *Random*: so many an hour, at moments that were drawn before anything was seen. Which
frame that is depends on the clock and on dice alone; the model, its doubts and what else was kept that day have no
say. So every moment of the day is as likely as any other, and what is measured on these frames is true of what the
camera sees; a set chosen by doubt would measure the doubt. For the same reason they have a part of the allowance of
their own, which nothing else can use up, and are kept even where they look like others. *Uncertain*: of ten seconds'
frames the one that the model was least sure of, if it was unsure. *Scene*: the picture looks different from the last
one kept. *Event*: frames of an alarm, beside the allowance. Of these three, frames of one scene are kept once.

The loop hands references over and goes on. One thread encodes and writes; what waits is JPEG, bounded, and lost in a
power cut. Where the store takes no more, recording pauses and says so, and what waits is tried again.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from appliance.allowance import Allowance, RandomMoments
from appliance.config import StoreSettings
from appliance.errors import PictureError, SitecamError
from appliance.frame import Decision, Doubt, Frame
from appliance.store.frames import NewFrame, Said
from appliance.vision import encode_jpeg
from datasets.likeness import NEAR_BITS, distances, likeness, stacked

logger = logging.getLogger(__name__)

Reason = Literal["random", "uncertain", "scene", "event"]
State = Literal["off", "recording", "paused"]

SOURCE = "live"
UNSURE_BELOW = 0.9  # of frames with people a good model says nine in ten with more; the rest can teach it something

_WINDOW_S = 10.0  # of its frames the least certain one is looked at, or, where all are certain, the last
_EVENT_EVERY_S = 5.0  # while an alarm lasts
_EVENTS_PER_HOUR = 60
_SCENE_S = 600.0  # as the store cuts scenes: later than that the same picture is another scene
_HANDED = 3  # frames, a few megabytes each, between the loop and the thread
_HANDED_RANDOM = 5  # others must never crowd a random one out
_WAITING_BYTES = 8_000_000  # of JPEG; a batch of half a minute is a tenth of it
_RETRY_S = 60.0


class FrameSink(Protocol):
    """Where frames go: the store."""

    def add_all(self, frames: Sequence[NewFrame]) -> object:
        """See :meth:`appliance.store.frames.FrameStore.add_all`."""


@dataclass(frozen=True, eq=False)
class _Caught:
    frame: Frame
    decision: Decision | None
    reason: Reason


class Recorder:
    """The listener that keeps frames.

    Args:
        sink: The store.
        settings: ``[store]``.
        in_alarm: Whether an alarm lasts right now; asked with every frame.
        recipe: Names how a version's live features were computed; with them a later version can be asked about the
            frame without a backbone. Asked in the recorder's thread.
        clock: Monotonic seconds.
        draw: Uniform numbers, 0 to below 1.
    """

    def __init__(
        self,
        sink: FrameSink,
        settings: StoreSettings,
        *,
        in_alarm: Callable[[], bool],
        recipe: Callable[[int], str],
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._sink = sink
        self._settings = settings
        self._in_alarm = in_alarm
        self._recipe = recipe
        self._clock = clock
        now = clock()
        at_random, others = shares(settings)
        self._moments = RandomMoments(at_random, now, draw)
        self._others = Allowance(others, now)
        self._events = Allowance(_EVENTS_PER_HOUR, now)
        self._best: _Caught | None = None
        self._window_ends_s = now + _WINDOW_S
        self._event_due_s = now
        self._changed = threading.Condition()
        self._handed: deque[_Caught] = deque()
        self._looking = False
        self._stopping = False
        self._kept_lately: deque[tuple[float, bytes]] = deque(maxlen=64)
        self._batch: list[NewFrame] = []
        self._batch_bytes = 0
        self._write_due_s = float("inf")
        self._fault: str | None = None
        self._written = 0
        self._missed = 0
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)

    def start(self) -> None:
        """Keep frames from now on."""
        if self._settings.record:
            self._thread.start()

    def stop(self, *, deadline_s: float = 10) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(deadline_s)
            if self._thread.is_alive():
                logger.error("Frames to be labelled could not be written within %.0f s", deadline_s)

    def flush(self, *, deadline_s: float = 10) -> bool:
        """Write what waits, now: before somebody deletes a stretch of time, so that nothing of it comes in later.

        Returns:
            Whether nothing waits any more; False where the store takes nothing, or not in time.
        """
        ends = time.monotonic() + deadline_s
        with self._changed:
            self._best = None
            while self._handed or self._looking or self._batch:
                if self._fault or not self._thread.is_alive() or time.monotonic() > ends:
                    return False
                self._write_due_s = self._clock()
                self._changed.notify_all()
                self._changed.wait(0.05)
        return True

    @property
    def state(self) -> State:
        """``off`` by the settings, ``recording``, or ``paused`` because the store takes no more."""
        if not self._settings.record:
            return "off"
        return "paused" if self._fault else "recording"

    @property
    def sentence(self) -> str:
        """The same for people."""
        if self.state == "off":
            return "No frames are kept: recording is off in sitecam.toml ([store] record)."
        if self._fault:
            return f"No frames are kept at the moment. {self._fault}"
        at_random, others = shares(self._settings)
        return f"Up to {at_random + others} frames an hour are kept for labelling, {at_random} of them at random."

    @property
    def written(self) -> int:
        """Frames that the store has taken since the start."""
        return self._written

    @property
    def missed(self) -> int:
        """Frames worth keeping that were not, because the disk was too slow or the store full; since the start."""
        return self._missed

    @property
    def idle(self) -> bool:
        """Whether every frame handed over has been looked at, and none is due to be written."""
        with self._changed:
            return not self._handed and not self._looking and self._clock() < self._write_due_s

    # The loop's thread

    def __call__(self, frame: Frame, decision: Decision | None) -> None:
        """Hand a frame over where it may be worth keeping. Returns at once."""
        if not self._settings.record:
            return
        now = self._clock()
        if self._moments.came(now):  # before anybody looks at the frame
            self._hand(_Caught(frame, decision, "random"), _HANDED_RANDOM)
            return
        if self._in_alarm():
            if now >= self._event_due_s:
                self._event_due_s = now + _EVENT_EVERY_S
                self._hand(_Caught(frame, decision, "event"), _HANDED)
            return
        self._event_due_s = now  # the next alarm's first frame is due at once
        if decision is not None and _doubtful(decision) and _surer(self._best, decision):
            self._best = _Caught(frame, decision, "uncertain")
        if now >= self._window_ends_s:
            self._window_ends_s = now + _WINDOW_S
            best, self._best = self._best, None
            self._hand(best or _Caught(frame, decision, "scene"), _HANDED)

    def _hand(self, caught: _Caught, most: int) -> None:
        with self._changed:
            if self._fault or len(self._handed) >= most:
                self._missed += 1
                return
            self._handed.append(caught)
            self._changed.notify_all()

    # The recorder's thread

    def _work(self) -> None:
        while True:
            with self._changed:
                wait_s = self._write_due_s - self._clock()
                if not self._handed and not self._stopping and wait_s > 0:
                    self._changed.wait(min(1.0, wait_s))
                caught = self._handed.popleft() if self._handed else None
                self._looking = True
                ends = self._stopping and caught is None
            try:
                if caught is not None:
                    self._take(caught)
                if ends or self._clock() >= self._write_due_s:
                    self._write()
            except Exception:  # a mistake of ours must not end the recording for good
                logger.exception("A frame could not be kept for labelling")
            with self._changed:
                self._looking = False
            if ends:
                return

    def _take(self, caught: _Caught) -> None:
        now = self._clock()
        looks = likeness(caught.frame.pixels)
        if caught.reason != "random" and not (self._is_new(looks, caught.reason, now) and self._may(caught.reason)):
            return
        jpeg = encode_jpeg(caught.frame.pixels)
        if self._batch_bytes + len(jpeg) > _WAITING_BYTES:
            self._miss(1)
            return
        self._kept_lately.append((now, looks))
        self._batch.append(self._new_frame(caught, jpeg))
        self._batch_bytes += len(jpeg)
        self._write_due_s = min(self._write_due_s, now + self._settings.batch_s)

    def _new_frame(self, caught: _Caught, jpeg: bytes) -> NewFrame:
        return live_frame(caught.frame, caught.decision, jpeg, caught.reason, self._recipe)

    def _is_new(self, looks: bytes, reason: Reason, now: float) -> bool:
        """Whether no frame of this scene was kept; for a changed scene the last one counts however old it is."""
        known = [kept for at, kept in self._kept_lately if now - at < _SCENE_S]
        if reason == "scene" and self._kept_lately:
            known.append(self._kept_lately[-1][1])
        return not known or int(distances(stacked(known), looks).min()) > NEAR_BITS

    def _may(self, reason: Reason) -> bool:
        if reason == "event":
            return self._events.take(self._clock())
        # A busy site changes all the time: what the model doubts comes first.
        return self._others.take(self._clock(), leave=1 if reason == "scene" else 0)

    def _write(self) -> None:
        self._write_due_s = float("inf")
        if not self._batch:
            return
        try:
            self._sink.add_all(self._batch)
        except (PictureError, ValueError) as error:  # these frames never will be taken
            logger.error("%d frames could not be kept for labelling: %s", len(self._batch), error)
            self._miss(len(self._batch))
        except (SitecamError, OSError) as error:
            self._pause(str(error) if isinstance(error, SitecamError) else f"The disk refused ({error.strerror}).")
            return
        else:
            self._written += len(self._batch)
        if self._fault:
            logger.info("Frames are kept for labelling again")
        self._fault = None
        self._batch, self._batch_bytes = [], 0

    def _miss(self, frames: int) -> None:
        with self._changed:
            self._missed += frames

    def _pause(self, sentence: str) -> None:
        if self._fault is None:
            logger.error("No frames are kept for labelling: %s", sentence)
        self._fault = sentence
        self._write_due_s = self._clock() + _RETRY_S


def shares(settings: StoreSettings) -> tuple[int, int]:
    """Frames an hour: at random, and for all other reasons but events."""
    if settings.per_hour == 0:
        return 0, 0
    at_random = min(settings.per_hour, max(1, round(settings.per_hour * settings.random_share)))
    return at_random, settings.per_hour - at_random


def _doubtful(decision: Decision) -> bool:
    return bool(decision.doubt) or decision.confidence < UNSURE_BELOW


def _surer(best: _Caught | None, decision: Decision) -> bool:
    """Whether the best so far was surer than this: what is unlike all that was taught comes before a low score."""
    if best is None or best.decision is None:
        return True
    return _certainty(best.decision) > _certainty(decision)


def _certainty(decision: Decision) -> tuple[bool, float]:
    return decision.doubt is not Doubt.UNFAMILIAR, decision.confidence


def live_frame(
    frame: Frame, decision: Decision | None, jpeg: bytes, reason: str, recipe: Callable[[int], str]
) -> NewFrame:
    """A frame of the live loop as the store takes it, with what the model said and saw of it.

    Args:
        frame: The frame.
        decision: None where no model answered.
        jpeg: The frame as a file.
        reason: Why it is kept.
        recipe: Names how a version's live features were computed.
    """
    if decision is None:
        return NewFrame(jpeg, frame.taken_utc, SOURCE, reason=reason)
    prediction = decision.prediction
    best = max(prediction.scores, key=lambda label: prediction.scores[label])
    name = recipe(prediction.version) if prediction.features is not None else ""
    return NewFrame(
        jpeg,
        frame.taken_utc,
        SOURCE,
        reason=reason,
        said=Said(prediction.version, best, prediction.scores[best]),
        features=prediction.features if name else None,
        recipe=name,
    )
