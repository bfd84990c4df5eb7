"""How much may be kept, and when: a token bucket, and moments drawn at random."""

from __future__ import annotations

from collections.abc import Callable

HOUR_S = 3600.0

_PATIENCE = 0.1  # of the time between two moments: a moment without a picture for so long has passed


class Allowance:
    """A token bucket: at most so many in any hour, spread over it.

    It holds C tokens and gets ``per_hour + 1 - C`` new ones an hour, which is the most that keeps every stretch of
    one hour to ``per_hour``, however it begins.

    Args:
        per_hour: 0 allows nothing.
        now_s: On a monotonic clock.
    """

    def __init__(self, per_hour: int, now_s: float) -> None:
        self._most = 1 + per_hour // 12 if per_hour else 0
        self._per_s = (per_hour + 1 - self._most) / HOUR_S if per_hour else 0.0
        self._tokens = float(self._most)
        self._at_s = now_s

    def take(self, now_s: float, *, leave: int = 0) -> bool:
        """Take one token, if there is one.

        Args:
            now_s: On the same clock.
            leave: So many must be there after it, for what matters more.
        """
        self._tokens = min(float(self._most), self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        # A bucket that holds one token only can leave none.
        if self._tokens + 1e-9 < 1 + max(0, min(leave, self._most - 1)):
            return False
        self._tokens -= 1
        return True


class RandomMoments:
    """One moment in each of an hour's equal parts, anywhere in it with the same chance.

    Args:
        per_hour: So many parts; 0 for no moments.
        now_s: On a monotonic clock; the parts are counted from here.
        draw: Uniform numbers, 0 to below 1.
    """

    def __init__(self, per_hour: int, now_s: float, draw: Callable[[], float]) -> None:
        self._part_s = HOUR_S / per_hour if per_hour else None
        self._began_s = now_s
        self._draw = draw
        self._part = -1
        self._moment_s = float("inf")

    def came(self, now_s: float) -> bool:
        """Whether a moment came since the last call; True once for each.

        It is a question about the clock alone. A moment that nobody asked about for long, because no pictures came,
        passes: the first picture after a gap would else stand for all of it.
        """
        if self._part_s is None:
            return False
        part = int((now_s - self._began_s) / self._part_s)
        if part != self._part:
            self._part = part
            self._moment_s = self._began_s + (part + self._draw()) * self._part_s
        if now_s < self._moment_s:
            return False
        late_s, self._moment_s = now_s - self._moment_s, float("inf")
        return late_s <= _PATIENCE * self._part_s
