"""Judges a camera's pictures: dark, frozen, too few, or none at all; each becomes an event.

Almost every frame costs one look at the clock. Twice a second a frame is looked at through a coarse grid of
some thousand points, which takes a fraction of a millisecond.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt

from appliance.errors import CameraError
from appliance.events import Event
from appliance.frame import Frame, Pixels

DARK, FROZEN, SLOW, NO_PICTURE = "dark", "frozen", "slow", "no picture"

LOOK_EVERY_S = 0.5  # a covered lens is no emergency, and ten looks in five seconds leave no doubt
GRID_POINTS = 60  # along a picture's shorter side: finer than any lamp that would make a night picture useful
BLOCKS = (6, 8)  # rows and columns; the mean of a block takes away the noise of a sensor at its highest gain

# Of 255. A sensor behind a lens cap sends its black level, lifted by noise once the gain is at its highest. A site
# at night with one lamp in view has blocks that differ by more. The pictures of a site by day have
# a mean above 45 and a spread above 16. The second number of each pair ends it.
DARK_MEAN, LIGHT_MEAN = 16.0, 24.0
DARK_SPREAD, LIGHT_SPREAD = 2.0, 4.0
WHITE_MEAN = 250.0  # a sensor that is dazzled is clipped, and clipped pictures may well be identical

SAMPLES_KEPT = 8  # a stuck driver may go round its ring of buffers (picamera.py has four), not only repeat one

SLOW_SHARE, STEADY_SHARE = 0.6, 0.75  # of the rate asked for: a halved rate is below, one late frame in four is not
SPAN_FRAMES = 10  # a rate measured over fewer is an accident


@dataclass(frozen=True)
class HealthLimits:
    """For how long something must be so before it is said.

    Attributes:
        dark_s: Long enough for somebody to walk past right in front of the lens.
        light_s: A flash of lightning doesn't end a dark picture.
        frozen_s: Two identical pictures would do; this is for drivers that hand the same buffer out twice.
        moving_s: Likewise the other way.
        span_s: The rate is measured over so long; two spans in a row must be slow, one steady one ends it.
        settle_s: A camera that fails again within this time has been failing all along: one event, not fifty.
    """

    dark_s: float = 5.0
    light_s: float = 1.0
    frozen_s: float = 5.0
    moving_s: float = 1.0
    span_s: float = 5.0
    settle_s: float = 5.0


@dataclass(frozen=True)
class Condition:
    """Pictures come, but are worth little.

    Attributes:
        kind: ``dark``, ``frozen`` or ``slow``.
        sentence: What, what it means and what to do, for a person.
        since_utc: Timezone-aware UTC.
    """

    kind: str
    sentence: str
    since_utc: datetime


class Health:
    """What is wrong with a camera's pictures. Safe for several threads.

    Args:
        name: The camera's, for messages.
        rate_fps: Frames per second asked of it.
        is_live: See :class:`appliance.camera.source.CameraSource`; a replay is never called frozen.
        on_event: Called with every event when it begins and, complete, when it ends. It must return at once.
        limits: For how long something must be so.
        clock: Seconds that only rise.
    """

    def __init__(
        self,
        name: str,
        *,
        rate_fps: float,
        is_live: bool,
        on_event: Callable[[Event], None],
        limits: HealthLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        limits = limits or HealthLimits()
        self._name = name
        self._rate_fps = rate_fps
        self._is_live = is_live
        self._on_event = on_event
        self._clock = clock
        self._lock = threading.Lock()
        self._span_s = max(limits.span_s, SPAN_FRAMES / rate_fps)
        self._signs = {
            DARK: _Sign(limits.dark_s, limits.light_s),
            FROZEN: _Sign(limits.frozen_s, limits.moving_s),
            SLOW: _Sign(self._span_s, 0),
            NO_PICTURE: _Sign(0, limits.settle_s),
        }
        self._open: dict[str, Event] = {}
        self._conditions: tuple[Condition, ...] = ()
        self._last_s: float | None = None
        self._misses = 0
        self._look_at_s = 0.0
        self._forget()

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What the pictures suffer from now; empty while none come."""
        return self._conditions

    def see(self, frame: Frame) -> None:
        """Take note of a frame, as soon as it came."""
        now_s = self._clock()
        with self._lock:
            self._last_s = now_s
            if NO_PICTURE in self._open:
                self._look(NO_PICTURE, False, now_s, frame.taken_utc)
            self._measure(frame, now_s)
            if now_s >= self._look_at_s:
                self._look_at_s = now_s + LOOK_EVERY_S
                self._judge(frame.pixels if frame.small is None else frame.small, now_s, frame.taken_utc)

    def miss(self, sentence: str) -> None:
        """Take note that the camera failed.

        Args:
            sentence: Why, for a person.
        """
        now_s, now_utc = self._clock(), datetime.now(UTC)
        with self._lock:
            self._end((DARK, FROZEN, SLOW), now_utc)
            self._forget()
            self._misses += 1
            without_s = 0.0 if self._last_s is None else now_s - self._last_s
            self._look(NO_PICTURE, True, now_s, now_utc - timedelta(seconds=without_s), sentence)

    def finish(self) -> None:
        """End every event that is still open, because nobody looks any longer."""
        with self._lock:
            self._end(tuple(self._signs), datetime.now(UTC))

    def _forget(self) -> None:
        """After a gap everything is measured anew."""
        self._samples: deque[bytes] = deque(maxlen=SAMPLES_KEPT)
        self._look_at_s = 0.0
        self._span: tuple[float, datetime, int] | None = None  # when it began, and the sequence it began with
        self._frames = 0

    def _measure(self, frame: Frame, now_s: float) -> None:
        if self._span is None:
            self._span, self._frames = (now_s, frame.taken_utc, frame.sequence), 0
            return
        self._frames += 1
        began_s, began_utc, sequence = self._span
        if now_s - began_s < self._span_s:
            return
        rate_fps = self._frames / (now_s - began_s)
        slow = _between(rate_fps, SLOW_SHARE * self._rate_fps, STEADY_SHARE * self._rate_fps)
        skipped = max(0, frame.sequence - sequence - self._frames)
        detail = {"rate_fps": round(rate_fps, 2), "asked_fps": self._rate_fps, "skipped": float(skipped)}
        self._look(SLOW, slow, now_s, began_utc, self._too_slow(rate_fps), detail)
        self._span, self._frames = (now_s, frame.taken_utc, frame.sequence), 0

    def _judge(self, pixels: Pixels, now_s: float, at_utc: datetime) -> None:
        sample = _sampled(pixels)
        blocks = _blocks(sample)
        mean, spread = float(blocks.mean()), float(blocks.std())
        by_mean, by_spread = _between(mean, DARK_MEAN, LIGHT_MEAN), _between(spread, DARK_SPREAD, LIGHT_SPREAD)
        dark = False if False in (by_mean, by_spread) else None if None in (by_mean, by_spread) else True
        detail = {"mean": round(mean, 1), "spread": round(spread, 1)}
        self._look(DARK, dark, now_s, at_utc, self._too_dark(), detail)
        if self._is_live:
            digest = hashlib.blake2b(sample.tobytes(), digest_size=16).digest()
            clipped = spread <= DARK_SPREAD and not DARK_MEAN < mean < WHITE_MEAN
            self._look(FROZEN, digest in self._samples and not clipped, now_s, at_utc, self._too_still())
            self._samples.append(digest)

    def _look(
        self,
        kind: str,
        bad: bool | None,
        now_s: float,
        at_utc: datetime,
        sentence: str = "",
        detail: dict[str, float] | None = None,
    ) -> None:
        sign = self._signs[kind]
        changed_utc = sign.look(bad, now_s, at_utc)
        if changed_utc is None:
            return
        if sign.active:
            self._open[kind] = Event(kind, sentence, changed_utc, detail=detail or {})
            self._on_event(self._open[kind])
            self._show()
        else:
            self._end((kind,), changed_utc)

    def _end(self, kinds: tuple[str, ...], at_utc: datetime) -> None:
        for kind in kinds:
            self._signs[kind].clear()
            event = self._open.pop(kind, None)
            if event is None:
                continue
            detail = dict(event.detail)
            if kind == NO_PICTURE:
                detail["failures"], self._misses = float(self._misses), 0
            # A clock that was set back meanwhile must not make an event end before it began.
            self._on_event(replace(event, ended_utc=max(at_utc, event.began_utc), detail=detail))
        self._show()

    def _show(self) -> None:
        shown = (event for kind, event in self._open.items() if kind != NO_PICTURE)
        self._conditions = tuple(Condition(event.kind, event.sentence, event.began_utc) for event in shown)

    def _too_dark(self) -> str:
        return _sentence(
            f"The picture of {self._name} is black",
            "The lens is covered, or there is no light; nothing can be recognised",
            "Look at the lens, and light the place",
        )

    def _too_still(self) -> str:
        return _sentence(
            f"The picture of {self._name} stands still: the camera sends the same one again and again",
            "What is shown and decided is old",
            "Restart the camera service; if it comes back, check the cable and the power supply",
        )

    def _too_slow(self, rate_fps: float) -> str:
        return _sentence(
            f"{self._name} sends {rate_fps:.1f} pictures a second instead of {self._rate_fps:g}",
            "Somebody who walks past quickly may be missed",
            "Check the board's temperature and power, and that the sensor can do [camera] rate_fps",
        )


