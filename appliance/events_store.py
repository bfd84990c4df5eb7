"""Events on disk: one SQLite file, and a JPEG file per event that has a snapshot.

A snapshot is written and synced before its row says that it is there, and a row is deleted before its snapshot: what a
power cut leaves in between is a file that no row knows, and the next start removes it.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.errors import NotThereError
from appliance.events_memory import Unwritten
from appliance.events_record import Change, Event, Vote
from appliance.events_schema import COLUMNS, event_of, open_events, refused, text, values_of
from appliance.files import read_no_link, sweep_temporaries, sync_folder, write_atomically
from appliance.store.locks import held

logger = logging.getLogger(__name__)

DATABASE = "events.sqlite"

# told: what listeners have heard of an event, as a sum of these.
_BITS: dict[Change, int] = {"began": 1, "ended": 2, "acknowledged": 4, "false": 8}
_DUE = "1 + 2 * (ended_utc IS NOT NULL) + 4 * (acknowledged_utc IS NOT NULL) + 8 * called_false"
_TOUCHES = "began_utc < ? AND MAX(began_utc, COALESCE(ended_utc, ?)) >= ?"
_STILL_NEWS = timedelta(days=1)
_ID = re.compile(r"[0-9a-f]{32}")
_PRIVATE = 0o600  # pictures of people: the other users of this machine have no business with them


def checked_id(event_id: str) -> str:
    """The id, if it is one: ids become file names, so nothing else may pass.

    Raises:
        NotThereError: It is not 32 lower-case hex digits.
    """
    if not _ID.fullmatch(event_id):
        raise NotThereError(f"{event_id[:60]!r} is not an event's id", do="Use an id from the list of events")
    return event_id


def no_such(event_id: str) -> NotThereError:
    """The error for an id that no event has."""
    return NotThereError(
        f"There is no event {event_id}",
        means="It was deleted, or was older than events are kept",
        do="Load the list of events again",
    )


class EventStore:
    """The events' folder. Safe for several threads of one process.

    Args:
        folder: Made where it is missing.

    Raises:
        StoreError: The database is of a newer release, or the disk refused it.
        OSError: The disk refused.
    """

    def __init__(self, folder: Path) -> None:
        self._snapshots = folder / "snapshots"
        for each in (folder, self._snapshots):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / DATABASE
        self._lock = threading.RLock()
        self._damaged = folder / f"{DATABASE}.damaged"
        try:
            with held(folder):
                self._database = self._open()
        except sqlite3.Error as error:
            raise refused(error) from error
        try:
            self._path.chmod(_PRIVATE)
            self._end_what_lasted()
            self._sweep()
        except BaseException:
            self._database.close()
            raise

    def _open(self) -> sqlite3.Connection:
        try:
            return open_events(self._path)
        except sqlite3.OperationalError:  # no room, no right: the file itself may be good
            raise
        except sqlite3.DatabaseError as error:
            logger.error(
                "%s is damaged (%s); it is moved to %s, and events start anew", self._path, error, self._damaged
            )
            self._path.replace(self._damaged)
            for end in ("-wal", "-shm"):
                self._path.with_name(f"{DATABASE}{end}").unlink(missing_ok=True)
            return open_events(self._path)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    # Writing

    def add_old(self, events: Sequence[Event]) -> None:
        """Take over events of an earlier release; those that are there already stay as they are.

        Raises:
            StoreError: The disk refused; nothing was added.
        """
        with self._transaction():
            for event in events:
                self._database.execute(
                    "INSERT OR IGNORE INTO events (id, kind, sentence, began_utc, ended_utc, detail, told)"
                    " VALUES (?, ?, ?, ?, ?, ?, 15)",
                    values_of(event),
                )

    def write(self, changes: dict[str, Unwritten], *, told: bool) -> None:
        """Write what is new, all of it or nothing, by event id; evidence about an unknown event is dropped.

        Args:
            changes: By event id.
            told: Nobody is to hear of it later.

        Raises:
            StoreError: The disk refused.
        """
        with self._transaction():
            for event_id, change in changes.items():
                if change.event is not None:
                    self._database.execute(
                        "INSERT INTO events (id, kind, sentence, began_utc, ended_utc, detail)"
                        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET sentence = excluded.sentence,"
                        " ended_utc = excluded.ended_utc, detail = excluded.detail",
                        values_of(change.event),
                    )
                    if told or change.late:
                        self._database.execute(f"UPDATE events SET told = {_DUE} WHERE id = ?", (event_id,))  # noqa: S608  # our own constant
                self._write_evidence(event_id, change)

    def _write_evidence(self, event_id: str, change: Unwritten) -> None:
        row = self._database.execute("SELECT seq FROM events WHERE id = ?", (event_id,)).fetchone()
        if row is None:
            return
        self._database.executemany(
            "INSERT INTO trail VALUES (?, ?, ?, ?, ?)",
            [(row[0], text(vote.at_utc), vote.label, vote.confidence, vote.version) for vote in change.votes],
        )
        if change.jpeg is not None:
            write_atomically(self._file(event_id), change.jpeg, mode=_PRIVATE)
            self._database.execute("UPDATE events SET snapshot_bytes = ? WHERE id = ?", (len(change.jpeg), event_id))

    def take_note(self, event_id: str, by: str, at_utc: datetime, *, false: bool) -> Event:
        """A person has taken note of an event, or calls it false; who was first stays. Safe when it returns.

        Raises:
            NotThereError: There is no such event.
            StoreError: The disk refused.
        """
        with self._transaction():
            changed = self._database.execute(
                "UPDATE events SET acknowledged_by = COALESCE(acknowledged_by, ?),"
                " acknowledged_utc = COALESCE(acknowledged_utc, ?), called_false = MAX(called_false, ?) WHERE id = ?",
                (by, text(at_utc), int(false), event_id),
            ).rowcount
            if not changed:
                raise no_such(event_id)
            return self.event(event_id)

    def mark_told(self, told: Sequence[tuple[str, Change]]) -> None:
        """Listeners have heard of these changes, each with its event's id.

        Raises:
            StoreError: The disk refused.
        """
        with self._transaction():
            self._database.executemany(
                "UPDATE events SET told = told | ? WHERE id = ?",
                [(_BITS[change], event_id) for event_id, change in told],
            )

    def delete_between(self, begin_utc: datetime, end_utc: datetime) -> list[Event]:
        """Delete every event that touches [begin, end), its trail and its snapshot, for good.

        Returns:
            What there was.

        Raises:
            StoreError: The disk refused; some may be deleted already.
        """
        self._damaged.unlink(missing_ok=True)  # nobody can say what is in it
        return self._delete(_TOUCHES, _touching(begin_utc, end_utc))

    def ids_between(self, begin_utc: datetime, end_utc: datetime) -> set[str]:
        """Which events :meth:`delete_between` would delete.

        Raises:
            StoreError: The disk failed.
        """
        return {event.id for event in self._select(_TOUCHES, _touching(begin_utc, end_utc))}

    def purge(self, *, days: int, most: int) -> list[Event]:
        """Delete what is older than ``days`` and, oldest first, what is more than ``most``; not what still lasts.

        Raises:
            StoreError: The disk refused; some may be deleted already.
        """
        oldest = text(datetime.now(UTC) - timedelta(days=days))
        return self._delete(
            "ended_utc IS NOT NULL"
            " AND (began_utc < ? OR seq <= (SELECT seq FROM events ORDER BY seq DESC LIMIT 1 OFFSET ?))",
            (oldest, most),
        )

    def _delete(self, where: str, values: Sequence[str | int]) -> list[Event]:
        with self._lock:
            with self._transaction():
                found = self._select(where, values)
                self._database.executemany("DELETE FROM events WHERE id = ?", [(event.id,) for event in found])
            pictures = [event for event in found if event.snapshot]
            try:
                for event in pictures:
                    self._file(event.id).unlink(missing_ok=True)
                if pictures:
                    sync_folder(self._snapshots)
                if found:  # what was deleted still stands in the write-ahead log
                    self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except (OSError, sqlite3.Error) as error:
                raise refused(error) from error
        return found

    # Reading

    def event(self, event_id: str) -> Event:
        """One event.

        Raises:
            NotThereError: There is no such event.
            StoreError: The disk failed.
        """
        found = self._select("id = ?", (checked_id(event_id),))
        if not found:
            raise no_such(event_id)
        return found[0]

    def events(self, *, before: str | None, kind: str | None, open_only: bool, count: int) -> list[Event]:
        """Events, newest first.

        Args:
            before: Only what came before the event with that id.
            kind: Only of that kind.
            open_only: Only what nobody has acknowledged or called false.
            count: So many at most.

        Raises:
            NotThereError: There is no event ``before``.
            StoreError: The disk failed.
        """
        where, values = ["TRUE"], list[str | int]()
        if before is not None:
            self.event(before)
            where.append("seq < (SELECT seq FROM events WHERE id = ?)")
            values.append(before)
        if kind is not None:
            where.append("kind = ?")
            values.append(kind)
        if open_only:
            where.append("acknowledged_utc IS NULL")
        return self._select(f"{' AND '.join(where)} ORDER BY seq DESC LIMIT ?", [*values, count])

    def untold(self) -> list[tuple[Event, Change]]:
        """What listeners have not heard yet and is still news, in the order in which it happened."""
        since = text(datetime.now(UTC) - _STILL_NEWS)
        with self._lock:
            found = self._select(f"told != {_DUE} AND began_utc > ? ORDER BY seq", (since,))
            told = dict(self._database.execute("SELECT id, told FROM events").fetchall()) if found else {}
        due: list[tuple[Event, Change]] = []
        for event in found:
            happened = {
                "began": True,
                "ended": event.ended_utc is not None,
                "acknowledged": event.acknowledged_utc is not None,
                "false": event.false,
            }
            due += [(event, each) for each, bit in _BITS.items() if happened[each] and not told[event.id] & bit]
        return due

    def trail(self, event_id: str) -> list[Vote]:
        """An event's trail in its order; empty where there is none.

        Raises:
            StoreError: The disk failed.
        """
        with self._lock:
            try:
                rows = self._database.execute(
                    "SELECT at_utc, label, confidence, version FROM trail"
                    " WHERE event = (SELECT seq FROM events WHERE id = ?) ORDER BY rowid",
                    (event_id,),
                ).fetchall()
            except sqlite3.Error as error:
                raise refused(error) from error
        return [Vote(datetime.fromisoformat(row[0]), *row[1:]) for row in rows]

    def snapshot(self, event_id: str) -> bytes | None:
        """An event's picture as a JPEG file; None where there is none."""
        try:
            return read_no_link(self._file(checked_id(event_id)))
        except FileNotFoundError:
            return None

    def size_bytes(self) -> int:
        """What all of it takes on disk.

        Raises:
            StoreError: The disk failed.
        """
        with self._lock:
            try:
                (pictures,) = self._database.execute("SELECT COALESCE(SUM(snapshot_bytes), 0) FROM events").fetchone()
            except sqlite3.Error as error:
                raise refused(error) from error
        files = (self._path, self._path.with_name(f"{DATABASE}-wal"))
        return int(pictures) + sum(path.stat().st_size for path in files if path.exists())

    # Small things

    def _file(self, event_id: str) -> Path:
        return self._snapshots / f"{event_id}.jpg"

    def _end_what_lasted(self) -> None:
        """What lasted when the power went ended where it was last seen: nobody knows how long it really did."""
        with self._transaction():
            self._database.execute(
                "UPDATE events SET ended_utc = MAX(began_utc, COALESCE("
                "(SELECT MAX(at_utc) FROM trail WHERE event = seq), began_utc)) WHERE ended_utc IS NULL"
            )

    def _sweep(self) -> None:
        sweep_temporaries(self._snapshots)
        known = {row[0] for row in self._database.execute("SELECT id FROM events WHERE snapshot_bytes > 0")}
        for path in self._snapshots.glob("*.jpg"):
            if path.stem not in known:
                path.unlink(missing_ok=True)
        there = {path.stem for path in self._snapshots.glob("*.jpg")}
        with self._transaction():  # somebody may have deleted a file by hand
            self._database.executemany(
                "UPDATE events SET snapshot_bytes = 0 WHERE id = ?", [(each,) for each in known - there]
            )

    def _select(self, where: str, values: Sequence[str | int]) -> list[Event]:
        with self._lock:
            try:
                rows = self._database.execute(f"SELECT {COLUMNS} FROM events WHERE {where}", values).fetchall()  # noqa: S608  # where: our own constants
            except sqlite3.Error as error:
                raise refused(error) from error
        return [event_of(*row) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._database.execute("COMMIT")
                except BaseException:
                    if self._database.in_transaction:
                        self._database.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError) as error:
                raise refused(error) from error


def _touching(begin_utc: datetime, end_utc: datetime) -> tuple[str, str, str]:
    """For _TOUCHES: what still lasts does so until now."""
    return text(end_utc), text(datetime.now(UTC)), text(begin_utc)
