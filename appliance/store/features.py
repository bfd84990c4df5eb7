"""Backbone features beside the store: a cache that may be lost, never one that is wrong.

A frame's rows go first, its features after that; and features are kept only of frames that have a row. So whoever
computes features while somebody deletes their frame leaves nothing behind, whichever comes first.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from appliance.errors import StoreError
from appliance.store.locks import held

_SCHEMA = """
CREATE TABLE IF NOT EXISTS features (
    frame TEXT NOT NULL, recipe TEXT NOT NULL, variants INTEGER NOT NULL, vectors BLOB NOT NULL,
    PRIMARY KEY (frame, recipe)
) STRICT
"""
_CHUNK = 100  # ids per query: 4 MB of features; SQLite takes no more than some thousands of parameters


class FeatureCache:
    """Features by frame and recipe; float32, so that they equal the live model's bit for bit.

    Args:
        root: The store's folder.
        known: Which of some frames the store has; without it every frame counts as known.

    Raises:
        StoreError: The file can't be used.
    """

    def __init__(self, root: Path, known: Callable[[Sequence[str]], Collection[str]] | None = None) -> None:
        self._lock = threading.Lock()
        self._known = known
        root.mkdir(parents=True, exist_ok=True)
        path = root / "features.sqlite"
        try:
            with held(root):  # SQLite itself can't make one new file from two processes at once
                self._database = _open(path)
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"The feature cache {path} can't be used ({error})",
                means="Nothing is lost: it holds what can be computed again",
                do=f"Delete {path} and start again",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._database.close()

    def each(
        self, ids: Sequence[str], recipe: str, *, most: int | None = None
    ) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Cached features, float32 [variants, features], frame by frame; frames without any are left out.

        Args:
            ids: Of the frames.
            recipe: How they were computed.
            most: So many variants of each, from the first; default: all.
        """
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            query = f"SELECT frame, variants, vectors FROM features WHERE recipe = ? AND frame IN ({marks})"  # noqa: S608  # question marks only
            with self._lock:
                rows = self._database.execute(query, (recipe, *chunk)).fetchall()
            for frame, variants, vectors in rows:
                yield frame, np.frombuffer(vectors, np.float32).reshape(variants, -1)[:most]

    def get_many(self, ids: Sequence[str], recipe: str) -> dict[str, npt.NDArray[np.float32]]:
        """What :meth:`each` gives, by frame."""
        return dict(self.each(ids, recipe))

    def put_many(self, recipe: str, features: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Keep features, float32 [variants, features], by frame; those of unknown frames are dropped."""
        with self._written():
            known = features.keys() if self._known is None else set(self._known(list(features)))
            rows = [
                (frame, recipe, vectors.shape[0], np.ascontiguousarray(vectors, np.float32).tobytes())
                for frame, vectors in features.items()
                if frame in known
            ]
            self._database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?)", rows)

    def forget(self, frames: Collection[str]) -> None:
        """Remove frames' features, of every recipe."""
        with self._written():
            self._database.executemany("DELETE FROM features WHERE frame = ?", [(frame,) for frame in frames])

    def clear(self) -> None:
        """Remove all features, and give their room back to the disk."""
        with self._written():
            self._database.execute("DELETE FROM features")
        with self._lock:
            self._database.execute("VACUUM")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def used_bytes(self) -> int:
        """What the features take: pages that wait to be used again don't count."""
        with self._lock:
            pages, free, size = (
                int(self._database.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "freelist_count", "page_size")
            )
        return (pages - free) * size

    def checkpoint(self) -> bool:
        """Bring everything from the write-ahead log into the file, and cut the log; False where a reader is at it."""
        with self._lock:
            (busy, _, _) = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def frames(self) -> set[str]:
        """The frames that have features, of whatever recipe."""
        with self._lock:
            return {row[0] for row in self._database.execute("SELECT DISTINCT frame FROM features")}

    def keep_only(self, frames: Collection[str]) -> None:
        """Remove the features of all other frames."""
        gone = self.frames().difference(frames)
        if gone:
            self.forget(gone)

    def prune(self, recipes: Collection[str]) -> None:
        """Remove the features of all other recipes: another backbone or input has made them useless."""
        with self._written():
            stored = {row[0] for row in self._database.execute("SELECT DISTINCT recipe FROM features")}
            for recipe in stored - set(recipes):
                self._database.execute("DELETE FROM features WHERE recipe = ?", (recipe,))

    @contextmanager
    def _written(self) -> Iterator[None]:
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                with self._database:  # commits, or rolls back
                    yield
            except sqlite3.Error as error:
                raise StoreError(
                    f"The feature cache refused ({error})",
                    means="Nothing is lost: it holds what can be computed again",
                    do="Check the disk",
                ) from error


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # a power cut may cost the last few, not more
        database.execute("PRAGMA secure_delete = ON")  # a deleted frame's features are gone, not just unlisted
        database.execute(_SCHEMA)
    except BaseException:
        database.close()
        raise
    return database
