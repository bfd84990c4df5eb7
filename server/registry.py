"""The server's memory: cameras, nights, what happened in them, and the cameras' verdicts (SQLite)."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.errors import StoreError
from appliance.models.verdict import Verdict
from appliance.store.locks import held

_SCHEMA = """
CREATE TABLE cameras (
    node_id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, public_key TEXT NOT NULL UNIQUE, enrolled_utc TEXT NOT NULL
) STRICT;
CREATE TABLE nights (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, began_utc TEXT NOT NULL, ended_utc TEXT, outcome TEXT,
    message TEXT NOT NULL DEFAULT '', figures TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE TABLE events (
    id INTEGER PRIMARY KEY, night INTEGER NOT NULL REFERENCES nights(id), at_utc TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
CREATE TABLE verdicts (
    night INTEGER NOT NULL REFERENCES nights(id), camera TEXT NOT NULL, version INTEGER NOT NULL,
    verdict TEXT, PRIMARY KEY (night, camera)
) STRICT;
"""
_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class EnrolledCamera:
    """A camera of the fleet.

    Attributes:
        node_id: Flower's, decimal.
        name: As people call it.
        public_key: One line, OpenSSH's form.
    """

    node_id: int
    name: str
    public_key: str = field(default="", compare=False)


@dataclass(frozen=True)
class NightRecord:
    """One night.

    Attributes:
        id: Counts up.
        name: As people call it, e.g. its date.
        outcome: None while it goes on; "published", "kept", "no quorum" or "failed".
        message: One sentence.
        figures: What was measured, by name.
    """

    id: int
    name: str
    outcome: str | None
    message: str
    figures: Mapping[str, Any]


class Registry:
    """The registry file.

    Args:
        path: Made where it is missing.

    Raises:
        StoreError: It is damaged, or of a newer release.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with held(path.parent), self._open() as database:  # SQLite can't make one new file from two processes at once
            database.execute("BEGIN IMMEDIATE")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            database.execute("COMMIT")
            if version not in (0, _SCHEMA_VERSION):
                raise StoreError(
                    f"{path} has schema {version}, this release knows {_SCHEMA_VERSION}",
                    do="Upgrade Sitecam on the server",
                )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection per call: the round's process and the page's share the file."""
        try:
            database = sqlite3.connect(self._path, timeout=30, isolation_level=None)
            try:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = FULL")
                database.execute("PRAGMA foreign_keys = ON")
                yield database
            finally:
                database.close()
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"The registry {self._path} can't be used ({error})",
                means="Cameras, nights and verdicts can't be read or written",
                do="Check the disk; restore the file from a backup",
            ) from error

    # Cameras

    def enrol(self, node_id: int, name: str, public_key: str) -> None:
        """Note a camera.

        Raises:
            StoreError: Name or key is taken.
        """
        row = (str(node_id), name, public_key, _now())
        with self._open() as database:
            database.execute("INSERT INTO cameras VALUES (?, ?, ?, ?)", row)

    def cameras(self) -> list[EnrolledCamera]:
        """All cameras, by name."""
        with self._open() as database:
            rows = database.execute("SELECT node_id, name, public_key FROM cameras ORDER BY name").fetchall()
        return [EnrolledCamera(int(node_id), name, key) for node_id, name, key in rows]

    # Nights

    def begin(self, name: str) -> int:
        """Start a night; return its id."""
        with self._open() as database:
            cursor = database.execute("INSERT INTO nights (name, began_utc) VALUES (?, ?)", (name, _now()))
            night = cursor.lastrowid
        if night is None:
            raise StoreError("SQLite gave the night no id", means="The night is not held")
        return night

    def note(self, night: int, text: str) -> None:
        """Something happened, in a sentence."""
        with self._open() as database:
            database.execute("INSERT INTO events (night, at_utc, text) VALUES (?, ?, ?)", (night, _now(), text))

    def end(self, night: int, outcome: str, message: str, figures: Mapping[str, Any]) -> None:
        """The night is over. The first end counts: a process that died later can't rewrite it."""
        with self._open() as database:
            database.execute(
                "UPDATE nights SET ended_utc = ?, outcome = ?, message = ?, figures = ?"
                " WHERE id = ? AND outcome IS NULL",
                (_now(), outcome, message, json.dumps(figures), night),
            )

    def night(self, night: int) -> NightRecord:
        """A night as it stands.

        Raises:
            StoreError: There is no such night.
        """
        with self._open() as database:
            row = database.execute(
                "SELECT id, name, outcome, message, figures FROM nights WHERE id = ?", (night,)
            ).fetchone()
        if row is None:
            raise StoreError(f"There is no night {night}", do="Look at sitecam-server status")
        return NightRecord(row[0], row[1], row[2], row[3], json.loads(row[4]))

    def events(self, night: int, *, after: int = 0) -> list[tuple[int, str]]:
        """(id, sentence) of what happened in a night after event ``after``."""
        with self._open() as database:
            rows = database.execute(
                "SELECT id, text FROM events WHERE night = ? AND id > ? ORDER BY id", (night, after)
            ).fetchall()
        return [(int(number), str(text)) for number, text in rows]

    # Verdicts

    def put_verdict(self, night: int, camera: str, version: int, verdict: Verdict | None) -> None:
        """What a camera made of a version; None where it did not answer."""
        text = None if verdict is None else verdict.to_json()
        with self._open() as database:
            database.execute("INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?, ?)", (night, camera, version, text))

    def verdicts(self, night: int) -> dict[str, Verdict | None]:
        """Every enrolled camera's verdict in a night, by camera; None for one that did not answer."""
        with self._open() as database:
            rows = database.execute(
                "SELECT camera, verdict FROM verdicts WHERE night = ? ORDER BY camera", (night,)
            ).fetchall()
        return {str(camera): None if text is None else Verdict.from_json(text) for camera, text in rows}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
