"""Deletes frames for good, wherever this camera keeps something of them, and remembers that it did.

The order makes it safe to be killed anywhere: one transaction notes the deletion, the ids that it dooms, and removes
their rows; from then on nobody finds them. Files, thumbnails, cached features, events and copies of the database
follow; at last both databases' logs are brought into their files and cut, so that no page holds what was deleted.
Only then the deletion counts as done. What a kill left is finished at the next start.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from appliance.errors import ConfigError, ModelError, StoreError
from appliance.models.manifest import Manifest
from appliance.store.database import marks
from appliance.store.frames import FrameStore
from appliance.store.labelling import forget
from appliance.store.pictures import checked
from appliance.store.records import Row, as_text

logger = logging.getLogger(__name__)

_SQLITE = b"SQLite format 3\0"
_LIVE = {f"{name}.sqlite{end}" for name in ("frames", "features") for end in ("", "-wal", "-shm", "-journal")}
_COLUMNS = "id, at_utc, by, what, frames, labelled, events, nights, done"
_BETWEEN = "taken_utc >= ? AND taken_utc < ?"
_MOST = 1000  # deletions that are listed

Others = Callable[[datetime, datetime], int]


class Versions(Protocol):
    """What a shelf tells of its versions."""

    def versions(self) -> list[int]:
        """All of them, rising."""

    def manifest(self, version: int) -> Manifest:
        """Of one; raises ModelError where it is damaged."""


@dataclass(frozen=True)
class Deletion:
    """What was deleted, or would be.

    Attributes:
        id: Counts up; 0 where nothing has been deleted yet.
        at_utc: When.
        by: Who asked for it.
        what: In words, without what it showed.
        frames: How many.
        labelled: How many of them had a label.
        events: Deleted with them.
        nights: That had learned from at least one of the frames.
        versions: Models on this camera that came out of these nights, or were built on one that did.
        done: Every copy is gone.
    """

    id: int
    at_utc: datetime
    by: str
    what: str
    frames: int
    labelled: int
    events: int
    nights: tuple[str, ...]
    versions: tuple[int, ...]
    done: bool


class Deleter:
    """Deletes for good.

    Args:
        store: The frames.
        shelf: Tells which versions learned from them.
        others: Deletes what else was kept of a span of time, such as events' snapshots; returns how many. Called
            again where it was cut off.
        others_there: How many that would be.
        settle: Has frames that wait in memory stored, before a span is deleted; raises where it can't.
    """

    def __init__(
        self,
        store: FrameStore,
        shelf: Versions,
        others: Others = lambda *_: 0,
        others_there: Others = lambda *_: 0,
        settle: Callable[[], object] = lambda: None,
    ) -> None:
        self._store = store
        self._shelf = shelf
        self._others, self._others_there = others, others_there
        self._settle = settle

    def frames(self, frame_ids: Sequence[str], *, by: str) -> Deletion:
        """Delete these frames; those that aren't there are passed over.

        Raises:
            StoreError: Something refused. What is noted already is finished later.
        """
        ids = [checked(frame_id) for frame_id in frame_ids]
        return self._delete(f"id IN ({marks(len(ids))})", ids, _plural(len(ids), "frame"), by, None)

    def span(self, begin_utc: datetime, end_utc: datetime, *, by: str, what: str) -> Deletion:
        """Delete everything from a moment until before another.

        Args:
            begin_utc: Timezone-aware.
            end_utc: Timezone-aware.
            by: Who asks.
            what: The span in words, as people know it.

        Raises:
            ConfigError: It ends before it begins.
            StoreError: As for :meth:`frames`.
        """
        begin, end = _checked_span(begin_utc, end_utc)
        self._settle()
        return self._delete(_BETWEEN, [as_text(begin), as_text(end)], what, by, (begin, end))

    def preview(self, begin_utc: datetime, end_utc: datetime, *, what: str) -> Deletion:
        """What :meth:`span` would delete now.

        Raises:
            ConfigError: It ends before it begins.
            StoreError: The database can't be read.
        """
        begin, end = _checked_span(begin_utc, end_utc)
        values = [as_text(begin), as_text(end)]
        frames, labelled = self._count(_BETWEEN, values)
        nights = self._nights(_BETWEEN, values)
        events = self._others_there(begin, end)
        versions = learned(nights, self._manifests())
        return Deletion(0, datetime.now(UTC), "", what, frames, labelled, events, nights, versions, done=False)

    def done(self) -> list[Deletion]:
        """Deletions, the newest first; those too that are still to be finished."""
        manifests = self._manifests()
        rows = self._store.rows(f"SELECT {_COLUMNS} FROM deletions ORDER BY id DESC LIMIT {_MOST}")  # noqa: S608  # our own constants
        return [self._deletion(row, manifests) for row in rows]

    def finish(self) -> int:
        """Finish what was cut off; call it at every start. How many deletions that was.

        Raises:
            StoreError: Something refused; the next call tries again.
        """
        rows = self._store.rows("SELECT id FROM deletions WHERE done = 0 ORDER BY id")
        for (deletion,) in rows:
            self._carry_out(deletion)
        return len(rows)

    # Inside

    def _delete(
        self, where: str, values: Sequence[str], what: str, by: str, span: tuple[datetime, datetime] | None
    ) -> Deletion:
        begin, end = (as_text(span[0]), as_text(span[1])) if span else (None, None)

        def note_and_forget(connection: sqlite3.Connection) -> int:
            frames, labelled = self._count(where, values)
            nights = "\n".join(self._nights(where, values))
            ids = [row[0] for row in connection.execute(f"SELECT id FROM frames WHERE {where}", values)]  # noqa: S608  # where: this module's
            ((deletion,),) = connection.execute(
                "INSERT INTO deletions (at_utc, by, what, frames, labelled, nights, begin_utc, end_utc)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (as_text(datetime.now(UTC)), by, what, frames, labelled, nights, begin, end),
            ).fetchall()
            connection.executemany("INSERT INTO doomed VALUES (?, ?)", [(deletion, frame_id) for frame_id in ids])
            forget(connection, ids)
            return int(deletion)

        with self._store.adding:
            deletion = self._store.deleting(note_and_forget)
        self._carry_out(deletion)
        (row,) = self._store.rows(f"SELECT {_COLUMNS} FROM deletions WHERE id = ?", [deletion])  # noqa: S608  # our own constant
        return self._deletion(row, self._manifests())

    def _carry_out(self, deletion: int) -> None:
        """Everything after the rows; may be done twice."""
        store = self._store
        ids = [row[0] for row in store.rows("SELECT frame FROM doomed WHERE deletion = ?", [deletion])]
        ((begin, end),) = store.rows("SELECT begin_utc, end_utc FROM deletions WHERE id = ?", [deletion])
        store.features.forget(ids)
        store.pictures.remove(ids)
        store.pictures.sync()
        events = self._others(datetime.fromisoformat(begin), datetime.fromisoformat(end)) if begin else 0
        for copy in copies(store.root):
            _forget_in_copy(copy, ids)
        if not (store.database.checkpoint() and store.features.checkpoint()):
            raise StoreError(
                "The deletion is not finished: another process kept reading the store",
                means="The frames are gone from every list; their traces leave the files at the next start",
                do="Wait until the night is over, or restart the camera's service",
            )
        with store.database.transaction() as connection:
            connection.execute("UPDATE deletions SET events = events + ?, done = 1 WHERE id = ?", (events, deletion))
            connection.execute("DELETE FROM doomed WHERE deletion = ?", (deletion,))

    def _count(self, where: str, values: Sequence[str]) -> tuple[int, int]:
        ((frames, labelled),) = self._store.rows(f"SELECT COUNT(*), COUNT(label) FROM frames WHERE {where}", values)  # noqa: S608  # where: this module's
        return frames, labelled

    def _nights(self, where: str, values: Sequence[str]) -> tuple[str, ...]:
        query = (
            f"SELECT DISTINCT night FROM lessons WHERE frame IN (SELECT id FROM frames WHERE {where}) ORDER BY night"  # noqa: S608  # where: this module's
        )
        return tuple(row[0] for row in self._store.rows(query, values))

    def _deletion(self, row: Row, manifests: Sequence[Manifest]) -> Deletion:
        deletion, at, by, what, frames, labelled, events, nights, done = row
        names = tuple(nights.split("\n")) if nights else ()
        versions = learned(names, manifests)
        when = datetime.fromisoformat(at)
        return Deletion(deletion, when, by, what, frames, labelled, events, names, versions, bool(done))

    def _manifests(self) -> list[Manifest]:
        manifests: list[Manifest] = []
        for version in self._shelf.versions():
            try:
                manifests.append(self._shelf.manifest(version))
            except ModelError as error:
                logger.warning("Version %d is not asked what it learned from: %s", version, error)
        return manifests


def learned(nights: Collection[str], manifests: Sequence[Manifest]) -> tuple[int, ...]:
    """Versions that came out of one of these nights, or were built on one that did.

    Where a parent isn't here any more, its child counts as taught if the parent may have been: rather one too many.

    Args:
        nights: By the names that manifests give them.
        manifests: In any order.
    """
    here = {manifest.version for manifest in manifests}
    taught: set[int] = set()
    for manifest in sorted(manifests, key=lambda each: each.version):
        parent = manifest.parent
        lost = parent is not None and parent not in here and bool(taught) and parent > min(taught)
        if manifest.night in nights or parent in taught or lost:
            taught.add(manifest.version)
    return tuple(sorted(taught))


def copies(root: Path) -> list[Path]:
    """Files in the store's folder that are databases and not the store's own: somebody's copies."""
    found: list[Path] = []
    for path in sorted(root.iterdir()):
        if path.is_file() and not path.is_symlink() and path.name not in _LIVE:
            with path.open("rb") as file:
                if file.read(len(_SQLITE)) == _SQLITE:
                    found.append(path)
    return found


def _forget_in_copy(path: Path, ids: Sequence[str]) -> None:
    try:
        with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as copy:
            copy.execute("PRAGMA secure_delete = ON")
            copy.execute("PRAGMA foreign_keys = ON")
            tables = {row[0] for row in copy.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for table, column in (("frames", "id"), ("features", "frame")):
                if table in tables:
                    copy.executemany(f"DELETE FROM {table} WHERE {column} = ?", [(each,) for each in ids])  # noqa: S608  # from the line above
            copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise StoreError(
            f"The deletion is not finished: {path.name}, a copy of a database, can't be changed ({error})",
            means="It may still hold what was to be deleted; the store itself doesn't",
            do=f"Delete {path}; the deletion is finished at the next start",
        ) from error


def _checked_span(begin_utc: datetime, end_utc: datetime) -> tuple[datetime, datetime]:
    if not begin_utc < end_utc:
        raise ConfigError("The span ends before it begins", means="Nothing was deleted", do="Give its begin first")
    return begin_utc, end_utc


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}s" if count != 1 else f"one {noun}"
