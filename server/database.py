"""The server's one SQLite file: its tables, their migrations, and a connection per call."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from appliance.errors import StoreError
from appliance.store.locks import held

# Each entry takes the file one version further; none is ever changed once released.
_MIGRATIONS = (
    """
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
""",
    """
ALTER TABLE cameras RENAME TO old_cameras;
CREATE TABLE cameras (
    node_id TEXT PRIMARY KEY, name TEXT NOT NULL, public_key TEXT NOT NULL UNIQUE, enrolled_utc TEXT NOT NULL,
    revoked_utc TEXT, revoked_why TEXT NOT NULL DEFAULT '',
    held_utc TEXT, held_why TEXT NOT NULL DEFAULT '',
    bad_nights INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO cameras (node_id, name, public_key, enrolled_utc)
    SELECT node_id, name, public_key, enrolled_utc FROM old_cameras;
DROP TABLE old_cameras;
CREATE UNIQUE INDEX camera_names ON cameras (name) WHERE revoked_utc IS NULL;
CREATE TABLE codes (
    id TEXT PRIMARY KEY, key BLOB NOT NULL, made_utc TEXT NOT NULL, expires_utc TEXT NOT NULL,
    uses_left INTEGER NOT NULL, tries_left INTEGER NOT NULL
) STRICT;
CREATE TABLE requests (
    id INTEGER PRIMARY KEY, code TEXT NOT NULL, name TEXT NOT NULL, public_key TEXT NOT NULL,
    address TEXT NOT NULL, token_hash TEXT NOT NULL, asked_utc TEXT NOT NULL,
    decision TEXT, decided_utc TEXT, reason TEXT NOT NULL DEFAULT '', node_id TEXT
) STRICT;
CREATE TABLE trail (
    id INTEGER PRIMARY KEY, at_utc TEXT NOT NULL, who TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
ALTER TABLE nights ADD COLUMN checkpoint TEXT NOT NULL DEFAULT '{}';
CREATE TABLE statuses (
    night INTEGER NOT NULL REFERENCES nights(id), camera TEXT NOT NULL, at_utc TEXT NOT NULL, version INTEGER NOT NULL,
    train_frames TEXT NOT NULL, test_frames TEXT NOT NULL, objection TEXT NOT NULL, health TEXT NOT NULL,
    PRIMARY KEY (night, camera)
) STRICT;
CREATE TABLE rounds (
    night INTEGER NOT NULL REFERENCES nights(id), round INTEGER NOT NULL, began_utc TEXT NOT NULL,
    seconds REAL NOT NULL, strategy TEXT NOT NULL, asked INTEGER NOT NULL, used INTEGER NOT NULL,
    frames INTEGER NOT NULL, correct INTEGER NOT NULL, loss REAL NOT NULL, epsilon REAL,
    PRIMARY KEY (night, round)
) STRICT;
CREATE TABLE replies (
    night INTEGER NOT NULL REFERENCES nights(id), round INTEGER NOT NULL, kind TEXT NOT NULL, camera TEXT NOT NULL,
    used INTEGER NOT NULL, bad INTEGER NOT NULL, reason TEXT NOT NULL, examples INTEGER, loss REAL, norm REAL,
    PRIMARY KEY (night, round, kind, camera)
) STRICT;
CREATE TABLE models (
    version INTEGER PRIMARY KEY, night INTEGER NOT NULL REFERENCES nights(id), parent INTEGER NOT NULL,
    created_utc TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL, metrics TEXT NOT NULL
) STRICT;
ALTER TABLE verdicts RENAME TO old_verdicts;
CREATE TABLE verdicts (
    night INTEGER NOT NULL REFERENCES nights(id), camera TEXT NOT NULL, version INTEGER NOT NULL,
    at_utc TEXT NOT NULL, verdict TEXT, PRIMARY KEY (night, camera, version)
) STRICT;
INSERT INTO verdicts SELECT v.night, v.camera, v.version, n.began_utc, v.verdict
    FROM old_verdicts AS v JOIN nights AS n ON n.id = v.night;
DROP TABLE old_verdicts;
""",
    """
CREATE TABLE page_certificates (
    serial TEXT PRIMARY KEY, node_id TEXT NOT NULL REFERENCES cameras(node_id), nonce BLOB NOT NULL,
    names TEXT NOT NULL, issued_utc TEXT NOT NULL, expires_utc TEXT NOT NULL, fingerprint TEXT NOT NULL,
    UNIQUE (node_id, nonce)
) STRICT;
""",
    """
ALTER TABLE codes ADD COLUMN approved_by TEXT NOT NULL DEFAULT '';
""",
    """
CREATE TABLE boards (
    night INTEGER NOT NULL REFERENCES nights(id), camera TEXT NOT NULL, board TEXT NOT NULL,
    PRIMARY KEY (night, camera)
) STRICT;
""",
)


class Database:
    """The file.

    Args:
        path: Made where it is missing, brought up to date where it is older.

    Raises:
        StoreError: It is damaged, or of a newer release.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with held(path.parent), self.open() as database:  # SQLite can't make one new file from two processes at once
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > len(_MIGRATIONS):
                raise StoreError(
                    f"{path} has schema {version}, this release knows {len(_MIGRATIONS)}",
                    do="Upgrade Sitecam on the server",
                )
            for number in range(version, len(_MIGRATIONS)):
                database.execute("BEGIN IMMEDIATE")
                for statement in _MIGRATIONS[number].split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {number + 1}")
                database.execute("COMMIT")

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """A connection per call: the round's process and the page's share the file.

        Raises:
            StoreError: The file can't be used.
        """
        try:
            database = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            try:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = FULL")
                database.execute("PRAGMA foreign_keys = ON")
                yield database
            finally:
                database.close()
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"The registry {self.path} can't be used ({error})",
                means="Cameras, nights and verdicts can't be read or written",
                do="Check the disk; restore the file from a backup",
            ) from error


def now() -> str:
    """The time as the tables hold it: ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
