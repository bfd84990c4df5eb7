"""Starts a night's run on the SuperLink and follows it to its outcome."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from appliance.errors import NightError
from server.config import ServerSettings
from server.paths import ServerPaths
from server.registry import NightRecord, Registry
from server.superlink import SuperLink

EXIT_CODES = {"published": 0, "kept": 4, "no quorum": 5, "failed": 1}

_POLL_S = 0.5
_LOOK_S = 20.0


def hold_night(
    settings: ServerSettings, superlink: SuperLink, say: Callable[[str], None], *, name: str = ""
) -> NightRecord:
    """Hold one night and wait for its end.

    Args:
        settings: The server's.
        superlink: Running.
        say: Told what happens, sentence by sentence.
        name: The night's; default: today's date, UTC.

    Returns:
        The night with its outcome.

    Raises:
        NightError: It could not be started, or the ServerApp died.
    """
    registry = Registry(ServerPaths(settings.state_dir).registry)
    if not registry.cameras():
        raise NightError("No camera is enrolled", means="There is nobody to train with", do="Run sitecam-server enrol")
    superlink.prepare()
    night = registry.begin(name or datetime.now(UTC).date().isoformat())
    try:
        run = superlink.start_run(night)
    except NightError as error:
        registry.end(night, "failed", str(error), {})
        raise
    try:
        return _follow(registry, superlink, night, run, say)
    except NightError as error:
        registry.end(night, "failed", str(error), {})
        raise


def _follow(registry: Registry, superlink: SuperLink, night: int, run: int, say: Callable[[str], None]) -> NightRecord:
    seen, look_at = 0, time.monotonic() + _LOOK_S
    while True:
        record = registry.night(night)  # before the events: what is said last is said too
        for number, text in registry.events(night, after=seen):
            seen = number
            say(text)
        if record.outcome is not None:
            return record
        if time.monotonic() > look_at:
            look_at = time.monotonic() + _LOOK_S
            status = superlink.run_status(run)
            if status.startswith("finished"):  # the first end counts: nothing happens where there was one
                registry.end(night, "failed", f"The ServerApp ended ({status}) without an outcome", {})
        time.sleep(_POLL_S)
