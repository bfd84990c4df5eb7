"""A store that is written by a child which is killed again and again; run as a program, because it forks.

Before each thing it does the child notes what, and after it that it is done: the second note is what a page would call
saved. Its parent, warm and without threads, forks it, kills it after some milliseconds, opens the store as the next
start would, and compares.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from appliance.store.deletion import Deleter
from appliance.store.frames import FrameStore, Limits, NewFrame, Said
from tests.fakes.pictures import encoded, scene

LABELS = ("head", "hardhat", "nobody")
BEGAN = datetime(2026, 10, 1, tzinfo=UTC)
PURGED = "purged"
ROOM_BYTES = 520_000  # for some thirty frames; the database takes a part of it


class NoVersions:
    """A shelf without a version."""

    def versions(self) -> list[int]:
        """None."""
        return []

    def manifest(self, version: int) -> object:
        """Never asked."""
        raise AssertionError(version)


class Notes:
    """What the child meant to do and did, as lines of JSON in a file: the kernel keeps them when it is killed."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, kind: str, what: str, **more: object) -> None:
        """One line."""
        os.write(self._file, json.dumps({"kind": kind, "what": what, **more}).encode() + b"\n")


def limits(purging: bool) -> Limits | None:
    """Of a store that must purge, or of one that needn't."""
    return Limits(ROOM_BYTES, 0, 10_000) if purging else None


def write_until_killed(root: Path, notes: Notes, seed: int, purging: bool) -> None:
    """The child."""
    chance = random.Random(seed)  # noqa: S311  # a mix of work, not secrets
    with FrameStore(root, limits(purging)) as store:
        deleter = Deleter(store, NoVersions())  # type: ignore[arg-type]  # asked for nothing
        deleter.finish()
        work: list[Callable[[], None]] = [
            *[lambda: _add(store, notes, chance)] * 4,
            *[lambda: _label(store, notes, chance)] * 4,
            lambda: _unclear(store, notes, chance),
            lambda: _take_back(store, notes, chance),
            lambda: _look(store, chance),
            lambda: _rescore(store, chance),
            lambda: _delete(store, deleter, notes, chance),
            lambda: _delete_span(store, deleter, notes, chance),
        ]
        while True:
            chance.choice(work)()


def _some_id(store: FrameStore, chance: random.Random) -> str | None:
    ids = [row[0] for row in store.rows("SELECT id FROM frames ORDER BY id")]
    return chance.choice(ids) if ids else None


def _add(store: FrameStore, notes: Notes, chance: random.Random) -> None:
    label = chance.choice([None, None, *LABELS])
    frames = [
        NewFrame(
            encoded(scene(secrets.randbits(60))),
            BEGAN + timedelta(seconds=chance.randrange(86_400)),
            chance.choice(("live", "import")),
            label,
            "writer" if label else None,
            reason=chance.choice(("random", "uncertain", "burst")),
            said=Said(1, "head", chance.random()),
            features=np.full(64, 0.5, np.float32),
            recipe="r",
        )
        for _ in range(chance.randint(1, 3))
    ]
    if label and len(store.rows("SELECT 1 FROM frames WHERE label IS NOT NULL")) > 20:
        return  # a store of labelled frames only takes no more
    notes.note("try", "add")
    for added in store.add_all(frames):
        if added.new:  # one that was taken in a span that was deleted since is not kept
            notes.note("did", "add", id=added.frame.id, label=label)


def _label(store: FrameStore, notes: Notes, chance: random.Random) -> None:
    frame_id = _some_id(store, chance)
    if frame_id and len(store.rows("SELECT 1 FROM frames WHERE label IS NOT NULL")) < 20:
        label = chance.choice(LABELS)
        notes.note("try", "label", id=frame_id)
        store.label(frame_id, label, by="writer")
        notes.note("did", "label", id=frame_id, label=label)


def _unclear(store: FrameStore, notes: Notes, chance: random.Random) -> None:
    frame_id = _some_id(store, chance)
    if frame_id:
        notes.note("try", "label", id=frame_id)
        store.mark_unclear(frame_id, by="writer")
        notes.note("did", "label", id=frame_id, label=None)


def _take_back(store: FrameStore, notes: Notes, chance: random.Random) -> None:
    frame_id = _some_id(store, chance)
    if frame_id:
        notes.note("try", "label", id=frame_id)
        store.take_back(frame_id)
        notes.note("did", "label", id=frame_id, label=None)


def _look(store: FrameStore, chance: random.Random) -> None:
    frame_id = _some_id(store, chance)
    if frame_id:
        store.thumbnail(frame_id)


def _rescore(store: FrameStore, chance: random.Random) -> None:
    ids = [row[0] for row in store.rows("SELECT id FROM frames")]
    store.rescore({frame_id: Said(2, "nobody", chance.random()) for frame_id in ids})


def _delete(store: FrameStore, deleter: Deleter, notes: Notes, chance: random.Random) -> None:
    frame_id = _some_id(store, chance)
    if frame_id:
        notes.note("try", "delete", ids=[frame_id])
        deleter.frames([frame_id], by="writer")
        notes.note("did", "delete", ids=[frame_id])


