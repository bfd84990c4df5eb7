"""The store's tables."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from appliance.errors import StoreError

VERSION = 1
_SCHEMA = """
CREATE TABLE scenes (
    id TEXT PRIMARY KEY,
    split TEXT NOT NULL CHECK (split IN ('train', 'test')),
    block INTEGER
) STRICT;
CREATE TABLE frames (
    id TEXT PRIMARY KEY,
    taken_utc TEXT NOT NULL,
    source TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    content_hash TEXT NOT NULL UNIQUE,
    likeness BLOB NOT NULL,
    scene TEXT NOT NULL REFERENCES scenes(id),
    label TEXT,
    labelled_utc TEXT,
    labelled_by TEXT
) STRICT;
CREATE INDEX frames_by_scene ON frames(scene);
CREATE INDEX frames_by_label ON frames(label);
"""


def open_database(path: Path) -> sqlite3.Connection:
    """Open the store's database, making it where it is missing.

    Raises:
        StoreError: It is damaged, or of a newer release.
    """
    try:
        database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")  # what the page calls saved survives a power cut
            database.execute("PRAGMA foreign_keys = ON")
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise sqlite3.DatabaseError(answer)
            _migrate(database, path)
        except BaseException:
            database.close()
            raise
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"The frame store {path} can't be used ({error})",
            means="Nothing was changed; the pictures beside it are untouched",
            do="Check the disk. Restore the file from a backup, or move it away to start an empty store",
        ) from error
    return database


def _migrate(database: sqlite3.Connection, path: Path) -> None:
    database.execute("BEGIN IMMEDIATE")  # two processes may open a new store at once
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            raise StoreError(f"{path} has schema {version}, this release knows {VERSION}", do="Upgrade Sitecam")
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise
