"""Messages that wait on disk for neighbours, and the books of what has left.

A message stays until its neighbour has taken it, or until it is too old or too many wait; those are dropped oldest
first, and counted. It keeps its delivery id over every try and every restart, so that whoever gets it twice can tell.
Times are the wall clock's: a camera without a battery clock that was off for a week drops what is a week old.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from appliance.store.locks import held

logger = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY,
    neighbour TEXT NOT NULL,
    delivery TEXT NOT NULL,
    about TEXT NOT NULL,
    what TEXT NOT NULL,
    body BLOB NOT NULL,
    made_utc TEXT NOT NULL,
    UNIQUE (neighbour, delivery)
) STRICT;
CREATE TABLE IF NOT EXISTS sent (
    day TEXT NOT NULL,
    neighbour TEXT NOT NULL,
    messages INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL,
    PRIMARY KEY (day, neighbour)
) STRICT;
"""
_MOST_IN_MEMORY = 100  # while the disk takes none
_BOOKS_DAYS = 400
_BOOK_EVERY_S = 600.0


@dataclass(frozen=True)
class Message:
    """Something for a neighbour.

    Attributes:
        neighbour: ``mqtt`` or ``webhook``.
        delivery: 32 hex digits, the same at every try.
        about: The event's id.
        what: ``began``, ``ended``, ...
        body: What is sent.
        made_utc: Timezone-aware UTC.
    """

    neighbour: str
    delivery: str
    about: str
    what: str
    body: bytes
    made_utc: datetime


@dataclass(frozen=True)
class Sent:
    """What left this camera for one neighbour on one day.

    Attributes:
        day: UTC, like "2026-11-23".
        neighbour: ``mqtt`` or ``webhook``.
        messages: So many.
        size_bytes: Their content, without what TLS and TCP add.
    """

    day: str
    neighbour: str
    messages: int
    size_bytes: int


