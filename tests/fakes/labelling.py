"""Stand-ins for what labelling lives among: frames of a live loop, stores that refuse, stores of 100,000 frames."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from appliance.errors import StoreFullError
from appliance.frame import Decision, Doubt, Frame, Prediction
from appliance.labelling.model import ModelView
from appliance.models.shelf import Shelf
from appliance.store.frames import FrameStore, NewFrame, Said
from tests.fakes.fleet import TinyFleet
from tests.fakes.parts import FEATURES, LABELS
from tests.fakes.pictures import encoded, scene

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Clock:
    """Monotonic seconds that a test turns."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class MemorySink:
    """Takes frames as the store does, and keeps them in memory.

    ``full`` makes it refuse; clearing ``lets_go`` makes it hang in ``add_all`` as a slow disk does.
    """

    def __init__(self) -> None:
        self.batches: list[list[NewFrame]] = []
        self.full = False
        self.tried = 0
        self.lets_go = threading.Event()
        self.lets_go.set()

    @property
    def frames(self) -> list[NewFrame]:
        return [frame for batch in self.batches for frame in batch]

    def add_all(self, frames: Sequence[NewFrame]) -> object:
        self.tried += 1
        assert self.lets_go.wait(30)
        if self.full:
            raise StoreFullError("There is no room", means="Nothing was stored", do="Free some of the disk")
        self.batches.append(list(frames))
        return None


def frame(seed: int, number: int = 0) -> Frame:
    """A frame of that scene."""
    return Frame(scene(seed), NOON + timedelta(seconds=number), number)


def decision(
    confidence: float = 0.99, *, label: str = "hardhat", doubt: Doubt = Doubt.NONE, features: bool = False
) -> Decision:
    """What a model of version 1 and its rules made of a frame."""
    others = [each for each in LABELS if each != label]
    scores = {label: confidence, **dict.fromkeys(others, (1 - confidence) / len(others))}
    vector = np.ones(FEATURES, np.float32) if features else None
    return Decision(None if doubt else label, confidence, Prediction(scores, 1, 5.0, vector), doubt)


def model_view(root: Path, *versions: int, running: int | None = None) -> ModelView:
    """The labelling's view of a shelf that holds these versions, or version 1; the last one runs."""
    return ModelView(shelf_in(root, *versions), lambda: running)


def shelf_in(root: Path, *versions: int) -> Shelf:
    """A shelf in a camera's folder."""
    root.mkdir(exist_ok=True, parents=True)
    return TinyFleet(root, b"a backbone that nobody runs").shelf(root / "models", *(versions or (1,)))


def add(
    store: FrameStore,
    seed: int,
    reason: str = "uncertain",
    score: float | None = 0.5,
    *,
    guess: str = "head",
    taken_utc: datetime | None = None,
    version: int = 1,
) -> str:
    """Store a frame of another scene for each seed; its id."""
    taken = taken_utc or NOON + timedelta(hours=seed)
    said = None if score is None else Said(version, guess, score)
    new = NewFrame(encoded(scene(seed)), taken, "live", reason=reason, said=said)
    return store.add_all([new])[0].frame.id


def fill(path: Path, frames: int) -> None:
    """Rows of so many frames, without pictures: a fifth labelled, in scenes of one or two.

    Args:
        path: The store's database, which exists.
        frames: How many.
    """
    database = sqlite3.connect(path)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA cache_size = -200000")  # all of it: ids are random, and so are the pages they go to
    reasons = ("random", "uncertain", "scene", "event", "burst")

    def token(kind: str, number: int, digits: int = 32) -> str:
        return hashlib.sha256(f"{kind} {number}".encode()).hexdigest()[:digits]

    database.executemany(
        "INSERT INTO scenes VALUES (?, ?, ?)",
        ((token("scene", n), "train" if n % 5 else "test", n) for n in range(frames // 2 + 1)),
    )

    def row(number: int) -> tuple[object, ...]:
        taken = (NOON + timedelta(seconds=40 * number)).isoformat(timespec="milliseconds")
        label = LABELS[number % 3] if number % 5 == 0 else None
        return (
            *(token("frame", number), taken, "live", 1280, 960, token("content", number, 64), bytes(32)),
            *(token("scene", (number * 7919) % frames // 2), label, taken if label else None),
            *(("Ada", "Bo")[number % 2] if label else None, reasons[number % 7 % 5], 200_000, 1),
            *(LABELS[number % 4 % 3], (number * 6151 % 9973) / 9973),
        )

    columns = "id, taken_utc, source, width, height, content_hash, likeness, scene, label, labelled_utc, labelled_by"
    columns += ", reason, size_bytes, version, guess, score"
    marks = ", ".join("?" * 16)
    database.executemany(f"INSERT INTO frames ({columns}) VALUES ({marks})", map(row, range(frames)))  # noqa: S608
    database.commit()
    database.close()
