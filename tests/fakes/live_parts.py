"""Stand-ins for the live loop's neighbours: a camera that is told when to click, an impulse that is told what to do."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from appliance.eim.runner import Answer, ImpulseInfo
from appliance.errors import CameraError, CaptureTimeoutError, ImpulseExitedError
from appliance.frame import Frame, Pixels
from tests.fakes.parts import INPUT, LABELS, SIDE


class ClickCamera:
    """A CameraSource whose frames come when a test says so, or by themselves every ``every_s``."""

    name = "click camera"
    is_live = False

    def __init__(self, *, every_s: float | None = None) -> None:
        self._frames: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._every_s = every_s
        self._sequence = 0
        self._closed = threading.Event()
        self.opened = 0
        self.fail_next: CameraError | None = None

    def click(self) -> None:
        """Take a picture."""
        self._frames.put(self._frame())

    def open(self) -> None:
        self.opened += 1
        if self._closed.is_set():
            self._closed.clear()
            self._frames = queue.SimpleQueue()
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error

    def capture(self, timeout_s: float) -> Frame:
        if not self.opened:
            raise CameraError("it is not open")
        if self._every_s is not None:
            if self._closed.wait(self._every_s):
                raise CameraError("closed")
            return self._frame()
        try:
            frame = self._frames.get(timeout=timeout_s)
        except queue.Empty:
            raise CaptureTimeoutError(f"no frame within {timeout_s} s") from None
        if frame is None:
            raise CameraError("closed")
        return frame

    def close(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            self._frames.put(None)

    def _frame(self) -> Frame:
        self._sequence += 1
        return Frame(np.zeros((SIDE, SIDE, 3), np.uint8), datetime.now(UTC), self._sequence)


class ScriptedImpulse:
    """An Impulse that answers as a test's function says; raises what that raises."""

    def __init__(self, version: int, answer: Callable[[int], None] = lambda _: None) -> None:
        self.info = ImpulseInfo(name="scripted", version=version, labels=LABELS, input=INPUT, has_shared_memory=False)
        self._answer = answer
        self.asked = 0
        self.closed = False
        self.depth = 2
        self._under_way: deque[Pixels] = deque()

    def submit(self, image: Pixels) -> None:
        if self.closed:
            raise ImpulseExitedError("it is closed")
        assert image.shape == (SIDE, SIDE, 3)
        assert len(self._under_way) < self.depth
        self._under_way.append(image)

    def collect(self) -> Answer:
        return self.classify(self._under_way.popleft())

    def classify(self, image: Pixels) -> Answer:
        if self.closed:
            raise ImpulseExitedError("it is closed")
        self.asked += 1
        self._answer(self.asked)
        assert image.shape == (SIDE, SIDE, 3)
        return Answer({"head": 0.1, "hardhat": 0.8, "nobody": 0.1}, 1.0)

    def close(self) -> None:
        self.closed = True
