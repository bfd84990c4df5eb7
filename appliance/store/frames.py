"""Frames and their labels: one SQLite file, and a JPEG file per frame.

A frame's file is written and synced before its row, so a row always has its picture; a power cut between the two
leaves a file without a row, which the next start sweeps. A sweep waits for no writer: where one is at work it leaves
the files alone. Frames of one scene share one split, decided when the scene is first seen, so that no test frame has
a near-twin among the training frames.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from appliance.errors import StoreError
from appliance.frame import Pixels
from appliance.store import labelling
from appliance.store.adding import Seen, came_too_late, fresh, insert_all
from appliance.store.database import StoreDatabase, marks
from appliance.store.features import FeatureCache
from appliance.store.pictures import PictureFiles, checked
from appliance.store.records import IMPORTED, Added, FrameRecord, NewFrame, Past, Row, Said, Split
from appliance.store.reserve import keep_reserve, spend_reserve
from appliance.store.room import Limits, Room, RoomState
from appliance.store.written import Written
from appliance.vision import decode

__all__ = ["IMPORTED", "Added", "FrameRecord", "FrameStore", "Limits", "NewFrame", "Past", "Row", "Said", "Split"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

_AT_ONCE = 2000  # rows per transaction where many change: a log that stays small


class FrameStore:
    """A camera's frames. Safe for several threads, and for the camera's and the night's process at once.

    Args:
        root: Its folder; made where it is missing.
        limits: What it may take; without them it grows as it is told.

    Raises:
        StoreError: The database is damaged, of a newer release, or gone while its pictures are still there.
    """

    def __init__(self, root: Path, limits: Limits | None = None) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root = root
        self.written = Written()
        self.pictures = PictureFiles(root)
        try:
            self._open()
        except StoreError:
            if not spend_reserve(root):
                raise
            self._open()
        self._room = Room(self, limits)
        self.adding = threading.Lock()  # held while frames come in; taken before the database's
        try:
            self._fill_in_sizes()
            self.sweep()
            keep_reserve(root)
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self.database = StoreDatabase(self.root / "frames.sqlite", must_exist=self.pictures.any(), written=self.written)
        try:
            self.features = FeatureCache(self.root, self._known)
        except StoreError:
            self.database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self.database.close()
        self.features.close()

    # Adding

    def add(self, jpeg: bytes, *, taken_utc: datetime, source: str) -> Added:
        """Store a frame; see :meth:`add_all`."""
        return self.add_all([NewFrame(jpeg, taken_utc, source)])[0]

    def add_all(self, frames: Sequence[NewFrame]) -> list[Added]:
        """Store frames, all of them or none; when this returns, a power cut can't take them back.

        A picture that is stored already, or comes twice, is not stored again; if it had no label it takes the new one.
        Nor is a live one that was taken in a span of time that was deleted since: it waited in somebody's memory.
        However many frames: the disk is synced once for their files and once for their rows.

        Raises:
            PictureError: One can't be decoded.
            StoreFullError: There is no room, and nothing that may be deleted without asking.
            OSError: The disk refused.
            StoreError: The database did.
            ValueError: A time without a time zone.
        """
        seen = [Seen.of(frame) for frame in frames]  # decoding takes time: not while others wait for the lock
        with self.adding, self.pictures.writing():
            late = came_too_late(self.database, seen)
            wanted = [each for each in seen if each.id not in late]
            new = fresh(self.database, wanted)
            self._room.make(sum(each.size_bytes for each in new))
            added = self._stored(wanted, new)
            self._keep_features(wanted, added)
        results = iter(added)
        return [each.unstored if each.id in late else next(results) for each in seen]

    def _stored(self, seen: Sequence[Seen], new: Sequence[Seen]) -> list[Added]:
        kept: list[str] = []
        try:
            with self.written.counted():
                for each in new:
                    kept.append(each.id)
                    self.pictures.keep(each.id, each.frame.jpeg)
                if kept:
                    self.pictures.sync()
            with self.database.transaction() as connection:
                return insert_all(self.database, connection, seen)
        finally:  # another process may have stored the same; an interrupt may come just after the commit
            known = self._known(kept)
            self.pictures.remove([frame_id for frame_id in kept if frame_id not in known])

    def _keep_features(self, seen: Sequence[Seen], added: Sequence[Added]) -> None:
        of_recipe: dict[str, dict[str, Any]] = {}
        for each, result in zip(seen, added, strict=True):
            if result.new and each.frame.features is not None:
                of_recipe.setdefault(each.frame.recipe, {})[result.frame.id] = each.frame.features[None, :]
        for recipe, features in of_recipe.items():
            try:
                with self.written.counted():
                    self.features.put_many(recipe, features)
            except StoreError as error:
                logger.warning("Features of %d frames were not kept: %s", len(features), error)

    def incoming(self) -> AbstractContextManager[Path]:
        """A folder for files that :class:`NewFrame` names, on the store's disk; gone afterwards."""
        return self.pictures.incoming()

    # Labelling

    def label(self, frame_id: str, label: str, *, by: str, at_utc: datetime | None = None) -> None:
        """Say what a frame shows. When this returns, a power cut can't take it back.

        Args:
            frame_id: Which.
            label: What it shows.
            by: Who says so.
            at_utc: When they said so, timezone-aware; now if left out.

        Raises:
            NotThereError: There is no such frame.
        """
        with self.database.transaction() as connection:
            labelling.write_label(connection, frame_id, label, by, at_utc)

    def mark_unclear(self, frame_id: str, *, by: str, at_utc: datetime | None = None) -> None:
        """Say that a person looked at a frame and could not tell; a label that it had is gone.

        Raises:
            NotThereError: There is no such frame.
        """
        with self.database.transaction() as connection:
            labelling.write_unclear(connection, frame_id, by, at_utc)

    def take_back(self, frame_id: str) -> None:
        """Take back a label or an "unclear": the frame waits as if nobody had looked.

        Raises:
            NotThereError: There is no such frame.
        """
        with self.database.transaction() as connection:
            labelling.take_back(connection, frame_id)

    def skip(self, frame_id: str) -> None:
        """Put a frame off.

        Raises:
            NotThereError: There is no such frame.
        """
        with self.database.transaction() as connection:
            labelling.skip(connection, frame_id, 1)

    def unskip(self, frame_id: str) -> None:
        """Take a :meth:`skip` back.

        Raises:
            NotThereError: There is no such frame.
        """
        with self.database.transaction() as connection:
            labelling.skip(connection, frame_id, -1)

    def rescore(self, said: Mapping[str, Said]) -> None:
        """What a model says now, by frame; frames that are gone meanwhile are passed over."""
        entries = list(said.items())
        for start in range(0, len(entries), _AT_ONCE):
            with self.database.transaction() as connection:
                labelling.rescore(connection, dict(entries[start : start + _AT_ONCE]))

    def note_lessons(self, night: str, labels: Collection[str]) -> int:
        """That a night learns from this store's training frames of these labels; how many were new to that night."""
        with self.database.transaction() as connection:
            return labelling.note_lessons(connection, night, labels)

    # Deleting

    def delete(self, frame_id: str) -> None:
        """Remove a frame, see :meth:`delete_all`."""
        self.delete_all([frame_id])

    def delete_all(self, frame_ids: Sequence[str]) -> int:
        """Remove frames: rows, then features, thumbnails and files. Deleting what isn't there does nothing.

        What a power cut leaves of it has no row any more, and goes at the next start.

        Returns:
            How many there were.
        """
        ids = [checked(frame_id) for frame_id in frame_ids]
        gone = self.deleting(lambda connection: labelling.forget(connection, ids))
        self.features.forget(ids)
        self.pictures.remove(ids)
        return gone

    def deleting(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """A transaction that makes room; on a full disk it gets what was set aside for it.

        Raises:
            StoreError: The database refused.
        """
        try:
            with self.database.transaction() as connection:
                return work(connection)
        except StoreError:
            if not spend_reserve(self.root):
                raise
        with self.database.transaction() as connection:
            return work(connection)

    def sweep(self) -> int:
        """Remove files and features without a row, which a kill or a power cut left; every start does it.

        Returns:
            How many files that was; where somebody is writing, the files are left for the next start.
        """
        with self.pictures.alone() as alone:
            known = {row[0] for row in self.database.rows("SELECT id FROM frames")}
            swept = self.pictures.sweep(known) if alone else 0
        self.features.keep_only(known)
        return swept

    # Reading

    def frame(self, frame_id: str) -> FrameRecord:
        """One frame.

        Raises:
            NotThereError: There is no such frame.
        """
        found = self.database.select("frames.id = ?", [checked(frame_id)])
        if not found:
            raise labelling.no_such(frame_id)
        return found[0]

    def frames(
        self, *, split: str | None = None, label: str | None = None, labelled_only: bool = True
    ) -> list[FrameRecord]:
        """Frames in the order in which they were taken."""
        where = ["TRUE"]
        values: list[str] = []
        if labelled_only:
            where.append("label IS NOT NULL")
        for column, value in (("split", split), ("label", label)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        return self.database.select(" AND ".join(where), values)

    def some(self, ids: Sequence[str]) -> list[FrameRecord]:
        """Those frames, in the order of their ids; those that aren't there are left out."""
        return self.database.some([checked(frame_id) for frame_id in ids])

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """The rows of a SELECT of this package's own, over the tables in :mod:`appliance.store.schema`."""
        return self.database.rows(query, values)

    def counts(self) -> dict[str, dict[str, int]]:
        """Labelled frames per split and label."""
        counts: dict[str, dict[str, int]] = {}
        for split, label, number in self.rows(
            "SELECT split, label, COUNT(*) FROM frames JOIN scenes ON scene = scenes.id"
            " WHERE label IS NOT NULL GROUP BY split, label ORDER BY split, label"
        ):
            counts.setdefault(split, {})[label] = number
        return counts

    def jpeg(self, frame_id: str) -> bytes:
        """A frame's file.

        Raises:
            StoreError: It is gone.
        """
        return self.pictures.read(frame_id)

    def pixels(self, frame_id: str) -> Pixels:
        """A frame's picture, uint8 [height, width, 3].

        Raises:
            StoreError: It is gone.
            PictureError: It is damaged.
        """
        return decode(self.jpeg(frame_id), name=f"frame {frame_id}")

    def thumbnail(self, frame_id: str) -> bytes:
        """A small JPEG of a frame, 320 pixels wide; kept in a file beside the picture once it has been asked for.

        Raises:
            NotThereError: There is no such frame.
            StoreError: Its picture is gone.
            PictureError: It is damaged.
        """
        with self.written.counted():
            data = self.pictures.thumbnail(frame_id)
        if not self._known([frame_id]):
            self.pictures.remove([frame_id])  # it was deleted meanwhile
            raise labelling.no_such(frame_id)
        return data

    # Room

    def size_bytes(self) -> int:
        """What pictures, thumbnails, features and database take, from totals that are kept."""
        ((pictures,),) = self.rows("SELECT size_bytes FROM totals")
        return int(pictures + self.pictures.thumbnail_bytes + self.features.used_bytes() + self.database.used_bytes())

    def room(self) -> RoomState:
        """What it takes, what it may take, and whether frames are purged for that."""
        return self._room.state()

    def tidy(self) -> int:
        """Delete what is too old, and what must go to keep within the limits; how many frames that was."""
        with self.adding:
            gone = self._room.tidy()
        keep_reserve(self.root)
        return gone

    # Small things

    def _known(self, ids: Sequence[str]) -> set[str]:
        known: set[str] = set()
        for start in range(0, len(ids), 500):
            chunk = ids[start : start + 500]
            found = self.rows(f"SELECT id FROM frames WHERE id IN ({marks(len(chunk))})", chunk)  # noqa: S608  # question marks only
            known.update(row[0] for row in found)
        return known

    def _fill_in_sizes(self) -> None:
        """Frames of earlier releases don't know how large their files are."""
        unsized = [row[0] for row in self.rows("SELECT id FROM frames WHERE size_bytes = 0")]
        if unsized:
            sizes = [(self.pictures.size_bytes(frame_id), frame_id) for frame_id in unsized]
            with self.database.transaction() as connection:
                connection.executemany("UPDATE frames SET size_bytes = ? WHERE id = ?", sizes)
