"""Looks at a camera and says what is wrong with it, and what to do.

One fault doesn't hide the next, nothing is changed, and what another user's files hold is said to be unreadable
instead of guessed.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from appliance.config import Settings
from appliance.doctor import board, card, installed, sight, site
from appliance.doctor.finding import Finding, State, as_json
from appliance.errors import SitecamError
from appliance.status_file import read_status
from appliance.system import System

__all__ = ["Finding", "State", "as_json", "examine"]

logger = logging.getLogger(__name__)

_LIMIT_S = 12.0  # for one check: a driver that hangs must not hide the rest


def examine(
    settings: Settings, *, root: Path = Path("/"), vcgencmd: str = "vcgencmd", limit_s: float = _LIMIT_S
) -> list[Finding]:
    """Look at everything; takes up to twenty seconds.

    Args:
        settings: The camera's.
        root: Where ``/proc`` and ``/sys`` are; another folder in tests.
        vcgencmd: The firmware's command.
        limit_s: What takes longer is given up, and said.
    """
    state = System(settings.state_dir, root=root, vcgencmd=vcgencmd).look()
    status = read_status(settings.state_dir)
    running = status if status is not None and status.alive else None
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("runtime", installed.runtime),
        ("wheels", lambda: installed.wheels(root)),
        ("driver", lambda: sight.driver(settings)),
        ("camera", lambda: sight.capture(settings, running)),
        ("temperature", lambda: board.temperature(state)),
        ("throttling", lambda: board.throttling(state)),
        ("power", lambda: board.power(state)),
        ("memory", lambda: board.memory(state, root)),
        ("clock", lambda: board.clock(root)),
        ("card", lambda: card.speed(settings, root)),
        ("wear", lambda: card.wear(settings, root, running)),
        ("disk", lambda: card.disk(settings)),
        ("fleet", lambda: site.fleet(settings)),
        ("server", lambda: site.server(settings)),
        ("model", lambda: site.model(settings)),
        ("cell", lambda: installed.cell(running)),
        ("store", lambda: site.store(settings)),
        ("night", lambda: site.night(settings)),
        ("page", lambda: site.page(settings, running)),
        ("certificate", lambda: site.certificate(settings)),
        ("services", lambda: installed.services(root)),
    ]
    return [_within(limit_s, what, check) for what, check in checks]


def _within(limit_s: float, what: str, check: Callable[[], Finding]) -> Finding:
    done: queue.SimpleQueue[Finding] = queue.SimpleQueue()
    threading.Thread(target=lambda: done.put(_made(what, check)), name=f"doctor-{what}", daemon=True).start()
    try:
        return done.get(timeout=limit_s)
    except queue.Empty:
        return Finding(what, "fault", f"no answer within {limit_s:g} s: something hangs. Switch the board off and on.")


def _made(what: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except (SitecamError, OSError) as error:
        return Finding(what, "fault", str(error))
    except Exception as error:  # a doctor that falls over says nothing of the rest
        logger.exception("The check %s failed", what)
        return Finding(what, "fault", f"could not be looked at ({error!r}). Please report this, with the log above.")
