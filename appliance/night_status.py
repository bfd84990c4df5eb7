"""How the night goes: written by the night process, read by the camera's page."""

from __future__ import annotations

import functools
import json
import logging
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from appliance.files import write_atomically

logger = logging.getLogger(__name__)

Phase = Literal["idle", "waiting", "features", "training", "testing", "receiving", "done", "failed"]
PHASES: tuple[Phase, ...] = get_args(Phase)


@dataclass(frozen=True)
class NightStatus:
    """Where tonight's training stands on this camera.

    Attributes:
        phase: ``idle`` (no night under way), ``waiting`` (for the server's next word), ``features`` (reading
            labelled frames), ``training``, ``testing``, ``receiving`` (a new version), ``done``, ``failed``.
        night: The night's name; None where there was none yet.
        round: The round under way, from 1; 0 before the first.
        rounds: How many there will be; 0 where that isn't known yet.
        message: One sentence for a person, or nothing.
        updated_utc: When this was written, timezone-aware UTC; None where it never was.
    """

    phase: Phase = "idle"
    night: str | None = None
    round: int = 0
    rounds: int = 0
    message: str = ""
    updated_utc: datetime | None = None

    def __post_init__(self) -> None:
        if self.phase not in PHASES:
            raise ValueError(f"{self.phase!r} is not one of {', '.join(PHASES)}")
        if self.updated_utc is not None and self.updated_utc.utcoffset() != timedelta(0):
            raise ValueError(f"{self.updated_utc} is not UTC")


IDLE = NightStatus()


def write_night_status(path: Path, status: NightStatus) -> None:
    """Replace the status file.

    Raises:
        OSError: The disk refused; the file is as it was.
    """
    updated = status.updated_utc.isoformat() if status.updated_utc else None
    body = {**asdict(status), "updated_utc": updated}
    write_atomically(path, json.dumps(body, indent=1).encode() + b"\n")


def read_night_status(path: Path) -> NightStatus:
    """Read the status file. A missing one is an idle night; so is a damaged one, which is logged once."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return IDLE
    except (OSError, UnicodeDecodeError) as error:
        _warn_once(path, str(error))
        return IDLE
    try:
        return _from_json(json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        _warn_once(path, repr(error))
        return IDLE


def _from_json(body: dict[str, Any]) -> NightStatus:
    updated = body["updated_utc"]
    return NightStatus(
        phase=body["phase"],
        night=None if body["night"] is None else str(body["night"]),
        round=int(body["round"]),
        rounds=int(body["rounds"]),
        message=str(body["message"]),
        updated_utc=None if updated is None else datetime.fromisoformat(updated),
    )


@functools.lru_cache(maxsize=16)
def _warn_once(path: Path, problem: str) -> None:
    """The page asks several times a second: the same problem is worth one line."""
    logger.warning("%s can't be read (%s); the page shows no night until it is written again", path, problem)
