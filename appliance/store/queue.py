"""What waits for a person, by reason and by doubt: the queries behind the labelling queue.

Each walks an index and stops early, so that 100,000 frames answer like a hundred. Frames of one scene come once: a
scene of which one frame is labelled is not asked about again. Random frames are the exception, for the sake of what
they are for: only another *random* frame of their scene makes them superfluous, because anything else would let the
model's doubts choose among them; and nobody takes them for another reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from appliance.store.frames import FrameStore
from appliance.store.records import COLUMNS, FrameRecord, as_text, record_of

RANDOM = "random"
FALSE_ALARM = "false alarm"

_WAITS = "label IS NULL AND unclear = 0"
_CHUNK = 100
_FURTHEST = 2000  # rows looked at for one queue: beyond them all are of scenes that are known


@dataclass(frozen=True)
class Candidate:
    """A waiting frame, before it is read.

    Attributes:
        id: The frame's.
        scene: Its scene.
    """

    id: str
    scene: str


def false_alarms(store: FrameStore, most: int) -> list[Candidate]:
    """Waiting frames of alarms that a person called false, the least skipped first."""
    rows = store.rows(
        f"SELECT id, scene FROM frames WHERE {_WAITS} AND reason = ? ORDER BY skipped, id LIMIT ?",  # noqa: S608  # ours
        (FALSE_ALARM, most),
    )
    return [Candidate(*row) for row in rows]


def at_random(store: FrameStore) -> Iterator[Candidate]:
    """Waiting frames that were kept at random, in the order of their ids, which are random too: a fair draw."""
    known = "EXISTS (SELECT 1 FROM frames AS other WHERE other.scene = frames.scene AND other.reason = 'random'"
    known += " AND other.label IS NOT NULL)"
    return _walk(
        store,
        f"SELECT id, scene FROM frames WHERE {_WAITS} AND reason = 'random' AND NOT {known} ORDER BY skipped, id",  # noqa: S608  # ours
    )


def least_certain(store: FrameStore) -> Iterator[Candidate]:
    """All other waiting frames: those that no model has seen first, then the least certain."""
    known = "EXISTS (SELECT 1 FROM frames AS other WHERE other.scene = frames.scene AND other.label IS NOT NULL)"
    return _walk(
        store,
        f"SELECT id, scene FROM frames INDEXED BY frames_waiting WHERE {_WAITS}"  # noqa: S608  # ours
        f" AND reason NOT IN ('random', 'false alarm') AND NOT {known} ORDER BY skipped, score, rowid",
    )


def _walk(store: FrameStore, query: str) -> Iterator[Candidate]:
    """In chunks: whoever has enough stops reading."""
    for start in range(0, _FURTHEST, _CHUNK):
        rows = store.rows(f"{query} LIMIT {_CHUNK} OFFSET {start}", ())
        yield from (Candidate(*row) for row in rows)
        if len(rows) < _CHUNK:
            return


def still_waiting(store: FrameStore, ids: Sequence[str]) -> list[FrameRecord]:
    """Those of the frames that nobody has answered, in the order given; the more often put off, the later."""
    found: dict[str, FrameRecord] = {}
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        marks = ",".join("?" * len(chunk))
        rows = store.rows(
            f"SELECT {COLUMNS} FROM frames JOIN scenes ON scene = scenes.id"  # noqa: S608  # question marks only
            f" WHERE frames.id IN ({marks}) AND +label IS NULL AND +unclear = 0",
            chunk,
        )
        found |= {record.id: record for record in map(record_of, rows)}
    waiting = [found[frame_id] for frame_id in ids if frame_id in found]
    return sorted(waiting, key=lambda frame: frame.skipped)


@dataclass(frozen=True)
class Done:
    """What people answered since a moment.

    Attributes:
        frames: How many, of those that the queue asks about (not imports).
        at_random: How many of them had been kept at random.
    """

    frames: int
    at_random: int


def done_since(store: FrameStore, moment: datetime) -> Done:
    """Count the answers since then: labels and "can't tell"."""
    rows = store.rows(
        "SELECT COUNT(*), COALESCE(SUM(reason = 'random'), 0) FROM frames WHERE labelled_utc >= ? AND reason <> ''",
        (as_text(moment),),
    )
    return Done(*rows[0])


def answer_times(store: FrameStore, person: str, most: int) -> list[datetime]:
    """When that person gave their last answers, newest first, among the newest of all people's."""
    rows = store.rows(
        "SELECT labelled_utc, labelled_by FROM frames WHERE labelled_utc IS NOT NULL"
        " ORDER BY labelled_utc DESC LIMIT ?",
        (most,),
    )
    return [datetime.fromisoformat(at) for at, by in rows if by == person]


def waiting(store: FrameStore) -> int:
    """Frames that nobody has answered."""
    return int(store.rows(f"SELECT COUNT(*) FROM frames WHERE {_WAITS}", ())[0][0])  # noqa: S608  # ours


def unclear(store: FrameStore) -> int:
    """Frames of which a person could not tell what they show."""
    return int(store.rows("SELECT COUNT(*) FROM frames WHERE unclear = 1", ())[0][0])
