"""Stores for the benchmark ``page``: a very large one of rows alone, and a small one of real pictures."""

from __future__ import annotations

import secrets
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from appliance.store.frames import FrameStore
from appliance.store.records import NewFrame, Said
from appliance.vision import encode_jpeg

VERSION = 7
_LABELS = ("head", "hardhat", "nobody")
_PER_SCENE = 5
_WAITING, _WRONG = 0.5, 0.02  # shares: half of the frames nobody has looked at; a model disagrees on one of fifty


def make(root: Path, frames: int) -> None:
    """A store of so many frames, without their files: two years of one camera, five frames a scene.

    The opened store would sweep nothing away: it looks for files without rows, not the other way round.
    """
    FrameStore(root).close()
    generator = np.random.default_rng(1)
    start = datetime.now(UTC) - timedelta(days=700)
    database = sqlite3.connect(root / "frames.sqlite", isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("BEGIN")
    scene = ""
    for number in range(frames):
        taken = start + timedelta(seconds=600 * number)
        if number % _PER_SCENE == 0:
            scene = secrets.token_hex(16)
            split = "test" if generator.random() < 0.2 else "train"
            block = int(taken.timestamp()) // 600
            database.execute("INSERT INTO scenes (id, split, block) VALUES (?, ?, ?)", (scene, split, block))
        guess = _LABELS[int(generator.integers(len(_LABELS)))]
        label = None
        if generator.random() > _WAITING:
            label = _LABELS[(_LABELS.index(guess) + int(generator.random() < _WRONG)) % len(_LABELS)]
        at = taken.isoformat(timespec="milliseconds")
        reason = "random" if generator.random() < 0.25 else "uncertain"
        database.execute(
            "INSERT INTO frames (id, taken_utc, source, width, height, content_hash, likeness, scene, label,"
            " labelled_utc, labelled_by, reason, size_bytes, version, guess, score)"
            " VALUES (?, ?, 'live', 1280, 960, ?, ?, ?, ?, ?, ?, ?, 150000, ?, ?, ?)",
            (
                *(secrets.token_hex(16), at, secrets.token_hex(32), secrets.token_bytes(32), scene, label),
                *(at if label else None, "Ada" if label else None),
                *(reason, VERSION, guess, float(generator.uniform(0.34, 1))),
            ),
        )
    database.execute("COMMIT")
    database.execute("ANALYZE")
    database.close()


def fill_small(root: Path, frames: int) -> None:
    """Real pictures of 1280 x 960, each of a scene of its own, waiting for a person."""
    generator = np.random.default_rng(2)
    now = datetime.now(UTC)
    new = []
    for number in range(frames):
        coarse = generator.integers(20, 235, (24, 32, 3), dtype=np.uint8)
        pixels = coarse.repeat(40, axis=0).repeat(40, axis=1)
        taken = now - timedelta(minutes=11 * number)
        said = Said(1, "head", float(generator.uniform(0.4, 0.9)))
        reason = "random" if number % 4 == 0 else "uncertain"
        new.append(NewFrame(encode_jpeg(pixels), taken, "live", reason=reason, said=said))
    with FrameStore(root) as store:
        for start in range(0, frames, 20):
            store.add_all(new[start : start + 20])
