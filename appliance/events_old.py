"""Reads events.jsonl, where earlier releases kept events: one JSON object per line."""

from __future__ import annotations

import hashlib
import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

from appliance.events_record import Event

logger = logging.getLogger(__name__)


def read_old_events(path: Path) -> list[Event]:
    """Its events, oldest first; a line that can't be read is left out, and so is a file.

    An event gets the same id each time, so that reading the file twice adds nothing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        logger.warning("%s can't be read (%s); events start anew", path, error)
        return []
    events = []
    for line in lines:
        try:
            events.append(_event(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s has a line that is no event (%r)", path, error)
    return events


def _event(body: dict[str, Any]) -> Event:
    ended, kind, began = body["ended_utc"], str(body["kind"]), datetime.fromisoformat(body["began_utc"])
    if began.tzinfo is None:
        raise ValueError("its time has no time zone")
    return Event(
        kind=kind,
        sentence=str(body["sentence"]),
        began_utc=began,
        # One that lasted when the power went: nobody knows how long it did.
        ended_utc=began if ended is None else datetime.fromisoformat(ended),
        detail={str(key): float(value) for key, value in dict(body["detail"]).items()},
        id=hashlib.sha256(f"{kind} {began.isoformat()}".encode()).hexdigest()[:32],
    )
