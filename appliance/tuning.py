"""Keeps the decision rules in step: with the version that runs, and with what people have labelled."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from appliance.calibration import rules_for
from appliance.config import Settings
from appliance.decide import Decider
from appliance.live import LiveLoop
from appliance.models.shelf import Shelf
from appliance.paths import CameraPaths

logger = logging.getLogger(__name__)

_LOOK_S = 1.0
_LABELS_S = 60.0  # labels come in one by one: not a new fit for each of them
_WATCHED = ("frames.sqlite", "frames.sqlite-wal", "features.sqlite", "features.sqlite-wal")


class Tuner:
    """Fits the rules in a thread of its own, and hands them to the decider.

    Args:
        settings: The camera's.
        shelf: Its models.
        loop: Says which version answers.
        decider: Gets the rules.
    """

    def __init__(self, settings: Settings, shelf: Shelf, loop: LiveLoop, decider: Decider) -> None:
        self._settings = settings
        self._store = CameraPaths(settings.state_dir).store
        self._shelf = shelf
        self._loop = loop
        self._decider = decider
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="tuner", daemon=True)

    def start(self) -> None:
        """Watch from now on."""
        self._thread.start()

    def stop(self, *, deadline_s: float = 10) -> None:
        """Watch no longer."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def _watch(self) -> None:
        fitted: tuple[int, tuple[float, ...]] | None = None
        since_s = 0.0
        while not self._stopping.wait(_LOOK_S):
            since_s += _LOOK_S
            version = self._loop.version
            if version is None:
                continue
            now = version, tuple(_changed_at(self._store / name) for name in _WATCHED)
            if now == fitted or (fitted and fitted[0] == version and since_s < _LABELS_S):
                continue
            self._fit(version)
            # Looked at again: reading the store may touch its write-ahead log.
            fitted = version, tuple(_changed_at(self._store / name) for name in _WATCHED)
            since_s = 0.0

    def _fit(self, version: int) -> None:
        if not self._store.exists():
            return
        rules = rules_for(
            self._store,
            self._shelf,
            version,
            sure_above=self._settings.model.sure_above,
            familiar=self._settings.alarm.familiar,
        )
        self._decider.use(version, rules)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
