"""New frames: looked at before the store's lock is taken, inserted under it."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from appliance.store.database import StoreDatabase
from appliance.store.labelling import write_label
from appliance.store.records import IMPORTED, Added, FrameRecord, NewFrame, as_text
from appliance.store.scenes import Sighting, assign_scenes
from appliance.vision import decode
from datasets.likeness import content_hash, likeness

_BLOCK_S = 600  # live frames further apart than this are different scenes, however alike
_INSERT = (
    "INSERT INTO frames (id, taken_utc, source, width, height, content_hash, likeness, scene, label, labelled_utc,"
    " labelled_by, reason, size_bytes, version, guess, score, unclear, skipped)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True)
class Seen:
    """A new frame, looked at.

    Attributes:
        frame: As it came.
        id: What it is called if it is stored.
        width: Pixels.
        height: Pixels.
        content_hash: See :mod:`datasets.likeness`.
        likeness: Likewise.
        size_bytes: Of its file.
    """

    frame: NewFrame
    id: str
    width: int
    height: int
    content_hash: str
    likeness: bytes
    size_bytes: int

    @staticmethod
    def of(frame: NewFrame) -> Seen:
        """Decode a frame's picture.

        Raises:
            PictureError: It can't be decoded.
            ValueError: Its time has no time zone.
        """
        if frame.taken_utc.tzinfo is None:
            raise ValueError(f"{frame.taken_utc} has no time zone")
        data = frame.jpeg if isinstance(frame.jpeg, bytes) else frame.jpeg.read_bytes()
        pixels = decode(data)
        height, width = pixels.shape[:2]
        return Seen(frame, secrets.token_hex(16), width, height, content_hash(pixels), likeness(pixels), len(data))

    @property
    def unstored(self) -> Added:
        """What became of it where it is not stored."""
        frame = self.frame
        record = FrameRecord(
            id=self.id,
            taken_utc=frame.taken_utc,
            source=frame.source,
            width=self.width,
            height=self.height,
            content_hash=self.content_hash,
            likeness=self.likeness,
            scene="",
            split="train",
            label=None,
            labelled_utc=None,
            labelled_by=None,
        )
        return Added(record, new=False, labelled=False)

    @property
    def sighting(self) -> Sighting:
        """What decides its scene."""
        block = None if self.frame.source == IMPORTED else int(self.frame.taken_utc.timestamp()) // _BLOCK_S
        past = self.frame.past
        return Sighting(self.likeness, block, self.frame.split, past.scene if past else None)


def fresh(database: StoreDatabase, seen: Iterable[Seen]) -> list[Seen]:
    """Those whose picture is not stored, each picture once."""
    first: dict[str, Seen] = {}
    for new in seen:
        first.setdefault(new.content_hash, new)
    return [new for new in first.values() if _stored(database, new) is None]


def came_too_late(database: StoreDatabase, seen: Sequence[Seen]) -> set[str]:
    """Ids of those that waited in memory while the span that they were taken in was deleted.

    What its owner imports again is another matter.
    """
    spans = database.rows("SELECT begin_utc, end_utc, at_utc FROM deletions WHERE begin_utc IS NOT NULL")
    late: set[str] = set()
    for each in seen:
        taken = as_text(each.frame.taken_utc)
        again = each.frame.past is not None or each.frame.source == IMPORTED
        if not again and any(begin <= taken < end and taken <= at for begin, end, at in spans):
            late.add(each.id)
    return late


def insert_all(database: StoreDatabase, connection: sqlite3.Connection, seen: Sequence[Seen]) -> list[Added]:
    """Insert frames or find those that are there, inside a transaction.

    Args:
        database: The store's.
        connection: As its transaction gave it.
        seen: The file of every new one is in its place.
    """
    pending = [new for new in seen if _stored(database, new) is None]  # with doubles: their wishes count too
    scenes = assign_scenes(connection, [new.sighting for new in pending])
    inserted = {new.id for new in fresh(database, pending)}
    for new, scene in zip(pending, scenes, strict=True):
        if new.id in inserted:
            _insert(connection, new, scene)
    ids: list[str] = []
    labelled: list[bool] = []
    for new in seen:
        frame = new.frame
        if new.id in inserted:
            ids.append(new.id)
            labelled.append(frame.label is not None)
            continue
        frame_id = str(_stored(database, new))
        ((label,),) = database.rows("SELECT label FROM frames WHERE id = ?", [frame_id])
        takes_label = label is None and frame.label is not None
        if frame.label is not None and takes_label:
            write_label(connection, frame_id, frame.label, frame.by, frame.past.labelled_utc if frame.past else None)
        ids.append(frame_id)
        labelled.append(takes_label)
    records = {record.id: record for record in database.some(sorted(set(ids)))}
    return [
        Added(records[frame_id], new=frame_id in inserted and frame_id == new.id, labelled=took)
        for frame_id, took, new in zip(ids, labelled, seen, strict=True)
    ]


def _stored(database: StoreDatabase, new: Seen) -> str | None:
    found = database.rows("SELECT id FROM frames WHERE content_hash = ?", [new.content_hash])
    return found[0][0] if found else None


def _insert(connection: sqlite3.Connection, new: Seen, scene: str) -> None:
    frame, said, past = new.frame, new.frame.said, new.frame.past
    unclear = frame.label is None and past is not None and past.unclear
    looked_at = frame.label is not None or unclear
    connection.execute(
        _INSERT,
        (
            *(new.id, as_text(frame.taken_utc), frame.source, new.width, new.height),
            *(new.content_hash, new.likeness, scene, frame.label),
            as_text((past and past.labelled_utc) or datetime.now(UTC)) if looked_at else None,
            frame.by if looked_at else None,
            *(frame.reason, new.size_bytes),
            *((said.version, said.guess, said.score) if said else (None, None, None)),
            *(int(unclear), past.skipped if past else 0),
        ),
    )
    if past:
        connection.executemany("INSERT INTO lessons VALUES (?, ?)", [(night, new.id) for night in set(past.nights)])
