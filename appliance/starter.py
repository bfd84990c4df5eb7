"""Starts the version that should run; where it can't, one that can; where it keeps failing, goes back for good."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from appliance.eim.runner import Impulse
from appliance.errors import ImpulseError, ModelError
from appliance.live import RunningModel
from appliance.models.shelf import Shelf
from appliance.models.trial import State
from appliance.models.verdict import Verdict, write_verdict
from appliance.staging import is_intact, stage

logger = logging.getLogger(__name__)

RELAPSES = 3  # so many failures ...
RELAPSE_S = 600.0  # ... within this time are the version's doing, not chance


class Starter:
    """Gives the live loop a model, whatever has happened to the newest one.

    Args:
        shelf: Where versions lie.
        start: Starts an ``.eim`` file.
        threads: CPU threads that the model may use.
        clock: Seconds that only rise.
    """

    def __init__(
        self,
        shelf: Shelf,
        start: Callable[[Path], Impulse],
        *,
        threads: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shelf = shelf
        self._start_impulse = start
        self._threads = threads
        self._clock = clock
        self._started: deque[tuple[float, int]] = deque(maxlen=RELAPSES + 1)
        self._going_back: tuple[int, int] | None = None  # from and to; remembered while the disk refuses it
        self.stand_in: str | None = None

    def __call__(self) -> RunningModel:
        """Start the current version; if it doesn't start, an older one that does, for this time.

        A version that the loop had to start again three times within ten minutes has not earned its place after all:
        the one before it becomes the current one, and its verdict says why.

        Raises:
            ModelError: No version can be started.
        """
        candidates = self._candidates()
        failures: list[str] = []
        back = self._way_back(candidates)
        if back is not None:
            candidates = [back, *candidates]
            failures = self._go_back(back)
        for version in dict.fromkeys(candidates):
            try:
                model = RunningModel(version, self._start(version))
            except (ModelError, ImpulseError, OSError) as error:  # OSError: no room to assemble it; others need none
                logger.error("Version %d does not start: %s", version, error)
                failures.append(f"Version {version} does not start ({getattr(error, 'what', error)})")
                continue
            self._started.append((self._clock(), version))
            self.stand_in = f"{failures[0]}; version {version} runs instead" if failures else None
            return model
        raise ModelError(
            "No model version can be started on this camera",
            means=". ".join(failures) or "There is none on its shelf",
            do="Run sitecam doctor; enrol it again with its bundle",
        )

    def _candidates(self) -> list[int]:
        """The current version, the one before it, the factory's, then whatever else was once good here."""
        here, previous = self._shelf.versions(), self._shelf.previous
        good = [version for version in reversed(here) if self._shelf.was_good(version)]
        if previous not in here or self._shelf.is_quarantined(previous):
            previous = None
        wanted = [self._shelf.current, previous, self._shelf.factory, *good]
        return list(dict.fromkeys(version for version in wanted if version is not None))

    def _start(self, version: int) -> Impulse:
        path = self._shelf.impulse_path(version)
        if is_intact(path):
            try:
                return self._start_impulse(path)
            except ImpulseError as error:  # the Python that it remembers may be gone since an upgrade
                logger.warning("Version %d is assembled afresh: %s", version, error)
        return self._start_impulse(stage(self._shelf, self._shelf.manifest(version), threads=self._threads))

    def _way_back(self, candidates: Sequence[int]) -> int | None:
        """Where to go back to, because the current version failed again and again; else None."""
        current = self._shelf.current
        if self._going_back and self._going_back[0] == current:
            return self._going_back[1]
        recent = [version for at, version in self._started if self._clock() - at < RELAPSE_S]
        if current is None or recent.count(current) < RELAPSES:
            return None
        return next((version for version in candidates if version != current), None)

    def _go_back(self, version: int) -> list[str]:
        """Make it the current one; where the disk refuses, it runs all the same, and that is said."""
        current = self._shelf.current or 0
        failed = f"failed {RELAPSES} times within {RELAPSE_S / 60:.0f} minutes of live work"
        reason = f"It had passed, but then {failed}; version {version} runs again"
        verdict = Verdict(current, False, reason, datetime.now(UTC), state=str(State.ROLLBACK))
        logger.error("Version %d: %s", current, reason)
        try:
            write_verdict(self._shelf.root, verdict)
            self._shelf.go_back(version)
        except OSError as error:
            logger.error("Going back to version %d could not be written down: %s", version, error)
            self._going_back = current, version
            return [f"Version {current} {failed}"]
        self._started.clear()
        self._going_back = None
        return []
