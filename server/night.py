"""Starts a night's run on the SuperLink, follows it to its outcome, and starts it again where it was cut off."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from appliance.errors import NightError
from appliance.store.locks import held
from server.config import ServerSettings
from server.paths import ServerPaths
from server.registry import ONLY_DEPLOY, NightRecord, Registry
from server.roster import Roster
from server.superlink import SuperLink
from server.window import Window

EXIT_CODES = {"published": 0, "deployed": 0, "kept": 4, "no quorum": 5, "refused": 6, "failed": 1}

_POLL_S = 0.5
_LOOK_S = 10.0
_COMES_UP_S = 120.0  # within this a ServerApp has begun, or never will
_STARTS = 5  # of a ServerApp in one night
_GRACE_S = 120.0  # after the window, for the night to end by itself


def hold_night(
    settings: ServerSettings,
    superlink: SuperLink,
    say: Callable[[str], None],
    *,
    name: str = "",
    only_deploy: bool = False,
) -> NightRecord:
    """Hold one night and wait for its end; a night that was cut off is gone on with instead.

    Args:
        settings: The server's.
        superlink: Running.
        say: Told what happens, sentence by sentence.
        name: The night's; default: today's date, UTC.
        only_deploy: Train nothing; take the version that runs to cameras behind it.

    Returns:
        The night with its outcome.

    Raises:
        NightError: It could not be started, or another one is under way.
    """
    paths = ServerPaths(settings.state_dir)
    registry = Registry(paths.registry)
    if not Roster(paths.registry).cameras():
        raise NightError("No camera is enrolled", means="There is nobody to train with", do="Run sitecam-server code")
    paths.following.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(held(paths.following, fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise NightError(
                "A night is under way already",
                means="Two at once would spoil each other",
                do="Wait for its end; sitecam-server status and the fleet page show it",
            ) from error
        superlink.prepare()
        night = _cut_off(registry, settings, say)
        if night is None:
            night = registry.begin(name or datetime.now(UTC).date().isoformat())
            if only_deploy:
                registry.put_checkpoint(night, {ONLY_DEPLOY: True})
        try:
            return _Follower(settings, paths, registry, superlink, night, say).follow()
        except NightError as error:
            registry.end(night, "failed", str(error), {})
            raise


def _cut_off(registry: Registry, settings: ServerSettings, say: Callable[[str], None]) -> int | None:
    """A night without an outcome whose window is still open; older ones are ended."""
    found = None
    for record in registry.unended():
        if found is None and Window(record.began_utc, settings.night.window_s).left_s > 0:
            found = record.id
            say(f"Going on with the night {record.name}, which was cut off")
        else:
            message = "The server was stopped in its midst and its window is over. Nothing was published."
            registry.end(record.id, "failed", message, {})
    return found


class _Follower:
    def __init__(
        self,
        settings: ServerSettings,
        paths: ServerPaths,
        registry: Registry,
        superlink: SuperLink,
        night: int,
        say: Callable[[str], None],
    ) -> None:
        self._paths, self._registry, self._superlink = paths, registry, superlink
        self._night, self._say = night, say
        began_utc = registry.night(night).began_utc
        self._window = Window(began_utc, settings.night.window_s + _GRACE_S)
        self._run: int | None = None
        self._starts = 0

    def follow(self) -> NightRecord:
        seen = max((number for number, _ in self._registry.events(self._night)), default=0)
        while True:
            record = self._registry.night(self._night)  # before the events: what is said last is said too
            for number, text in self._registry.events(self._night, after=seen):
                seen = number
                self._say(text)
            if record.outcome is not None:
                return record
            if self._window.left_s < 0:
                self._registry.end(self._night, "failed", "The night did not end within its window", {})
            elif _free(self._paths.serving) and self._is_over():
                self._start()
            time.sleep(_POLL_S)

    def _is_over(self) -> bool:
        """Whether the run that was started last has ended without an outcome; True where none was started."""
        if self._run is None:
            return True
        if self._begun:
            return True  # somebody was at it, and isn't any longer
        return time.monotonic() > self._begins or self._finished()

    def _start(self) -> None:
        """Start a ServerApp, the first time or again, and wait until it is at work."""
        if self._registry.night(self._night).outcome is not None:
            return  # it ended between two looks
        if self._starts == _STARTS:
            raise NightError(
                f"The ServerApp ended {_STARTS} times without an outcome",
                means="The night ends; nothing was published that isn't whole",
                do=f"Read {self._superlink.log} and {self._paths.flower / 'night.log'}",
            )
        if self._starts and not self._superlink.answers():
            self._note("The SuperLink does not answer; the night waits for it")
            while not self._superlink.answers():
                if self._window.left_s < 0:
                    return
                time.sleep(_POLL_S)
        self._superlink.stop_runs()  # whose ServerApp is gone: cameras would wait for the rest of what it was sending
        self._starts += 1
        self._run = self._superlink.start_run(self._night)
        self._begun = False
        self._begins = time.monotonic() + _COMES_UP_S
        look_at = time.monotonic() + _LOOK_S
        while time.monotonic() < self._begins and self._registry.night(self._night).outcome is None:
            if not _free(self._paths.serving):
                self._begun = True
                return
            if time.monotonic() > look_at:
                look_at = time.monotonic() + _LOOK_S
                if self._finished():
                    return
            time.sleep(0.1)

    def _finished(self) -> bool:
        """Whether Flower says that the run is over; a SuperLink that doesn't answer has none."""
        if self._run is None or not self._superlink.answers():
            return True
        return self._superlink.run_status(self._run).startswith("finished")

    def _note(self, text: str) -> None:
        self._registry.note(self._night, text)


def _free(folder: Path) -> bool:
    """Whether nobody holds the lock on a folder."""
    if not folder.exists():
        return True
    try:
        with held(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return True
    except BlockingIOError:
        return False
