"""What people and models say of stored frames, written inside the store's transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime

from appliance.errors import NotThereError
from appliance.store.database import marks
from appliance.store.pictures import checked
from appliance.store.records import Row, Said, as_text


def write_label(
    database: sqlite3.Connection, frame_id: str, label: str, by: str | None, at_utc: datetime | None
) -> None:
    """A label; it ends an "unclear".

    Raises:
        NotThereError: There is no such frame.
    """
    _update(
        database,
        frame_id,
        "label = ?, labelled_utc = ?, labelled_by = ?, unclear = 0",
        (label, as_text(at_utc or datetime.now(UTC)), by),
    )


def write_unclear(database: sqlite3.Connection, frame_id: str, by: str | None, at_utc: datetime | None) -> None:
    """That a person could not tell; it ends a label.

    Raises:
        NotThereError: There is no such frame.
    """
    _update(
        database,
        frame_id,
        "label = NULL, labelled_utc = ?, labelled_by = ?, unclear = 1",
        (as_text(at_utc or datetime.now(UTC)), by),
    )


def take_back(database: sqlite3.Connection, frame_id: str) -> None:
    """Label and "unclear" are gone, as if nobody had looked.

    Raises:
        NotThereError: There is no such frame.
    """
    _update(database, frame_id, "label = NULL, labelled_utc = NULL, labelled_by = NULL, unclear = 0", ())


def skip(database: sqlite3.Connection, frame_id: str, step: int) -> None:
    """A person put a frame off once more, or takes that back.

    Raises:
        NotThereError: There is no such frame.
    """
    _update(database, frame_id, "skipped = MAX(0, skipped + ?)", (step,))


def rescore(database: sqlite3.Connection, said: Mapping[str, Said]) -> None:
    """What a model says of frames now; those that are gone meanwhile are passed over."""
    database.executemany(
        "UPDATE frames SET version = ?, guess = ?, score = ? WHERE id = ?",
        [(each.version, each.guess, each.score, frame_id) for frame_id, each in said.items()],
    )


def note_lessons(database: sqlite3.Connection, night: str, labels: Collection[str]) -> int:
    """That a night learns from the frames to train on of these labels; costs nothing where it is known already.

    Returns:
        How many frames were new to that night.
    """
    return database.execute(
        "INSERT OR IGNORE INTO lessons SELECT ?, frames.id FROM frames JOIN scenes ON scene = scenes.id"  # noqa: S608  # question marks only
        f" WHERE split = 'train' AND label IN ({marks(len(labels))})",
        (night, *labels),
    ).rowcount


def nights_of(rows: Callable[[str, Sequence[str]], list[Row]], ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The nights that learned from frames, by frame.

    Args:
        rows: Reads the store.
        ids: No more than a few hundred.
    """
    nights: dict[str, tuple[str, ...]] = {}
    query = f"SELECT frame, night FROM lessons WHERE frame IN ({marks(len(ids))}) ORDER BY night"  # noqa: S608  # question marks only
    for frame_id, night in rows(query, ids):
        nights[frame_id] = (*nights.get(frame_id, ()), night)
    return nights


def forget(database: sqlite3.Connection, frame_ids: Sequence[str]) -> int:
    """Delete frames' rows, and scenes that have no frame any more; how many frames there were."""
    gone = 0
    for frame_id in frame_ids:
        scene = database.execute("DELETE FROM frames WHERE id = ? RETURNING scene", (frame_id,)).fetchone()
        if scene is not None:
            gone += 1
            database.execute(
                "DELETE FROM scenes WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM frames WHERE scene = ?1)", scene
            )
    return gone


def no_such(frame_id: str) -> NotThereError:
    """The error for a frame that isn't there."""
    return NotThereError(f"There is no frame {frame_id}", do="Reload the page: it may have been deleted")


def _update(
    database: sqlite3.Connection, frame_id: str, change: str, values: tuple[str | int | float | None, ...]
) -> None:
    query = f"UPDATE frames SET {change} WHERE id = ?"  # noqa: S608  # change: this module's constants
    if not database.execute(query, (*values, checked(frame_id))).rowcount:
        raise no_such(frame_id)