class Outbox:
    """The messages of all neighbours. Safe for several threads; no call waits for a neighbour.

    Args:
        path: Its file; the folder is made where it is missing.
        most: So many messages wait for one neighbour at most.

    Attributes:
        fault: Why messages wait in memory only, for a person; None where they wait on the disk.
    """

    def __init__(self, path: Path, *, most: int = 1000) -> None:
        self._most = most
        self._changed = threading.Condition(threading.RLock())
        self._memory: list[Message] = []  # newer than all on the disk
        self._dropped: dict[str, int] = defaultdict(int)
        self._unbooked: dict[tuple[str, str], tuple[int, int]] = {}
        self._finished: set[tuple[str, str]] = set()  # sent, but the disk would not let go of them
        self._book_s = time.monotonic() + _BOOK_EVERY_S
        self.fault: str | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with held(path.parent):
                self._database = _open_or_anew(path)
        except (OSError, sqlite3.Error) as error:
            self.fault = f"Messages to neighbours wait in memory only: {path} can't be used ({error}). Check the disk."
            logger.error("%s", self.fault)
            self._database = _open(Path(":memory:"))

    def close(self) -> None:
        """Write the books, and let go of the file."""
        self.book()
        with self._changed:
            self._database.close()

    def put(self, message: Message) -> None:
        """Have a message wait; one with its delivery id that waits already stays as it is.

        On the disk when this returns; where the disk takes nothing, in memory, until it takes one.
        """
        with self._changed:
            self._memory.append(message)
            self._save()
            waiting = self._waiting(message.neighbour)
            if waiting > self._most:
                self._drop_oldest(message.neighbour, waiting - self._most)
            self._changed.notify_all()

    def next(self, neighbour: str) -> Message | None:
        """The oldest message for a neighbour; it stays until :meth:`done`."""
        with self._changed:
            rows = self._read(
                "SELECT neighbour, delivery, about, what, body, made_utc FROM messages WHERE neighbour = ?"
                " ORDER BY id LIMIT ?",
                (neighbour, len(self._finished) + 1),
            )
            for whose, delivery, about, what, body, made in rows:
                if (whose, delivery) not in self._finished:
                    return Message(whose, delivery, about, what, body, datetime.fromisoformat(made))
            return next((each for each in self._memory if each.neighbour == neighbour), None)

    def done(self, message: Message, *, sent_bytes: int | None = None, dropped: bool = False) -> None:
        """A message was taken, or is given up.

        Args:
            message: Which.
            sent_bytes: For the books; its body's where left out.
            dropped: It was given up: counted as such, and not in the books.
        """
        with self._changed:
            self._remove(message)
            if dropped:
                self._dropped[message.neighbour] += 1
            else:
                self.count(message.neighbour, len(message.body) if sent_bytes is None else sent_bytes)

    def forget(self, about: str) -> None:
        """Remove every message about an event that was deleted."""
        with self._changed:
            self._memory = [each for each in self._memory if each.about != about]
            with self._database:
                self._database.execute("DELETE FROM messages WHERE about = ?", (about,))
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def drop_older(self, neighbour: str, age_s: float) -> int:
        """Give up what has waited for longer than that; return how many messages that was."""
        oldest = _text(datetime.now(UTC) - timedelta(seconds=age_s))
        with self._changed:
            late = [each for each in self._memory if each.neighbour == neighbour and _text(each.made_utc) < oldest]
            self._memory = [each for each in self._memory if each not in late]
            try:
                with self._database:
                    gone = self._database.execute(
                        "DELETE FROM messages WHERE neighbour = ? AND made_utc < ?", (neighbour, oldest)
                    ).rowcount
            except sqlite3.Error as error:
                logger.error("The outbox can't be changed (%s)", error)
                gone = 0
            self._dropped[neighbour] += gone + len(late)
        return gone + len(late)

    def waiting(self, neighbour: str) -> int:
        """How many messages wait for a neighbour."""
        with self._changed:
            return self._waiting(neighbour)

    def dropped(self, neighbour: str) -> int:
        """How many of its messages were given up, since the start of the process."""
        return self._dropped[neighbour]

    # The books of what has left

    def count(self, neighbour: str, size_bytes: int) -> None:
        """Something left for a neighbour; in the books on the disk with the next :meth:`book`."""
        key = (datetime.now(UTC).date().isoformat(), neighbour)
        with self._changed:
            messages, total = self._unbooked.get(key, (0, 0))
            self._unbooked[key] = messages + 1, total + size_bytes
            if time.monotonic() >= self._book_s:
                self.book()

    def book(self) -> None:
        """Write down what has left since the last time."""
        with self._changed:
            self._book_s = time.monotonic() + _BOOK_EVERY_S
            try:
                with self._database:
                    self._database.executemany(
                        "INSERT INTO sent VALUES (?, ?, ?, ?) ON CONFLICT (day, neighbour) DO UPDATE SET"
                        " messages = messages + excluded.messages, size_bytes = size_bytes + excluded.size_bytes",
                        [(*key, *counted) for key, counted in self._unbooked.items()],
                    )
                    oldest = (datetime.now(UTC) - timedelta(days=_BOOKS_DAYS)).date().isoformat()
                    self._database.execute("DELETE FROM sent WHERE day < ?", (oldest,))
            except sqlite3.Error as error:
                logger.error("What has left could not be written down (%s); it is tried again", error)
                return
            self._unbooked.clear()

    def sent(self, *, days: int = 30) -> list[Sent]:
        """What has left, per day and neighbour, newest day first."""
        self.book()
        since = (datetime.now(UTC) - timedelta(days=days - 1)).date().isoformat()
        rows = self._read(
            "SELECT day, neighbour, messages, size_bytes FROM sent WHERE day >= ? ORDER BY day DESC, neighbour",
            (since,),
        )
        return [Sent(*row) for row in rows]

    # Small things

    def _save(self) -> None:
        """Move what waits in memory to the disk."""
        try:
            with self._database:
                self._database.executemany(
                    "INSERT OR IGNORE INTO messages (neighbour, delivery, about, what, body, made_utc)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        (each.neighbour, each.delivery, each.about, each.what, each.body, _text(each.made_utc))
                        for each in self._memory
                    ],
                )
        except sqlite3.ProgrammingError:  # it is closed: nobody would ever send what waits in memory now
            raise
        except sqlite3.Error as error:
            logger.error("A message for %s waits in memory only (%s)", self._memory[-1].neighbour, error)
            for each in self._memory[:-_MOST_IN_MEMORY]:
                self._dropped[each.neighbour] += 1
            del self._memory[:-_MOST_IN_MEMORY]
        else:
            self._memory.clear()

    def _waiting(self, neighbour: str) -> int:
        ((stored,),) = self._read("SELECT COUNT(*) FROM messages WHERE neighbour = ?", (neighbour,)) or [(0,)]
        finished = sum(each[0] == neighbour for each in self._finished)
        return int(stored) - finished + sum(each.neighbour == neighbour for each in self._memory)

    def _drop_oldest(self, neighbour: str, count: int) -> None:
        try:
            with self._database:
                self._database.execute(
                    "DELETE FROM messages WHERE id IN"
                    " (SELECT id FROM messages WHERE neighbour = ? ORDER BY id LIMIT ?)",
                    (neighbour, count),
                )
        except sqlite3.Error as error:
            logger.error("The outbox can't be changed (%s)", error)
            return
        self._dropped[neighbour] += count

    def _remove(self, message: Message) -> None:
        in_memory = [each for each in self._memory if each.delivery == message.delivery]
        for each in in_memory:
            self._memory.remove(each)
        if not in_memory:
            self._finished.add((message.neighbour, message.delivery))
        if not self._finished:
            return
        try:
            with self._database:
                self._database.executemany(
                    "DELETE FROM messages WHERE neighbour = ? AND delivery = ?", list(self._finished)
                )
        except sqlite3.Error as error:
            logger.error("The outbox can't be changed (%s); after a restart a message may be sent twice", error)
        else:
            self._finished.clear()

    def _read(self, query: str, values: tuple[str | int, ...]) -> list[tuple[Any, ...]]:
        with self._changed:
            try:
                return self._database.execute(query, values).fetchall()
            except sqlite3.Error as error:
                logger.error("The outbox can't be read (%s)", error)
                return []


def _open_or_anew(path: Path) -> sqlite3.Connection:
    """A damaged file is given up, with the messages in it: it must not keep later ones from leaving."""
    try:
        return _open(path)
    except sqlite3.OperationalError:  # no room, no right: the file itself may be good
        raise
    except sqlite3.DatabaseError as error:
        logger.error("%s is damaged (%s); it is made anew, and what waited in it is lost", path, error)
        for end in ("", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        return _open(path)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=30, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA secure_delete = ON")
        with database:
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
        if path.exists():
            path.chmod(0o600)
    except BaseException:
        database.close()
        raise
    return database


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