class _Sign:
    """Something that begins after it was so for ``begin_s``, and ends after it was not for ``end_s``."""

    def __init__(self, begin_s: float, end_s: float) -> None:
        self._begin_s, self._end_s = begin_s, end_s
        self.clear()

    def clear(self) -> None:
        self.active = False
        self._turning: tuple[float, datetime] | None = None

    def look(self, bad: bool | None, now_s: float, at_utc: datetime) -> datetime | None:
        """Returns since when it is the other way, if it just turned. ``bad`` None: neither one nor the other."""
        if bad is None or bad is self.active:
            self._turning = None
            return None
        if self._turning is None:
            self._turning = (now_s, at_utc)
        since_s, since_utc = self._turning
        if now_s - since_s < (self._end_s if self.active else self._begin_s):
            return None
        self.active, self._turning = not self.active, None
        return since_utc


def _between(value: float, low: float, high: float) -> bool | None:
    """True below ``low``, False above ``high``, None between them."""
    return True if value < low else False if value > high else None


def _sampled(pixels: Pixels) -> Pixels:
    """A copy of every n-th pixel, uint8 [h, w, 3]: a source may write into its buffer again."""
    step = max(1, min(pixels.shape[:2]) // GRID_POINTS)
    return np.ascontiguousarray(pixels[::step, ::step])


def _blocks(sample: Pixels) -> npt.NDArray[np.float32]:
    """Mean brightness of :data:`BLOCKS` parts of a sample, float32 [rows, columns]."""
    height, width = sample.shape[:2]
    rows, columns = min(BLOCKS[0], height), min(BLOCKS[1], width)
    cut = sample[: height // rows * rows, : width // columns * columns]
    parts = cut.reshape(rows, height // rows, columns, -1)
    return np.asarray(parts.mean(axis=(1, 3), dtype=np.float32))


def _sentence(what: str, means: str, do: str) -> str:
    return str(CameraError(what, means=means, do=do))