def _delete_span(store: FrameStore, deleter: Deleter, notes: Notes, chance: random.Random) -> None:
    begin = BEGAN + timedelta(seconds=chance.randrange(86_400))
    end = begin + timedelta(minutes=10)
    ids = [frame.id for frame in store.frames(labelled_only=False) if begin <= frame.taken_utc < end]
    if ids:
        notes.note("try", "delete", ids=ids)
        deleter.span(begin, end, by="writer", what="ten minutes")
        notes.note("did", "delete", ids=ids)


class Expected:
    """What must be in the store after everything that was noted.

    Args:
        path: The notes.
        purging: Whether a frame without a label may go by itself.
    """

    def __init__(self, path: Path, purging: bool) -> None:
        self._file = path.open("rb")
        self._purging = purging
        self.labels: dict[str, str | None] = {}
        self.gone: set[str] = set()
        self.done = self.purged = 0

    def compare(self, store: FrameStore) -> None:
        """Read what was noted since the last time, and look at the store as it is now."""
        open_ids = self._read()
        rows = {row[0]: row[1] for row in store.rows("SELECT id, label FROM frames")}
        for frame_id, label in self.labels.items():
            if frame_id in open_ids:
                continue  # cut off in the middle: before or after, either is right
            if frame_id in rows:
                assert rows[frame_id] == label, f"{frame_id} is {rows[frame_id]}, and was called {label}"
            else:
                may_go = self._purging and label is None
                assert may_go, f"{frame_id} ({label}) is lost"
                self.purged += 1
        assert not self.gone & rows.keys(), "a deleted frame came back"
        self.labels = dict(rows)

    def _read(self) -> set[str]:
        trying: set[str] = set()
        for line in self._file:
            note = json.loads(line)
            if note["kind"] == "try":
                trying = {note["id"]} if "id" in note else set(note.get("ids", ()))
                continue
            self.done += 1
            trying = set()
            if note["what"] == "delete":
                self.gone |= set(note["ids"])
                for frame_id in note["ids"]:
                    self.labels.pop(frame_id, None)
            else:
                self.labels[note["id"]] = note["label"]
        return trying


def look(store: FrameStore, root: Path) -> None:
    """Nothing is left over, nothing is missing, and the totals are right."""
    assert store.sweep() == 0, "a second sweep found something"
    rows: dict[str, int] = dict(store.rows("SELECT id, size_bytes FROM frames"))
    files = {path.stem: path.stat().st_size for path in (root / "frames").glob("*/*.jpg") if "small" not in path.name}
    assert files == rows
    small = {path.name.split(".")[0]: path.stat().st_size for path in (root / "frames").glob("*/*.small.jpg")}
    assert small.keys() <= rows.keys(), "a thumbnail of no frame"
    assert store.pictures.thumbnail_bytes == sum(small.values())
    assert len(list((root / "frames").glob("*/*"))) == len(rows) + len(small)
    assert store.rows("SELECT frames, size_bytes FROM totals") == [(len(rows), sum(rows.values()))]
    assert store.features.get_many(sorted(rows), "r").keys() <= rows.keys()
    assert store.features.frames() <= rows.keys(), "features of no frame"
    assert not store.rows("SELECT 1 FROM deletions WHERE done = 0")
    assert not store.rows("SELECT 1 FROM doomed")
    assert not store.rows("SELECT 1 FROM scenes WHERE id NOT IN (SELECT scene FROM frames)")
    assert list((root / "incoming").iterdir()) == []


def _wait_for_cpu(pid: int, seconds: float) -> None:
    """Wait until a child has computed for so long: on a busy machine it gets as far as on an idle one."""
    clock = (~pid << 3) | 2  # clock_getcpuclockid(3), as the C library and the kernel define it on Linux
    while time.clock_gettime(clock) < seconds:
        time.sleep(0.0005)


def main(root: Path, kills: int, seed: int, purging: bool) -> None:
    """Fork, kill and compare so many times."""
    chance = random.Random(seed)  # noqa: S311  # moments to kill at, not secrets
    path = root.parent / "notes.jsonl"
    path.touch()
    expected = Expected(path, purging)
    for number in range(kills):
        child = os.fork()
        if not child:
            try:
                write_until_killed(root, Notes(path), seed * 1000 + number, purging)
            except BaseException:  # noqa: BLE001  # shown, and found by the parent
                traceback.print_exc()
                os._exit(1)
        _wait_for_cpu(child, chance.uniform(0.005, 0.08))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the child ended by itself"
        with FrameStore(root, limits(purging)) as store:
            Deleter(store, NoVersions()).finish()  # type: ignore[arg-type]  # asked for nothing
            expected.compare(store)
            look(store, root)
    with FrameStore(root) as store:
        for frame in store.frames(labelled_only=False):
            assert store.pixels(frame.id).shape == (72, 96, 3)
    print(json.dumps({"kills": kills, "done": expected.done, "purged": expected.purged}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == PURGED)
