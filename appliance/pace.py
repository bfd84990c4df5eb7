"""Keeps count of the live loop's decisions: how many, how far apart, how long the model took, what was lost."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_GAPS_KEPT = 20_000  # half an hour at 10 fps
_ANSWERS_KEPT = 100

Mark = tuple[float, int, int]  # time.monotonic(), decisions, dropped


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


class PaceKeeper:
    """Counts since the start. Safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decided_at: deque[float] = deque(maxlen=_GAPS_KEPT)  # time.monotonic()
        self._answer_times_ms: deque[float] = deque(maxlen=_ANSWERS_KEPT)
        self._decisions = 0
        self.dropped = 0

    def decided(self, answer_ms: float) -> None:
        """A decision was made; the model took so long for it."""
        with self._lock:
            self._decisions += 1
            self._decided_at.append(time.monotonic())
            self._answer_times_ms.append(answer_ms)

    def drop(self, frames: int = 1) -> None:
        """So many frames were never classified."""
        with self._lock:
            self.dropped += frames

    def another_model(self) -> None:
        """What the model before took says nothing any more."""
        with self._lock:
            self._answer_times_ms.clear()

    @property
    def typical_ms(self) -> float:
        """Median of the running model's last answers, milliseconds; 0 before the first."""
        with self._lock:
            return statistics.median(self._answer_times_ms) if self._answer_times_ms else 0.0

    def mark(self) -> Mark:
        """A point in time for :meth:`since`."""
        with self._lock:
            return time.monotonic(), self._decisions, self.dropped

    def since(self, mark: Mark) -> Pace:
        """The decisions since a mark, with the gap that led into it."""
        began, decisions, dropped = mark
        with self._lock:
            times = list(self._decided_at)
            result = (self._decisions - decisions, self.dropped - dropped)
        gaps = [(b - a) * 1000 for a, b in itertools.pairwise(times) if b >= began]
        return Pace(*result, gaps)
