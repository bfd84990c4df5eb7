"""Takes single frames out of the live loop without holding it up."""

from __future__ import annotations

import threading
import time

from appliance.frame import Decision, Frame

Seen = tuple[Frame, Decision | None]


class Tap:
    """A listener that hands the next frame to one thread that waits for it."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._arrived = threading.Event()
        self._closed = False
        self._seen: Seen | None = None

    def __call__(self, frame: Frame, decision: Decision | None) -> None:
        """Hand a reference over, where one is wanted."""
        if self._wanted.is_set():
            self._wanted.clear()
            self._seen = (frame, decision)
            self._arrived.set()

    def next(self, timeout_s: float) -> Seen | None:
        """The next frame and its decision; None where none comes in time, or the tap is closed."""
        self._arrived.clear()
        self._seen = None
        self._wanted.set()
        ends = time.monotonic() + timeout_s
        while not self._closed and not self._arrived.wait(min(0.5, max(0.0, ends - time.monotonic()))):
            if time.monotonic() >= ends:
                break
        self._wanted.clear()
        seen, self._seen = self._seen, None
        return seen

    def close(self) -> None:
        """Whoever waits gets None."""
        self._closed = True
        self._arrived.set()
