"""A store whose writers are killed at any moment keeps everything that it acknowledged, and nothing else."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from appliance.store.frames import FrameStore

PROJECT = Path(__file__).resolve().parents[2]

# Adds and labels frames, one by one and in batches, and says so on its standard output when each is safe.
WRITER = """
import secrets, sys
from datetime import UTC, datetime
from pathlib import Path
from appliance.store.frames import IMPORTED, FrameStore, NewFrame
from tests.fakes.pictures import encoded, scene

store = FrameStore(Path(sys.argv[1]))
while True:
    now = datetime.now(UTC)
    frame_id = store.add(encoded(scene(secrets.randbits(60))), taken_utc=now, source="live").frame.id
    print("added", frame_id, flush=True)
    store.label(frame_id, "head", by="writer")
    print("labelled", frame_id, flush=True)
    with store.incoming() as incoming:
        batch = [incoming / f"{number}.jpg" for number in range(3)]
        for path in batch:
            path.write_bytes(encoded(scene(secrets.randbits(60))))
        for added in store.add_all([NewFrame(path, now, IMPORTED, "hardhat", "writer") for path in batch]):
            print("imported", added.frame.id, flush=True)
"""

ROUNDS = 8  # of two writers each, of which every one is killed


def start(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root)], cwd=PROJECT, stdout=subprocess.PIPE, text=True, env={**os.environ}
    )


def whole_lines(output: IO[str]) -> list[list[str]]:
    """What was said before the kill; a last line without its end was not said."""
    return [line.split() for line in output.read().splitlines(keepends=True) if line.endswith("\n")]


def test_killed_writers_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    root = tmp_path / "store"
    chance = random.Random(7)  # noqa: S311  # moments to kill at, not secrets
    said: list[list[str]] = []
    for _ in range(ROUNDS):
        writers = [start(root), start(root)]
        try:
            for writer in writers:
                assert writer.stdout is not None
                said.append(writer.stdout.readline().split())  # it is at work now
                time.sleep(chance.uniform(0, 0.15))
                writer.send_signal(signal.SIGKILL)
                FrameStore(root).close()  # sweeps, while the other one may be writing
        finally:
            for writer in writers:
                writer.kill()
                assert writer.stdout is not None
                said += whole_lines(writer.stdout)
                writer.stdout.close()
                writer.wait()
    with FrameStore(root) as store:
        frames = {frame.id: frame for frame in store.frames(labelled_only=False)}
        for what, frame_id in said:
            assert frame_id in frames, f"{what} {frame_id} is lost"
            if what != "added":
                assert frames[frame_id].label == {"labelled": "head", "imported": "hardhat"}[what]
        for frame_id in frames:
            assert store.pixels(frame_id).shape == (72, 96, 3)
        assert store.sweep() == 0
    assert len(said) >= 2 * ROUNDS
    files = [path for path in (root / "frames").rglob("*") if path.is_file()]
    assert sorted(path.stem for path in files) == sorted(frames)
    assert list((root / "incoming").iterdir()) == []


def test_an_add_waits_for_another_process_that_is_writing(tmp_path: Path) -> None:
    with FrameStore(tmp_path / "store") as store:
        writer = start(tmp_path / "store")
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline().startswith("added")
            for _ in range(20):
                newest = store.frames(labelled_only=False)[-1]
                store.label(newest.id, "nobody", by="reader")
        finally:
            writer.kill()
            assert writer.stdout is not None
            writer.stdout.close()
            writer.wait()
        assert {frame.label for frame in store.frames()} >= {"nobody"}
