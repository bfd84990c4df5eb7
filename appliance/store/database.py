"""The store's database as the store uses it: one connection that writes, one that reads meanwhile."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.errors import StoreError
from appliance.store.records import COLUMNS, FrameRecord, Row, record_of
from appliance.store.schema import open_database
from appliance.store.written import Written

_CHUNK = 500  # ids per query; SQLite takes no more than some thousands of parameters
_AGAIN_S = 0.05


class StoreDatabase:
    """``frames.sqlite``. Safe for several threads and processes; readers never wait for a writer.

    Args:
        path: The file.
        must_exist: See :func:`appliance.store.schema.open_database`.
        written: Counts what is written.

    Raises:
        StoreError: See :func:`appliance.store.schema.open_database`.
    """

    def __init__(self, path: Path, *, must_exist: bool, written: Written) -> None:
        self.path = path
        self._written = written
        self._lock, self._reading = threading.RLock(), threading.Lock()
        self._writer_thread: int | None = None
        self._database = open_database(path, must_exist=must_exist)
        try:
            self._reader = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._reader.execute("PRAGMA query_only = ON")
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        with self._lock, self._reading:
            self._reader.close()
            self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything in it happens, or nothing; when it is over, a power cut can't take it back.

        Raises:
            StoreError: The database refused.
        """
        with self._lock, self._written.counted():
            try:
                self._database.execute("BEGIN IMMEDIATE")
                self._writer_thread = threading.get_ident()
                try:
                    yield self._database
                    self._database.execute("COMMIT")
                except BaseException:
                    if self._database.in_transaction:
                        self._database.execute("ROLLBACK")
                    raise
                finally:
                    self._writer_thread = None
            except sqlite3.Error as error:
                raise StoreError(
                    f"The frame store refused ({error})",
                    means="Nothing was changed",
                    do="If it is locked, wait for the import that is running; else check the disk",
                ) from error

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows of a SELECT; inside a transaction they show what it has done so far.

        Raises:
            StoreError: The database can't be read.
        """
        try:
            if self._writer_thread == threading.get_ident():
                return self._database.execute(query, values).fetchall()
            with self._reading:
                return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"The frame store can't be read ({error})", do="Check the disk") from error

    def select(self, where: str, values: Sequence[Any] = ()) -> list[FrameRecord]:
        """The frames for which a condition holds, in the order in which they were taken.

        Args:
            where: SQL, our own constants only.
            values: Of its question marks.

        Raises:
            StoreError: The database can't be read.
        """
        query = f"SELECT {COLUMNS} FROM frames JOIN scenes ON scene = scenes.id WHERE {where}"  # noqa: S608  # where: our own constants
        return [record_of(row) for row in self.rows(f"{query} ORDER BY taken_utc, frames.rowid", values)]

    def some(self, ids: Sequence[str]) -> list[FrameRecord]:
        """Those frames, in the order of their ids; those that aren't there are left out."""
        found: dict[str, FrameRecord] = {}
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            found |= {frame.id: frame for frame in self.select(f"frames.id IN ({marks(len(chunk))})", chunk)}
        return [found[frame_id] for frame_id in ids if frame_id in found]

    def used_bytes(self) -> int:
        """What the database takes: neither pages that wait to be used again count, nor its log, which is cut often."""
        pages, free, size = (
            int(self.rows(f"PRAGMA {name}")[0][0]) for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def checkpoint(self, deadline_s: float = 10.0) -> bool:
        """Bring everything from the write-ahead log into the file, and cut the log to nothing.

        Returns:
            False where another process kept reading all the while.
        """
        ends = time.monotonic() + deadline_s
        while True:
            with self._lock, self._reading, self._written.counted():
                (busy, _, _) = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy or time.monotonic() > ends:
                return not busy
            time.sleep(_AGAIN_S)


def marks(count: int) -> str:
    """So many question marks."""
    return ",".join("?" * count)
