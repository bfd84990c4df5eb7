"""What the page sees of the live loop: the newest frame, and the state of everything around it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from appliance.errors import ModelError
from appliance.frame import Decision, Frame
from appliance.live import LiveLoop
from appliance.models.shelf import Shelf
from appliance.models.verdict import newest_verdict
from appliance.night_status import read_night_status
from appliance.paths import CameraPaths
from appliance.web.source import ModelChange, PageStatus, PageVerdict

_RATE_SPAN_S = 5.0
_HISTORY = 5


class Watch:
    """Listens to the loop on the page's behalf; an ``appliance.web.source.PageSource``.

    Args:
        camera: The camera's name.
        fleet: The fleet's name.
        paths: The camera's state folder.
        shelf: Its models.
    """

    def __init__(self, camera: str, fleet: str, paths: CameraPaths, shelf: Shelf) -> None:
        self._camera = camera
        self._fleet = fleet
        self._paths = paths
        self._shelf = shelf
        self._changed = threading.Condition()
        self._newest: tuple[Frame, Decision | None] | None = None
        self._times: deque[float] = deque(maxlen=1000)
        self._history: deque[ModelChange] = deque(maxlen=_HISTORY)
        self._labels: tuple[str, ...] = ()
        self._loop: Callable[[], LiveLoop | None] = lambda: None

    def follow(self, loop: LiveLoop) -> None:
        """Say whose state to show."""
        self._loop = lambda: loop

    def __call__(self, frame: Frame, decision: Decision | None) -> None:
        """Take note of a frame (called by the loop)."""
        with self._changed:
            self._newest = (frame, decision)
            if decision is not None:
                self._times.append(time.monotonic())
                version = decision.prediction.version
                self._labels = tuple(decision.prediction.scores)
                if not self._history or self._history[0].version != version:
                    self._history.appendleft(ModelChange(version, datetime.now(UTC)))
            self._changed.notify_all()

    def newest(self, after_sequence: int, timeout_s: float) -> tuple[Frame, Decision | None] | None:
        """See ``PageSource.newest``."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_newer(after_sequence), timeout_s)
            return self._newest if self._is_newer(after_sequence) else None

    def status(self) -> PageStatus:
        """See ``PageSource.status``."""
        loop = self._loop()
        with self._changed:
            now = time.monotonic()
            recent = sum(now - at < _RATE_SPAN_S for at in self._times)
            history = tuple(self._history)
            labels = self._labels
        version = loop.version if loop else None
        since = history[0].since_utc if history and history[0].version == version else None
        fault = loop.model_fault if loop else None
        verdict: PageVerdict | None = None
        try:
            newest = newest_verdict(self._shelf.root)
            if newest:
                verdict = PageVerdict(newest.version, newest.accepted, newest.reason, newest.at_utc)
        except ModelError as error:
            fault = fault or str(error)
        return PageStatus(
            camera=self._camera,
            fleet=self._fleet,
            labels=labels,
            model_version=version,
            model_since_utc=since,
            decisions_per_s=recent / _RATE_SPAN_S,
            frames_dropped=loop.dropped if loop else 0,
            camera_fault=loop.camera_fault if loop else None,
            model_fault=fault,
            night=read_night_status(self._paths.night_status),
            last_verdict=verdict,
            history=history,
        )

    def _is_newer(self, sequence: int) -> bool:
        return self._newest is not None and self._newest[0].sequence > sequence
