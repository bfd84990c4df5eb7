"""Starts the version that should run; where it can't, one that can; where it keeps failing, goes back for good."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from appliance.eim.runner import Impulse
from appliance.errors import ImpulseError, ModelError
from appliance.live import RunningModel
from appliance.models.shelf import Shelf
from appliance.models.trial import State
from appliance.models.verdict import Verdict, read_verdict, write_verdict
from appliance.swap import stage

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
        self.stand_in: str | None = None

    def __call__(self) -> RunningModel:
        """Start the current version; if it doesn't start, an older one that does, for this time.

        A version that the loop had to start again three times within ten minutes has not earned its place after all:
        the one before it becomes the current one, and its verdict says why.

        Raises:
            ModelError: No version can be started.
            OSError: The disk refused.
        """
        self._go_back_after_relapses()
        failures: list[str] = []
        for version in self._candidates():
            try:
                model = RunningModel(version, self._start(version))
            except (ModelError, ImpulseError) as error:
                logger.error("Version %d does not start: %s", version, error)
                failures.append(f"Version {version} does not start ({error.what})")
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
        good = [version for version in reversed(self._shelf.versions()) if self._may_run(version)]
        wanted = [self._shelf.current, self._shelf.previous, self._shelf.factory, *good]
        return list(dict.fromkeys(version for version in wanted if version is not None))

    def _may_run(self, version: int) -> bool:
        verdict = read_verdict(self._shelf.root, version)
        return version == self._shelf.factory or (verdict is not None and verdict.accepted)

    def _start(self, version: int) -> Impulse:
        path = self._shelf.impulse_path(version)
        if path.exists():
            try:
                return self._start_impulse(path)
            except ImpulseError as error:  # the file may have rotted: its parts have hashes, it has none
                logger.warning("Version %d is assembled afresh: %s", version, error)
        return self._start_impulse(stage(self._shelf, self._shelf.manifest(version), threads=self._threads))

    def _go_back_after_relapses(self) -> None:
        current, previous = self._shelf.current, self._shelf.previous
        if current is None or previous is None or previous not in self._shelf.versions():
            return
        recent = [version for at, version in self._started if self._clock() - at < RELAPSE_S]
        if recent.count(current) <= RELAPSES - 1:
            return
        reason = (
            f"It had passed, but then failed {RELAPSES} times within {RELAPSE_S / 60:.0f} minutes of live work;"
            f" version {previous} runs again"
        )
        write_verdict(self._shelf.root, Verdict(current, False, reason, datetime.now(UTC), state=str(State.ROLLBACK)))
        self._shelf.go_back(previous)
        self._started.clear()
        logger.error("Version %d: %s", current, reason)
