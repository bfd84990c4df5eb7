"""Frames and their labels: one SQLite file, and a JPEG file per frame.

A frame's file is written and synced before its row, so a row always has its picture; a power cut between the two
leaves a file without a row, which the next start sweeps. Files are written and swept inside the database's write
transaction, so a sweep never meets a file whose row another process is about to write. Frames of one scene share one
split, decided when the scene is first seen, so that no test frame has a near-twin among the training frames.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from appliance.errors import NotThereError, StoreError
from appliance.frame import Pixels
from appliance.store.features import FeatureCache
from appliance.store.pictures import PictureFiles, checked
from appliance.store.scenes import Sighting, assign_scenes
from appliance.store.schema import open_database
from appliance.vision import decode
from datasets.likeness import content_hash, likeness

Split = Literal["train", "test"]
IMPORTED = "import"

_BLOCK_S = 600  # live frames further apart than this are different scenes, however alike
_COLUMNS = (
    "frames.id, taken_utc, source, width, height, content_hash, likeness, scene, split,"
    " label, labelled_utc, labelled_by, reason, size_bytes, version, guess, score, unclear, skipped"
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
        reason: Why it was kept: "random", "uncertain", "scene", "event", "burst", "upload", "false alarm"; empty for
            imported ones.
        size_bytes: Of its file.
        version: The model version that looked at it last; None where none has.
        guess: The label that it thought best.
        score: How sure it was, 0 to 1.
        unclear: A person looked and could not tell; who and when as for a label.
        skipped: How often a person put it off.
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
    reason: str = ""
    size_bytes: int = 0
    version: int | None = None
    guess: str | None = None
    score: float | None = None
    unclear: bool = False
    skipped: int = 0


@dataclass(frozen=True)
class Said:
    """What a model said of a frame.

    Attributes:
        version: Which.
        guess: Its best label.
        score: That label's probability, 0 to 1.
    """

    version: int
    guess: str
    score: float


@dataclass(frozen=True)
class NewFrame:
    """A frame to be stored.

    Attributes:
        jpeg: The file's content, or a file in :meth:`FrameStore.incoming`, which becomes the store's own.
        taken_utc: Timezone-aware UTC.
        source: Where it comes from.
        label: Where it is known already.
        by: Who says so.
        split: A wish for its scene, where the scene is new.
        reason: See :class:`FrameRecord`.
        said: What the model said of it.
    """

    jpeg: bytes | Path
    taken_utc: datetime
    source: str
    label: str | None = None
    by: str | None = None
    split: Split | None = None
    reason: str = ""
    said: Said | None = None


@dataclass(frozen=True)
class Added:
    """What became of a new frame.

    Attributes:
        frame: As it is stored.
        new: False where the same picture was there already.
        labelled: Whether it got its label now. A picture that was there keeps the label it had.
    """

    frame: FrameRecord
    new: bool
    labelled: bool


class FrameStore:
    """A camera's frames. Safe for several threads, and for the camera's and the night's process at once.

    Args:
        root: Its folder; made where it is missing.

    Raises:
        StoreError: The database is damaged, of a newer release, or gone while its pictures are still there.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._pictures = PictureFiles(root)
        self._lock = threading.RLock()
        self._database = open_database(root / "frames.sqlite", must_exist=self._pictures.any())
        try:
            self._features = FeatureCache(root)
        except StoreError:
            self._database.close()
            raise
        try:
            self.sweep()
        except BaseException:
            self.close()
            raise

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

        A picture that is stored already, or comes twice, is not stored again; if it had no label it takes the new one.

        Raises:
            PictureError: One can't be decoded.
            OSError: The disk refused.
            StoreError: The database did.
            ValueError: A time without a time zone.
        """
        seen = [_Seen.of(frame) for frame in frames]  # decoding takes time: not while others wait for the lock
        if any(isinstance(frame.jpeg, Path) for frame in frames):
            os.sync()  # once for all of an import's files, which are moved into place below
        kept: list[str] = []
        try:
            with self._transaction():
                pending = [new for new in seen if self._stored(new) is None]
                sightings = [Sighting(new.likeness, _block(new.frame), new.frame.split) for new in pending]
                scenes = dict(zip(map(id, pending), assign_scenes(self._database, sightings), strict=True))
                added = [self._add(new, scenes.get(id(new)), kept) for new in seen]
                self._pictures.sync(kept)
                return added
        except BaseException:
            for frame_id in kept:  # an interrupt may come just after the commit: then they stay
                if not self._select("frames.id = ?", [frame_id]):
                    self._pictures.remove(frame_id)
            raise

    def _stored(self, new: _Seen) -> FrameRecord | None:
        found = self._select("content_hash = ?", [new.content_hash])
        return found[0] if found else None

    def _add(self, new: _Seen, scene: str | None, kept: list[str]) -> Added:
        """Insert a frame, whose file's name goes into ``kept``, or find the one that is there."""
        frame, stored = new.frame, self._stored(new)
        if stored is not None:
            takes_label = stored.label is None and frame.label is not None
            if takes_label:
                self._write_label(stored.id, frame.label, frame.by, None)
            return Added(self.frame(stored.id), new=False, labelled=takes_label)
        frame_id = secrets.token_hex(16)
        kept.append(frame_id)
        self._pictures.keep(frame_id, frame.jpeg)
        self._database.execute(
            "INSERT INTO frames (id, taken_utc, source, width, height, content_hash, likeness, scene, reason,"
            " size_bytes, version, guess, score) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(frame_id, _text(frame.taken_utc), frame.source, new.width, new.height),
                *(new.content_hash, new.likeness, scene, frame.reason, new.size_bytes),
                *((frame.said.version, frame.said.guess, frame.said.score) if frame.said else (None, None, None)),
            ),
        )
        if frame.label is not None:
            self._write_label(frame_id, frame.label, frame.by, None)
        return Added(self.frame(frame_id), new=True, labelled=frame.label is not None)

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
        with self._transaction():
            self._write_label(checked(frame_id), label, by, at_utc)

    def unlabel(self, frame_id: str) -> None:
        """Take a label back.

        Raises:
            NotThereError: There is no such frame.
        """
        with self._transaction():
            self._write_label(checked(frame_id), None, None, None)

    def _write_label(self, frame_id: str, label: str | None, by: str | None, at_utc: datetime | None) -> None:
        when = None if label is None else _text(at_utc or datetime.now(UTC))
        changed = self._database.execute(
            "UPDATE frames SET label = ?, labelled_utc = ?, labelled_by = ? WHERE id = ?",
            (label, when, by, frame_id),
        ).rowcount
        if not changed:
            raise _no_such(frame_id)

    def delete(self, frame_id: str) -> None:
        """Remove a frame: features, row, file. Deleting what isn't there does nothing."""
        self._features.forget(checked(frame_id))
        with self._transaction():
            scene = self._database.execute("DELETE FROM frames WHERE id = ? RETURNING scene", (frame_id,)).fetchone()
            if scene is not None:
                self._database.execute(
                    "DELETE FROM scenes WHERE id = ? AND id NOT IN (SELECT scene FROM frames)", scene
                )
        self._pictures.remove(frame_id)

    def incoming(self) -> AbstractContextManager[Path]:
        """A folder for files that :class:`NewFrame` names, on the store's disk; gone afterwards."""
        return self._pictures.incoming()

    def sweep(self) -> int:
        """Remove files and features without a row, which a kill or a power cut left; every start does it.

        Returns:
            How many files that was.
        """
        with self._transaction():
            known = {str(row[0]) for row in self._database.execute("SELECT id FROM frames")}
            swept = self._pictures.sweep(known)
        self._features.keep_only(known)
        return swept

    # Reading

    def frame(self, frame_id: str) -> FrameRecord:
        """One frame.

        Raises:
            NotThereError: There is no such frame.
        """
        found = self._select("frames.id = ?", [checked(frame_id)])
        if not found:
            raise _no_such(frame_id)
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
        return self._pictures.read(frame_id)

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
            try:
                rows = self._database.execute(f"{query} ORDER BY taken_utc, frames.rowid", values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"The frame store can't be read ({error})", do="Check the disk") from error
        return [_record(row) for row in rows]

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
                    f"The frame store refused ({error})",
                    means="Nothing was changed",
                    do="If it is locked, wait for the import that is running; else check the disk",
                ) from error


