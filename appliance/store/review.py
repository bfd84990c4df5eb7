"""What people said, looked at again: the queries behind review grid, frame list and data health."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from appliance.store.frames import FrameStore
from appliance.store.records import COLUMNS, IMPORTED, FrameRecord, as_text, record_of

_NEWEST = 2000  # answers tell who labels here

State = Literal["labelled", "waiting", "unclear"]

_FROM = f"SELECT {COLUMNS} FROM frames JOIN scenes ON scene = scenes.id"  # noqa: S608  # our own constant
_STATES: dict[State, str] = {
    "labelled": "label IS NOT NULL",
    "waiting": "label IS NULL AND unclear = 0",
    "unclear": "unclear = 1",
}


@dataclass(frozen=True)
class Page:
    """Some frames, newest first.

    Attributes:
        frames: At most as many as asked for.
        more: Whether there are older ones.
    """

    frames: tuple[FrameRecord, ...]
    more: bool


def disagreements(store: FrameStore, version: int, most: int) -> list[FrameRecord]:
    """Labelled frames that a version would call something else, those that it is surest of first."""
    rows = store.rows(
        f"{_FROM} WHERE guess <> label AND version = ? ORDER BY score DESC, frames.rowid DESC LIMIT ?", (version, most)
    )
    return [record_of(row) for row in rows]


def count_disagreements(store: FrameStore, version: int, *, surer_than: float = 0.0) -> int:
    """How many there are, of which the version is surer than so much."""
    query = "SELECT COUNT(*) FROM frames WHERE guess <> label AND version = ? AND score > ?"
    return int(store.rows(query, (version, surer_than))[0][0])


def page(
    store: FrameStore,
    *,
    most: int,
    label: str | None = None,
    split: str | None = None,
    state: State | None = None,
    before: str | None = None,
) -> Page:
    """Frames to look through, newest first.

    Args:
        store: The camera's.
        most: Frames.
        label: Only these.
        split: Only "train" or "test".
        state: Only these.
        before: Only frames older than this one, an id that an earlier page ended with.

    Raises:
        NotThereError: ``before`` is no frame's id, or was deleted.
    """
    where: list[str] = []
    values: list[Any] = []
    if label is not None:
        where.append("label = ?")
        values.append(label)
    if split is not None:
        where.append("split = ?")
        values.append(split)
    if state is not None:
        where.append(_STATES[state])
    if before is not None:
        taken = store.frame(before).taken_utc  # says so where it isn't there
        where.append("(taken_utc, frames.rowid) < (?, (SELECT rowid FROM frames WHERE id = ?))")
        values += [as_text(taken), before]
    clause = f" WHERE {' AND '.join(where)}" if where else ""
    rows: Sequence[Any] = store.rows(
        f"{_FROM}{clause} ORDER BY taken_utc DESC, frames.rowid DESC LIMIT ?", (*values, most + 1)
    )
    return Page(tuple(record_of(row) for row in rows[:most]), len(rows) > most)


def labelled_scenes(store: FrameStore) -> tuple[int, int]:
    """Labelled frames, and how many scenes they show."""
    ((frames, scenes),) = store.rows("SELECT COUNT(*), COUNT(DISTINCT scene) FROM frames WHERE label IS NOT NULL")
    return int(frames), int(scenes)


def contradicting_scenes(store: FrameStore) -> int:
    """Scenes, whose frames are nearly identical, with more than one label."""
    query = "SELECT COUNT(*) FROM (SELECT scene FROM frames WHERE label IS NOT NULL GROUP BY scene"
    return int(store.rows(f"{query} HAVING COUNT(DISTINCT label) > 1)")[0][0])


def taken_between(store: FrameStore) -> tuple[datetime, datetime] | None:
    """When the first and the last labelled frame were taken; None without any.

    Imported ones don't count: when they were taken is not known.
    """
    query = "SELECT taken_utc FROM frames WHERE label IS NOT NULL AND source <> ? ORDER BY taken_utc"
    ends = [store.rows(f"{query}{way} LIMIT 1", (IMPORTED,)) for way in ("", " DESC")]
    first, last = ([datetime.fromisoformat(row[0]) for row in rows] for rows in ends)
    return (first[0], last[0]) if first and last else None


def people(store: FrameStore) -> list[str]:
    """Who has given the newest answers, the busiest first."""
    newest = "SELECT labelled_by FROM frames WHERE labelled_utc IS NOT NULL ORDER BY labelled_utc DESC LIMIT ?"
    rows = store.rows(
        f"SELECT labelled_by FROM ({newest}) WHERE labelled_by IS NOT NULL"  # noqa: S608  # our own constant
        " GROUP BY labelled_by ORDER BY COUNT(*) DESC, labelled_by",
        (_NEWEST,),
    )
    return [str(row[0]) for row in rows]
