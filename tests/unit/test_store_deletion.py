"""Real deletion: gone from disk, thumbnails, cached features, database pages and copies; and what is remembered."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import ConfigError, ModelError, StoreError
from appliance.models.manifest import Manifest
from appliance.store.deletion import Deleter, Deletion, learned
from appliance.store.features import FeatureCache
from appliance.store.frames import IMPORTED, FrameRecord, FrameStore, NewFrame, Said
from tests.fakes import parts
from tests.fakes.pictures import encoded, scene

NOON = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)
LATER = NOON + timedelta(minutes=20)


class Shelf:
    """Versions without a shelf; version 9 is damaged."""

    def __init__(self, *manifests: Manifest) -> None:
        self.manifests = {manifest.version: manifest for manifest in manifests}

    def versions(self) -> list[int]:
        return [*sorted(self.manifests), 9]

    def manifest(self, version: int) -> Manifest:
        if version == 9:
            raise ModelError("It is damaged")
        return self.manifests[version]


def manifest(version: int, night: str | None = None, parent: int | None = None) -> Manifest:
    return dataclasses.replace(parts.tiny_manifest(b"b", b"h"), version=version, night=night, parent=parent)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FrameStore]:
    with FrameStore(tmp_path / "state" / "store") as store:
        yield store


@pytest.fixture
def deleter(store: FrameStore) -> Deleter:
    return Deleter(store, Shelf())


def frame(seed: int, taken: datetime = NOON, *, label: str | None = None, source: str = "live") -> NewFrame:
    return NewFrame(
        encoded(scene(seed)),
        taken,
        source,
        label,
        f"person{seed}who" if label else None,
        reason="random",
        said=Said(1, f"guess{seed}s", 0.5),
        features=np.random.default_rng(seed).standard_normal(1280).astype(np.float32),
        recipe="r",
    )


def add(store: FrameStore, *frames: NewFrame) -> list[FrameRecord]:
    return [added.frame for added in store.add_all(frames)]


def content(store: FrameStore, record: FrameRecord, seed: int) -> list[bytes]:
    """Byte strings that would betray a frame wherever they stood."""
    features = np.random.default_rng(seed).standard_normal(1280).astype(np.float32).tobytes()
    return [
        *(store.jpeg(record.id)[-60:-20], store.thumbnail(record.id)[-60:-20], record.likeness),
        *(record.content_hash.encode(), features[:32], features[2000:2032], features[-32:]),
        *(f"guess{seed}s".encode(), f"person{seed}who".encode()),
    ]


def found(folder: Path, markers: list[bytes]) -> list[tuple[str, bytes]]:
    return [
        (path.name, marker)
        for path in folder.rglob("*")
        if path.is_file()
        for data in [path.read_bytes()]
        for marker in markers
        if marker in data
    ]


def test_nothing_of_a_deleted_span_is_left_in_any_byte_of_the_state_folder(
    store: FrameStore, deleter: Deleter, tmp_path: Path
) -> None:
    stay: list[tuple[int, FrameRecord]] = []
    go: list[tuple[int, FrameRecord]] = []
    for seed in range(60):  # mixed, so that pages hold both kinds
        taken = NOON + timedelta(seconds=seed) if seed % 3 else LATER + timedelta(minutes=seed)
        (record,) = add(store, frame(seed, taken, label="head"))
        (go if seed % 3 else stay).append((seed, record))
    markers = [marker for seed, record in go for marker in content(store, record, seed)]
    kept = [marker for seed, record in stay for marker in content(store, record, seed)]
    store.rescore({record.id: Said(2, f"guess{seed}s", 0.75) for seed, record in [*stay, *go]})
    everywhere = tmp_path / "state"
    assert {marker for _, marker in found(everywhere, markers)} == set(markers)
    copy = store.root / "frames-before-upgrade.sqlite"
    with sqlite3.connect(copy) as target:
        store.database._database.backup(target)
    target.close()
    shutil.copy(store.root / "features.sqlite", store.root / "features.old")
    deletion = deleter.span(NOON, LATER, by="Ada", what="twenty minutes")
    assert (deletion.frames, deletion.labelled, deletion.done) == (40, 40, True)
    assert found(everywhere, markers) == []
    assert {marker for _, marker in found(everywhere, kept)} == set(kept)
    store.close()
    assert found(everywhere, markers) == []


def test_deleted_frames_leave_no_trace_in_a_large_database(store: FrameStore, deleter: Deleter) -> None:
    """Rows of many pages, inserted and deleted in a mixed order, so that pages are split, joined and used again."""
    chance = np.random.default_rng(1)
    with store.database.transaction() as connection:
        connection.execute("INSERT INTO scenes VALUES ('s', 'train', NULL)")
        for number in range(4000):
            moment = (NOON + timedelta(seconds=int(chance.integers(2400)))).isoformat(timespec="milliseconds")
            mark = f"<{number:04d}>"
            connection.execute(
                "INSERT INTO frames (id, taken_utc, source, width, height, content_hash, likeness, scene, guess,"
                " size_bytes) VALUES (?, ?, 'live', 1, 1, ?, ?, 's', ?, 1)",
                (chance.bytes(16).hex(), moment, chance.bytes(29).hex() + mark, chance.bytes(26) + mark.encode(), mark),
            )
    everything = store.frames(labelled_only=False)
    store.delete_all([each.id for each in everything[::7]])  # purged before
    deleter.span(NOON, LATER, by="Ada", what="twenty minutes")
    left = {each.guess for each in store.frames(labelled_only=False)}
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert {mark.decode() for path in files for mark in re.findall(rb"<\d{4}>", path.read_bytes())} == left
    assert len(left) > 1000


def test_one_frame_is_deleted_and_that_is_remembered_without_what_it_showed(
    store: FrameStore, deleter: Deleter
) -> None:
    gone, stays = add(store, frame(1, label="head"), frame(2, NOON + timedelta(days=1)))
    deletion = deleter.frames([gone.id], by="Ada")
    assert (deletion.by, deletion.what, deletion.frames, deletion.labelled) == ("Ada", "one frame", 1, 1)
    assert [each.id for each in store.frames(labelled_only=False)] == [stays.id]
    assert deleter.done() == [deletion]
    assert abs(datetime.now(UTC) - deletion.at_utc) < timedelta(minutes=1)
    assert gone.id not in str(store.rows("SELECT * FROM deletions"))


def test_a_preview_says_what_would_go_and_deletes_nothing(store: FrameStore) -> None:
    add(store, frame(1, label="head"), frame(2), frame(3, LATER))
    asked: list[tuple[datetime, datetime]] = []

    def there(begin: datetime, end: datetime) -> int:
        asked.append((begin, end))
        return 5

    preview = Deleter(store, Shelf(), others_there=there).preview(NOON, LATER, what="twenty minutes")
    assert (preview.frames, preview.labelled, preview.events, preview.done) == (2, 1, 5, False)
    assert asked == [(NOON, LATER)]
    assert len(store.frames(labelled_only=False)) == 3
    assert store.rows("SELECT 1 FROM deletions") == []


def test_events_of_the_span_are_deleted_with_it_and_counted(store: FrameStore) -> None:
    add(store, frame(1))
    deleter = Deleter(store, Shelf(), others=lambda *_: 3)
    assert deleter.span(NOON, LATER, by="Ada", what="twenty minutes").events == 3
    (deletion,) = deleter.done()
    assert deletion.events == 3
    (one,) = add(store, frame(2, LATER))
    assert deleter.frames([one.id], by="Ada").events == 0


def test_a_span_takes_its_first_moment_and_leaves_its_last(store: FrameStore, deleter: Deleter) -> None:
    _, stays = add(store, frame(1, NOON), frame(2, LATER))
    deleter.span(NOON, LATER, by="Ada", what="twenty minutes")
    assert [each.id for each in store.frames(labelled_only=False)] == [stays.id]


def test_a_span_that_ends_before_it_begins_is_refused(store: FrameStore, deleter: Deleter) -> None:
    add(store, frame(1))
    with pytest.raises(ConfigError, match="ends before it begins"):
        deleter.span(LATER, NOON, by="Ada", what="")
    with pytest.raises(ConfigError, match="ends before it begins"):
        deleter.preview(NOON, NOON, what="")
    assert len(store.frames(labelled_only=False)) == 1


def test_a_frame_that_waited_in_memory_while_its_span_was_deleted_is_not_stored(
    store: FrameStore, deleter: Deleter
) -> None:
    deleter.span(NOON, LATER, by="Ada", what="twenty minutes")
    late, fine = store.add_all([frame(1, NOON + timedelta(minutes=1)), frame(2, LATER)])
    assert (late.new, late.labelled, fine.new) == (False, False, True)
    assert [each.id for each in store.frames(labelled_only=False)] == [fine.frame.id]
    assert len(list((store.root / "frames").glob("*/*.jpg"))) == 1
    (again,) = store.add_all([frame(3, NOON + timedelta(minutes=1), source=IMPORTED)])  # its owner's own wish
    assert again.new


@pytest.mark.parametrize("breaks", ["features", "pictures", "sync", "others", "copy", "checkpoint"])
def test_a_deletion_that_is_cut_off_is_finished_later(
    store: FrameStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    (gone,) = add(store, frame(1, label="head"))
    markers = content(store, gone, 1)
    events = 2

    def fails(*_: object) -> int:
        raise StoreError("The power went")

    def others(*_: object) -> int:
        return fails() if breaks == "others" else events

    with monkeypatch.context() as broken:
        if breaks == "features":
            broken.setattr(FeatureCache, "forget", fails)
        elif breaks in ("pictures", "sync"):
            broken.setattr(store.pictures, {"pictures": "remove", "sync": "sync"}[breaks], fails)
        elif breaks == "checkpoint":
            broken.setattr(store.database, "checkpoint", lambda: False)
        elif breaks == "copy":
            (store.root / "copy.sqlite").write_bytes(b"SQLite format 3\0 and rubbish")
        with pytest.raises(StoreError):
            Deleter(store, Shelf(), others).span(NOON, LATER, by="Ada", what="twenty minutes")
    assert store.frames(labelled_only=False) == []
    (unfinished,) = Deleter(store, Shelf()).done()
    assert not unfinished.done
    breaks = ""
    (store.root / "copy.sqlite").unlink(missing_ok=True)
    with FrameStore(store.root) as again:
        deleter = Deleter(again, Shelf(), others)
        assert deleter.finish() == 1
        assert deleter.finish() == 0
        (finished,) = deleter.done()
        assert (finished.done, finished.events) == (True, 2)
    assert found(tmp_path / "state", markers) == []


def test_a_reader_that_holds_an_old_page_keeps_the_deletion_open_until_it_is_gone(
    store: FrameStore, deleter: Deleter, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gone,) = add(store, frame(1))
    checkpoint = store.database.checkpoint
    monkeypatch.setattr(store.database, "checkpoint", lambda: checkpoint(0.0))
    store.database._database.execute("PRAGMA busy_timeout = 10")
    reader = sqlite3.connect(store.root / "frames.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM frames").fetchall()
    with pytest.raises(StoreError, match="another process kept reading"):
        deleter.frames([gone.id], by="Ada")
    reader.close()
    assert deleter.finish() == 1
    assert found(store.root, [gone.content_hash.encode()]) == []


# Which versions had learned from it


def test_a_deletion_says_which_versions_had_learned_from_it_for_as_long_as_it_is_listed(store: FrameStore) -> None:
    shelf = Shelf(manifest(1), manifest(2, "Monday", 1), manifest(3, "Tuesday", 2))
    deleter = Deleter(store, shelf)
    (first,) = add(store, frame(1, label="head"))
    store.note_lessons("Tuesday", ["head"])
    if store.frame(first.id).split == "test":
        pytest.skip("drawn for testing: nothing learns from it")
    assert deleter.preview(NOON, LATER, what="").versions == (3,)
    deletion = deleter.span(NOON, LATER, by="Ada", what="twenty minutes")
    assert (deletion.nights, deletion.versions) == (("Tuesday",), (3,))
    shelf.manifests[4] = manifest(4, "Wednesday", 3)
    assert deleter.done()[0].versions == (3, 4)


@pytest.mark.parametrize(
    ("nights", "expected"),
    [
        ({"Monday"}, (2, 3, 5, 6)),  # 5's parent, 4, isn't here: it may have been built on 2 or 3
        ({"Tuesday"}, (3, 5, 6)),
        ({"Friday"}, (6,)),
        ({"Sunday"}, ()),
        (set(), ()),
    ],
)
def test_versions_that_were_built_on_a_taught_one_are_taught(nights: set[str], expected: tuple[int, ...]) -> None:
    manifests = [
        *(manifest(1), manifest(2, "Monday", 1), manifest(3, "Tuesday", 2)),
        *(manifest(5, "Thursday", 4), manifest(6, "Friday", 5), manifest(7, "Saturday", 1)),
    ]
    assert learned(nights, manifests) == expected


def test_several_frames_are_counted_in_words(store: FrameStore, deleter: Deleter) -> None:
    ids = [record.id for record in add(store, frame(1), frame(2))]
    deletion: Deletion = deleter.frames(ids, by="Ada")
    assert deletion.what == "2 frames"
