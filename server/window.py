"""The window of a night: what is left of it, and deadlines that fit in."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Window:
    """Ends so long after the night began, also for a process that joins it in its midst.

    Args:
        began_utc: ISO 8601.
        window_s: Its length.
    """

    def __init__(self, began_utc: str, window_s: float) -> None:
        gone_s = (datetime.now(UTC) - datetime.fromisoformat(began_utc)).total_seconds()
        self._ends = time.monotonic() + window_s - max(0.0, gone_s)  # from here on no clock that can be set

    @property
    def left_s(self) -> float:
        """Seconds; negative once it is over."""
        return self._ends - time.monotonic()

    def within(self, deadline_s: float, *, reserve_s: float = 0.0) -> float:
        """A deadline that leaves ``reserve_s`` of the window after it; at least a second."""
        return max(1.0, min(deadline_s, self.left_s - reserve_s))
