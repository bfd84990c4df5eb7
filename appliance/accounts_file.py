"""The file of accounts, one-time codes and sessions: SQLite, for its owner's eyes only."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import StoreError
from appliance.store.locks import held

_SCHEMA = """
CREATE TABLE accounts (
    key TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, hash TEXT NOT NULL, created_s REAL NOT NULL,
    seen_s REAL
) STRICT;
CREATE TABLE codes (
    id TEXT PRIMARY KEY, hash TEXT NOT NULL, role TEXT NOT NULL, expires_s REAL NOT NULL, tries_left INTEGER NOT NULL
) STRICT;
CREATE TABLE sessions (
    hash TEXT PRIMARY KEY, account TEXT NOT NULL REFERENCES accounts(key) ON DELETE CASCADE,
    began_s REAL NOT NULL, used_s REAL NOT NULL
) STRICT;
CREATE INDEX sessions_of ON sessions (account);
PRAGMA user_version = 1;
"""
_VERSION = 1


class AccountsFile:
    """One connection, for one thread at a time.

    The command line of root may make the file: it then belongs to whoever the state folder belongs to, so that the
    camera's service can use it.

    Args:
        path: The file; it and its folder are made where they are missing.

    Raises:
        StoreError: It can't be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._database = self._open()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For statements that change nothing.

        Raises:
            StoreError: The file can't be used.
        """
        with self._lock, self._said():
            yield self._database

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or, where the block raises, nothing.

        Raises:
            StoreError: The file can't be used.
        """
        with self._lock, self._said():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                self._database.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
            with held(folder):  # two processes must not make one new file at once
                is_new = not self.path.exists()
                self.path.touch(mode=0o600)
                self.path.chmod(0o600)
                if is_new and os.geteuid() == 0:
                    owner = folder.parent.stat()
                    for made in (folder, self.path):  # SQLite gives its own side files to the same owner
                        os.chown(made, owner.st_uid, owner.st_gid)
                with self._said():
                    return self._connect()
        except OSError as error:
            raise self._unusable(error) from error

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("PRAGMA secure_delete = ON")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                database.executescript(f"BEGIN IMMEDIATE;{_SCHEMA}COMMIT;")
            elif version != _VERSION:
                raise StoreError(
                    f"{self.path} has schema {version}, this release knows {_VERSION}",
                    means="Nobody can log in",
                    do="Upgrade Sitecam on this camera",
                )
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> StoreError:
        return StoreError(
            f"The accounts in {self.path} can't be used ({error})",
            means="Nobody can log in",
            do="Check the disk; without the file everybody starts afresh with `sudo sitecam login-code`",
        )