@dataclass(frozen=True)
class _Seen:
    """A new frame, looked at."""

    frame: NewFrame
    width: int
    height: int
    content_hash: str
    likeness: bytes
    size_bytes: int

    @staticmethod
    def of(frame: NewFrame) -> _Seen:
        if frame.taken_utc.tzinfo is None:
            raise ValueError(f"{frame.taken_utc} has no time zone")
        data = frame.jpeg if isinstance(frame.jpeg, bytes) else frame.jpeg.read_bytes()
        pixels = decode(data)
        height, width = pixels.shape[:2]
        return _Seen(frame, width, height, content_hash(pixels), likeness(pixels), len(data))


def _block(frame: NewFrame) -> int | None:
    return None if frame.source == IMPORTED else int(frame.taken_utc.timestamp()) // _BLOCK_S


def _no_such(frame_id: str) -> NotThereError:
    return NotThereError(f"There is no frame {frame_id}", do="Reload the page: it may have been deleted")


def _record(row: Sequence[object]) -> FrameRecord:
    values = list(row)
    values[1] = datetime.fromisoformat(str(values[1]))
    values[10] = None if values[10] is None else datetime.fromisoformat(str(values[10]))
    values[16] = bool(values[16])
    return FrameRecord(*values)  # type: ignore[arg-type]  # in the order of _COLUMNS; STRICT tables keep the types


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
