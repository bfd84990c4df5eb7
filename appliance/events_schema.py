"""The events' table on disk: its schema, opening it, and its rows as events."""

from __future__ import annotations

import errno
import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from appliance.errors import StoreError, StoreFullError
from appliance.events_record import Event

_VERSION = 1
_SCHEMA = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    sentence TEXT NOT NULL,
    began_utc TEXT NOT NULL,
    ended_utc TEXT,
    detail TEXT NOT NULL,
    snapshot_bytes INTEGER NOT NULL DEFAULT 0,
    acknowledged_by TEXT,
    acknowledged_utc TEXT,
    called_false INTEGER NOT NULL DEFAULT 0,
    told INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX events_by_time ON events(began_utc);
CREATE INDEX events_by_kind ON events(kind, seq);
CREATE TABLE trail (
    event INTEGER NOT NULL REFERENCES events(seq) ON DELETE CASCADE,
    at_utc TEXT NOT NULL,
    label TEXT,
    confidence REAL NOT NULL,
    version INTEGER NOT NULL
) STRICT;
CREATE INDEX trail_by_event ON trail(event);
"""
COLUMNS = (
    "id, kind, sentence, began_utc, ended_utc, detail, snapshot_bytes > 0, acknowledged_by, acknowledged_utc,"
    " called_false"
)


def open_events(path: Path) -> sqlite3.Connection:
    """Open the database, making its tables where it is new.

    Raises:
        StoreError: It is of a newer release.
        sqlite3.Error: It is damaged, or the disk refused.
    """
    database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # what the page calls saved survives a power cut
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("PRAGMA secure_delete = ON")  # deleted means overwritten
        (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise sqlite3.DatabaseError(answer)
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > _VERSION:
            raise StoreError(
                f"{path} has schema {version}; this release knows {_VERSION}",
                means="A newer Sitecam has written it; nothing was changed",
                do="Upgrade Sitecam on this camera",
            )
        if version == 0:
            database.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {_VERSION}")
            database.execute("COMMIT")
    except BaseException:
        database.close()
        raise
    return database


def refused(error: OSError | sqlite3.Error) -> StoreError:
    """What a person is told when the disk or the database refused."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return StoreFullError(
            "There is no room on the disk for events",
            means="They are kept in memory and written once there is room; nothing else was changed",
            do="Delete what isn't needed",
        )
    return StoreError(f"The events can't be written or read ({error})", do="Check the disk")


def values_of(event: Event) -> tuple[str | None, ...]:
    """The columns from ``id`` to ``detail``."""
    ended = None if event.ended_utc is None else text(event.ended_utc)
    return event.id, event.kind, event.sentence, text(event.began_utc), ended, json.dumps(dict(event.detail))


def event_of(
    event_id: str,
    kind: str,
    sentence: str,
    began: str,
    ended: str | None,
    detail: str,
    snapshot: int,
    by: str | None,
    acknowledged: str | None,
    false: int,
) -> Event:
    """A row of COLUMNS."""
    return Event(
        kind,
        sentence,
        datetime.fromisoformat(began),
        datetime.fromisoformat(ended) if ended else None,
        json.loads(detail),
        id=event_id,
        snapshot=bool(snapshot),
        acknowledged_by=by,
        acknowledged_utc=datetime.fromisoformat(acknowledged) if acknowledged else None,
        false=bool(false),
    )


def text(moment: datetime) -> str:
    """A time as the tables hold it: UTC, to the microsecond, so that it sorts as text."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
