"""A camera that fails when a test says so, in the ways real ones do. Left alone, it keeps every promise."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from appliance.errors import CameraError, CameraMissingError, CaptureTimeoutError
from appliance.frame import Frame, Pixels

Call = Literal["open", "capture", "close"]
View = Literal["noise", "black", "frozen", "ring"]


class FaultCamera:
    """A live CameraSource whose pictures are noise, as a sensor's are.

    Attributes:
        rate_fps: Frames per second; may change at any time.
        view: ``black`` and ``frozen`` say themselves; ``ring`` goes round three old pictures.
        missing: Nobody finds it; a capture under way fails.
        hangs: Calls that don't return until ``released`` is set. A close wakes the others, unless it is deaf.
        deaf: A close wakes nobody.
        unforeseen: What every capture raises.
        opened: How often.
    """

    name = "fault camera"
    is_live = True

    def __init__(self, *, rate_fps: float = 100.0) -> None:
        self.rate_fps = rate_fps
        self.view: View = "noise"
        self.missing = False
        self.hangs: set[Call] = set()
        self.deaf = False
        self.unforeseen: Exception | None = None
        self.released = threading.Event()
        self.opened = 0
        self._changed = threading.Condition()
        self._open = False
        self._due_s = 0.0
        self._sequence = -1
        self._noise = np.random.default_rng(0)
        self._still = self._noise.integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)

    def open(self) -> None:
        with self._changed:
            if self._open:
                return
            self._hang("open")
            if self.missing:
                raise CameraMissingError(f"{self.name} can't be opened", do="Check the ribbon cable")
            self._open, self._due_s = True, time.monotonic()
            self.opened += 1

    def capture(self, timeout_s: float) -> Frame:
        with self._changed:
            self._hang("capture")
            self._check()
            interval_s = 1 / self.rate_fps
            late = max(0, int((time.monotonic() - self._due_s) / interval_s))
            self._due_s += late * interval_s
            wait_s = self._due_s - time.monotonic()
            self._changed.wait_for(lambda: self.missing or not self._open, max(0.0, min(wait_s, timeout_s)))
            self._check()
            if wait_s > timeout_s:
                raise CaptureTimeoutError(f"{self.name} sent no picture within {timeout_s:g} s")
            self._due_s += interval_s
            self._sequence += late + 1
            return Frame(self._picture(), datetime.now(UTC), self._sequence)

    def close(self) -> None:
        with self._changed:
            self._hang("close")
            if not self.deaf:
                self._open = False
                self._changed.notify_all()

    def _check(self) -> None:
        if self.missing:
            raise CameraError(f"{self.name} has gone away")
        if not self._open:
            raise CameraError(f"{self.name} is not open")
        if self.unforeseen is not None:
            raise self.unforeseen

    def _hang(self, call: Call) -> None:
        """Called with the lock, which waiting gives back."""
        was_open = self._open
        while call in self.hangs and not self.released.is_set():
            self._changed.wait(0.01)
            if was_open and not self._open:
                return

    def _picture(self) -> Pixels:
        if self.view == "black":
            return self._noise.integers(0, 6, (48, 64, 3), dtype=np.uint8)
        if self.view == "frozen":
            return np.array(self._still[0])
        if self.view == "ring":
            return np.array(self._still[self._sequence % 3])
        return self._noise.integers(0, 256, (48, 64, 3), dtype=np.uint8)
