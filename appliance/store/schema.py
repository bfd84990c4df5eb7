"""The store's tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import StoreError
from appliance.store.locks import held

VERSION = 2
_FIRST = """
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
# reason: why it was kept; version, guess, score: what a model said of it last; unclear: a person could not tell, who
# and when stand in labelled_by and labelled_utc. lessons: which frames a night's training used. totals: kept by
# triggers, so that nobody ever has to add up a hundred thousand sizes. deletions: that something was deleted, never
# what it showed; done: every copy is gone. doomed: frames of deletions that aren't done.
_SECOND = """
ALTER TABLE frames ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE frames ADD COLUMN size_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE frames ADD COLUMN version INTEGER;
ALTER TABLE frames ADD COLUMN guess TEXT;
ALTER TABLE frames ADD COLUMN score REAL;
ALTER TABLE frames ADD COLUMN unclear INTEGER NOT NULL DEFAULT 0;
ALTER TABLE frames ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0;
CREATE INDEX frames_by_time ON frames(taken_utc);
CREATE INDEX frames_waiting ON frames(skipped, score) WHERE label IS NULL AND unclear = 0;
CREATE INDEX frames_unlabelled ON frames(taken_utc) WHERE label IS NULL;
CREATE INDEX scenes_by_block ON scenes(block);
DROP INDEX frames_by_label;
CREATE INDEX frames_by_label ON frames(label, taken_utc) WHERE label IS NOT NULL;
CREATE INDEX frames_waiting_by_reason ON frames(reason, skipped, id) WHERE label IS NULL AND unclear = 0;
CREATE INDEX frames_answered ON frames(labelled_utc) WHERE labelled_utc IS NOT NULL;
CREATE INDEX frames_disputed ON frames(version, score) WHERE guess <> label;
CREATE INDEX frames_labelled ON frames(scene, label, reason) WHERE label IS NOT NULL;
CREATE INDEX frames_unclear ON frames(taken_utc) WHERE unclear = 1;
CREATE TABLE totals (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    frames INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL
) STRICT;
INSERT INTO totals SELECT 1, COUNT(*), COALESCE(SUM(size_bytes), 0) FROM frames;
CREATE TRIGGER frame_comes AFTER INSERT ON frames BEGIN
    UPDATE totals SET frames = frames + 1, size_bytes = size_bytes + NEW.size_bytes;
END;
CREATE TRIGGER frame_goes AFTER DELETE ON frames BEGIN
    UPDATE totals SET frames = frames - 1, size_bytes = size_bytes - OLD.size_bytes;
END;
CREATE TRIGGER frame_is_sized AFTER UPDATE OF size_bytes ON frames BEGIN
    UPDATE totals SET size_bytes = size_bytes + NEW.size_bytes - OLD.size_bytes;
END;
CREATE TABLE lessons (
    night TEXT NOT NULL,
    frame TEXT NOT NULL REFERENCES frames(id) ON DELETE CASCADE,
    PRIMARY KEY (night, frame)
) STRICT, WITHOUT ROWID;
CREATE INDEX lessons_by_frame ON lessons(frame);
CREATE TABLE deletions (
    id INTEGER PRIMARY KEY,
    at_utc TEXT NOT NULL,
    by TEXT NOT NULL,
    what TEXT NOT NULL,
    frames INTEGER NOT NULL,
    labelled INTEGER NOT NULL,
    events INTEGER NOT NULL DEFAULT 0,
    nights TEXT NOT NULL,
    begin_utc TEXT,
    end_utc TEXT,
    done INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE doomed (
    deletion INTEGER NOT NULL REFERENCES deletions(id),
    frame TEXT NOT NULL,
    PRIMARY KEY (deletion, frame)
) STRICT, WITHOUT ROWID;
"""
_STEPS = (_FIRST, _SECOND)  # the schema's version is how many of them have been taken


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
        database.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, not just unlisted
        (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if answer != "ok":
            raise sqlite3.DatabaseError(answer)
        _migrate(database, path, must_exist)
    except BaseException:
        database.close()
        raise
    return database


def _migrate(database: sqlite3.Connection, path: Path, must_exist: bool) -> None:
    if database.execute("PRAGMA user_version").fetchone() == (VERSION,):
        return  # without a byte written: the disk may be full
    database.execute("BEGIN IMMEDIATE")
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0 and must_exist:
            raise StoreError(
                f"The frame store {path} is empty or missing, but there are pictures beside it",
                means="What they show is not known any more; nothing was changed",
                do=f"Restore {path.name} from a backup. To start an empty store, move {path.parent} away",
            )
        if version > VERSION:
            raise StoreError(
                f"The frame store {path} has schema {version}; this release knows {VERSION}",
                means="A newer Sitecam has written it; nothing was changed",
                do="Upgrade Sitecam on this machine",
            )
        for step in _STEPS[version:]:
            for statement in _statements(step):
                database.execute(statement)
        database.execute(f"PRAGMA user_version = {VERSION}")
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # SQLite ends it by itself where the disk is full
            database.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; a trigger has semicolons inside."""
    statement = ""
    for piece in script.split(";"):
        statement += f"{piece};"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
