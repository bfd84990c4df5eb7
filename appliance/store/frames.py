"""Frames and their labels: one SQLite file, and a JPEG file per frame.

A frame's file is written and synced before its row, so a row always has its picture; a power cut between the two
leaves a file without a row, which the next start sweeps. Frames of one scene share one split, decided when the
scene is first seen, so that no test frame has a near-twin among the training frames.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from appliance.errors import StoreError
from appliance.files import sync_folder, write_atomically
from appliance.frame import Pixels
from appliance.store.features import FeatureCache
from appliance.store.scenes import Sighting, assign_scenes
from appliance.store.schema import open_database
from appliance.vision import decode
from datasets.likeness import content_hash, likeness

Split = Literal["train", "test"]
IMPORTED = "import"

_BLOCK_S = 600  # live frames further apart than this are different scenes, however alike
_ID = re.compile(r"[0-9a-f]{32}")
_COLUMNS = (
    "frames.id, taken_utc, source, width, height, content_hash, likeness, scene, split,"
    " label, labelled_utc, labelled_by"
)


@dataclass(frozen=True)
class FrameRecord:
    """A stored frame.

    Attributes:
        id: 128 random bits, 32 hex digits.
        taken_utc: Timezone-aware UTC.
        source: "live", "import", ...
        width: Pixels.
        height: Pixels.
        content_hash: SHA-256 of its pixels, hex.
        likeness: See :mod:`datasets.likeness`.
        scene: The scene that it belongs to.
        split: "train" or "test", its scene's.
        label: None until somebody has labelled it.
        labelled_utc: When.
        labelled_by: Who.
    """

    id: str
    taken_utc: datetime
    source: str
    width: int
    height: int
    content_hash: str
    likeness: bytes
    scene: str
    split: Split
    label: str | None
    labelled_utc: datetime | None
    labelled_by: str | None


@dataclass(frozen=True)
class NewFrame:
    """A frame to be stored.

    Attributes:
        jpeg: The file's content.
        taken_utc: Timezone-aware UTC.
        source: Where it comes from.
        label: Where it is known already.
        by: Who says so.
        split: A wish for its scene, where the scene is new.
    """

    jpeg: bytes
    taken_utc: datetime
    source: str
    label: str | None = None
    by: str | None = None
    split: Split | None = None


@dataclass(frozen=True)
class Added:
    """What became of a new frame.

    Attributes:
        frame: As it is stored.
        new: False where the same picture was there already.
    """

    frame: FrameRecord
    new: bool


class FrameStore:
    """A camera's frames. Safe for several threads, and for the camera's and the night's process at once.

    Args:
        root: Its folder; made where it is missing.

    Raises:
        StoreError: The database is damaged.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        (root / "frames").mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._database = open_database(root / "frames.sqlite")
        self._features = FeatureCache(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        with self._lock:
            self._database.close()
            self._features.close()

    # Writing

    def add(self, jpeg: bytes, *, taken_utc: datetime, source: str) -> Added:
        """Store a frame; see :meth:`add_all`."""
        return self.add_all([NewFrame(jpeg, taken_utc, source)])[0]

    def add_all(self, frames: Sequence[NewFrame]) -> list[Added]:
        """Store frames, all of them or none.

        Raises:
            PictureError: One can't be decoded.
            OSError: The disk refused.
            StoreError: The database did.
        """
        seen = [_Seen.of(frame) for frame in frames]  # decoding takes time: not while others wait for the lock
        written: list[Path] = []
        try:
            with self._transaction():
                fresh = self._fresh(seen)
                sightings = [Sighting(new.likeness, _block(new.frame), new.frame.split) for new in fresh]
                for new, scene in zip(fresh, assign_scenes(self._database, sightings), strict=True):
                    self._insert(new, scene, written)
                return self._results(seen, fresh)
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise

    def _fresh(self, seen: Sequence[_Seen]) -> list[_Seen]:
        """Those whose picture is neither stored yet nor earlier in the batch."""
        fresh: dict[str, _Seen] = {}
        for new in seen:
            query = "SELECT 1 FROM frames WHERE content_hash = ?"
            if self._database.execute(query, (new.content_hash,)).fetchone() is None:
                fresh.setdefault(new.content_hash, new)
        return list(fresh.values())

    def _insert(self, new: _Seen, scene: str, written: list[Path]) -> None:
        frame, identity = new.frame, secrets.token_hex(16)
        path = self._path(identity)
        path.parent.mkdir(exist_ok=True)
        written.append(path)
        write_atomically(path, frame.jpeg)
        labelled = _text(datetime.now(UTC)) if frame.label is not None else None
        self._database.execute(
            "INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(identity, _text(frame.taken_utc), frame.source, new.width, new.height),
                *(new.content_hash, new.likeness, scene),
                *(frame.label, labelled, frame.by if frame.label is not None else None),
            ),
        )

    def _results(self, seen: Sequence[_Seen], fresh: Sequence[_Seen]) -> list[Added]:
        first = {id(new) for new in fresh}
        results = []
        for new in seen:
            (record,) = self._select("content_hash = ?", [new.content_hash])
            results.append(Added(record, new=id(new) in first))
        return results

    def label(self, frame_id: str, label: str, *, by: str) -> None:
        """Say what a frame shows. When this returns, a power cut can't take it back.

        Raises:
            StoreError: There is no such frame.
        """
        with self._transaction():
            changed = self._database.execute(
                "UPDATE frames SET label = ?, labelled_utc = ?, labelled_by = ? WHERE id = ?",
                (label, _text(datetime.now(UTC)), by, _checked(frame_id)),
            ).rowcount
        if not changed:
            raise StoreError(f"There is no frame {frame_id}", do="Reload the page: it may have been deleted")

    def unlabel(self, frame_id: str) -> None:
        """Take a label back."""
        with self._transaction():
            self._database.execute(
                "UPDATE frames SET label = NULL, labelled_utc = NULL, labelled_by = NULL WHERE id = ?",
                (_checked(frame_id),),
            )

    def delete(self, frame_id: str) -> None:
        """Remove a frame: features, row, file. Deleting what isn't there does nothing."""
        path = self._path(frame_id)
        self._features.forget(frame_id)
        with self._transaction():
            self._database.execute("DELETE FROM frames WHERE id = ?", (frame_id,))
            self._database.execute("DELETE FROM scenes WHERE id NOT IN (SELECT scene FROM frames)")
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_folder(path.parent)

    def prefer_train(self, scene: str) -> None:
        """Move a whole scene to the training split: a test set must never have been seen."""
        with self._transaction():
            self._database.execute("UPDATE scenes SET split = 'train' WHERE id = ?", (scene,))

    def sweep(self) -> int:
        """Remove files and features without a row, which a power cut left; return how many files that was.

        Call it where no other process is writing.
        """
        known = {record.id for record in self.frames(labelled_only=False)}
        orphans = [
            path
            for path in (self._root / "frames").glob("*/*")
            if path.suffix == ".tmp" or path.name.removesuffix(".jpg") not in known
        ]
        for path in orphans:
            path.unlink()
        self._features.keep_only(known)
        return len(orphans)

    # Reading

    def frame(self, frame_id: str) -> FrameRecord:
        """One frame.

        Raises:
            StoreError: There is no such frame.
        """
        found = self._select("frames.id = ?", [_checked(frame_id)])
        if not found:
            raise StoreError(f"There is no frame {frame_id}", do="Reload the page: it may have been deleted")
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
        return self._select(" AND ".join(where), values)

    def counts(self) -> dict[str, dict[str, int]]:
        """Labelled frames per split and label."""
        with self._lock:
            rows = self._database.execute(
                "SELECT split, label, COUNT(*) FROM frames JOIN scenes ON scene = scenes.id"
                " WHERE label IS NOT NULL GROUP BY split, label ORDER BY split, label"
            ).fetchall()
        counts: dict[str, dict[str, int]] = {}
        for split, label, number in rows:
            counts.setdefault(split, {})[label] = number
        return counts

    def jpeg(self, frame_id: str) -> bytes:
        """A frame's file.

        Raises:
            StoreError: It is gone.
        """
        try:
            return self._path(frame_id).read_bytes()
        except OSError as error:
            raise StoreError(
                f"The picture of frame {frame_id} can't be read ({error.strerror})", do="Check the disk"
            ) from error

    def pixels(self, frame_id: str) -> Pixels:
        """A frame's picture, uint8 [height, width, 3].

        Raises:
            StoreError: It is gone.
            PictureError: It is damaged.
        """
        return decode(self.jpeg(frame_id), name=f"frame {frame_id}")

    # Small things

    def _select(self, where: str, values: Sequence[str]) -> list[FrameRecord]:
        query = f"SELECT {_COLUMNS} FROM frames JOIN scenes ON scene = scenes.id WHERE {where}"  # noqa: S608  # where: our own constants
        with self._lock:
            rows = self._database.execute(f"{query} ORDER BY taken_utc, frames.rowid", values).fetchall()
        return [_record(row) for row in rows]

    def _path(self, frame_id: str) -> Path:
        return self._root / "frames" / _checked(frame_id)[:2] / f"{frame_id}.jpg"

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
            except sqlite3.Error as error:
                raise StoreError(
                    f"The frame store refused ({error})", means="Nothing was changed", do="Check the disk"
                ) from error


@dataclass(frozen=True)
class _Seen:
    """A new frame, looked at."""

    frame: NewFrame
    width: int
    height: int
    content_hash: str
    likeness: bytes

    @staticmethod
    def of(frame: NewFrame) -> _Seen:
        pixels = decode(frame.jpeg)
        height, width = pixels.shape[:2]
        return _Seen(frame, width, height, content_hash(pixels), likeness(pixels))


def _block(frame: NewFrame) -> int | None:
    return None if frame.source == IMPORTED else int(frame.taken_utc.timestamp()) // _BLOCK_S


def _checked(frame_id: str) -> str:
    """Ids become file names: nothing else may pass."""
    if not _ID.fullmatch(frame_id):
        raise StoreError(f"{frame_id[:60]!r} is not a frame's id", do="Use an id that the store gave")
    return frame_id


def _record(row: Sequence[object]) -> FrameRecord:
    values = list(row)
    values[1] = datetime.fromisoformat(str(values[1]))
    values[10] = None if values[10] is None else datetime.fromisoformat(str(values[10]))
    return FrameRecord(*values)  # type: ignore[arg-type]  # in the order of _COLUMNS; STRICT tables keep the types


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
