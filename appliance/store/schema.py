"""The store's tables."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from appliance.errors import StoreError
from appliance.store.locks import held

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


def open_database(path: Path, *, must_exist: bool) -> sqlite3.Connection:
    """Open the store's database, making it where it is missing.

    Args:
        path: Its file.
        must_exist: Don't make it: there are pictures already, and a new database would disown them all.

    Raises:
        StoreError: It is damaged, of a newer release, or missing where it must exist.
    """
    try:
        with held(path.parent):  # SQLite itself can't make one new file from two processes at once
            return _open(path, must_exist)
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"The frame store {path} can't be used ({error})",
            means="Nothing was changed; the pictures beside it are untouched",
            do=f"Check the disk. Restore the file from a backup. To start an empty store, move {path.parent} away",
        ) from error


def _open(path: Path, must_exist: bool) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # what the page calls saved survives a power cut
        database.execute("PRAGMA foreign_keys = ON")
        (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise sqlite3.DatabaseError(answer)
        _migrate(database, path, must_exist)
    except BaseException:
        database.close()
        raise
    return database


def _migrate(database: sqlite3.Connection, path: Path, must_exist: bool) -> None:
    database.execute("BEGIN IMMEDIATE")
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0 and must_exist:
            raise StoreError(
                f"The frame store {path} is empty or missing, but there are pictures beside it",
                means="What they show is not known any more; nothing was changed",
                do=f"Restore {path.name} from a backup. To start an empty store, move {path.parent} away",
            )
        if version == 0:
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            raise StoreError(
                f"The frame store {path} has schema {version}; this release knows {VERSION}",
                means="A newer Sitecam has written it; nothing was changed",
                do="Upgrade Sitecam on this machine",
            )
        database.execute("COMMIT")
    except BaseException:
        database.execute("ROLLBACK")
        raise
