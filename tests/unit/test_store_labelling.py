"""What people and models say of stored frames, and what nights learn from them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from appliance.errors import NotThereError, PictureError, StoreError
from appliance.store.features import FeatureCache
from appliance.store.frames import IMPORTED, FrameStore, NewFrame, Said
from appliance.store.thumbnails import WIDTH
from tests.fakes.pictures import encoded, scene

NOON = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)
NOBODY = "0" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FrameStore]:
    with FrameStore(tmp_path / "store") as store:
        yield store


def add(store: FrameStore, seed: int, *, width: int = 96) -> str:
    picture = encoded(scene(seed, width=width, height=width * 3 // 4))
    return store.add(picture, taken_utc=NOON, source="live").frame.id


def test_a_frame_that_nobody_can_tell_is_kept_with_who_and_when(store: FrameStore) -> None:
    frame_id = add(store, 1)
    store.label(frame_id, "head", by="Ada")
    store.mark_unclear(frame_id, by="Bo", at_utc=NOON)
    frame = store.frame(frame_id)
    assert (frame.unclear, frame.label, frame.labelled_by, frame.labelled_utc) == (True, None, "Bo", NOON)
    assert store.counts() == {}


def test_a_label_ends_an_unclear(store: FrameStore) -> None:
    frame_id = add(store, 1)
    store.mark_unclear(frame_id, by="Bo")
    store.label(frame_id, "head", by="Ada")
    frame = store.frame(frame_id)
    assert (frame.unclear, frame.label, frame.labelled_by) == (False, "head", "Ada")


def test_taking_back_leaves_a_frame_as_if_nobody_had_looked(store: FrameStore) -> None:
    frame_id = add(store, 1)
    before = store.frame(frame_id)
    store.label(frame_id, "head", by="Ada")
    store.take_back(frame_id)
    assert store.frame(frame_id) == before
    store.mark_unclear(frame_id, by="Ada")
    store.take_back(frame_id)
    assert store.frame(frame_id) == before


def test_skips_are_counted_and_can_be_taken_back(store: FrameStore) -> None:
    frame_id = add(store, 1)
    for skipped, change in ((1, store.skip), (2, store.skip), (1, store.unskip), (0, store.unskip), (0, store.unskip)):
        change(frame_id)
        assert store.frame(frame_id).skipped == skipped


def test_a_new_model_s_words_replace_the_old_one_s_and_those_on_deleted_frames_are_passed_over(
    store: FrameStore,
) -> None:
    first, second = add(store, 1), add(store, 2)
    store.rescore({first: Said(3, "head", 0.9)})
    store.rescore({first: Said(4, "nobody", 0.6), NOBODY: Said(4, "head", 1)})
    frame = store.frame(first)
    assert (frame.version, frame.guess, frame.score) == (4, "nobody", 0.6)
    assert store.frame(second).version is None


def test_more_words_than_one_transaction_takes(store: FrameStore) -> None:
    frame_id = add(store, 1)
    store.rescore({**{f"{number:032x}": Said(1, "head", 0.5) for number in range(1, 4100)}, frame_id: Said(2, "a", 1)})
    assert store.frame(frame_id).version == 2


@pytest.mark.parametrize("use", ["mark_unclear", "skip", "unskip", "take_back", "thumbnail"])
def test_a_frame_that_is_not_there_is_said_so(store: FrameStore, use: str) -> None:
    arguments = {"by": "Ada"} if use == "mark_unclear" else {}
    with pytest.raises(StoreError):
        getattr(store, use)(NOBODY, **arguments)
    with pytest.raises(StoreError, match="is not a frame's id"):
        getattr(store, use)("../../etc/passwd", **arguments)


def test_what_a_model_said_when_the_frame_was_taken_comes_with_it(store: FrameStore) -> None:
    (added,) = store.add_all([NewFrame(encoded(scene(1)), NOON, "live", reason="random", said=Said(7, "head", 0.25))])
    frame = store.frame(added.frame.id)
    assert frame == added.frame
    assert (frame.reason, frame.version, frame.guess, frame.score) == ("random", 7, "head", 0.25)
    assert frame.size_bytes == len(encoded(scene(1)))


def test_rows_are_read_inside_and_outside_a_transaction(store: FrameStore) -> None:
    frame_id = add(store, 1)
    with store.database.transaction() as connection:
        connection.execute("UPDATE frames SET skipped = 5")
        assert store.rows("SELECT skipped FROM frames WHERE id = ?", [frame_id]) == [(5,)]
    assert store.rows("SELECT skipped FROM frames") == [(5,)]
    with pytest.raises(StoreError, match="can't be read"):
        store.rows("DELETE FROM frames")
    with pytest.raises(StoreError, match="can't be read"):
        store.rows("SELECT nonsense FROM frames")


def test_some_frames_come_in_the_order_that_was_asked_for(store: FrameStore) -> None:
    ids = [add(store, seed) for seed in range(3)]
    assert [frame.id for frame in store.some([ids[2], NOBODY, ids[0]])] == [ids[2], ids[0]]


# Features that come with a frame


def test_features_of_the_live_loop_are_cached_with_their_frame_and_outlive_a_night_s_pruning(
    store: FrameStore,
) -> None:
    seen = np.linspace(0, 1, 1280, dtype=np.float32)
    (with_them, without) = store.add_all(
        [
            NewFrame(encoded(scene(1)), NOON, "live", features=seen, recipe="frame as it is"),
            NewFrame(encoded(scene(2)), NOON, "live"),
        ]
    )
    store.features.prune({"frame as it is", "eight variants"})
    store.sweep()
    cached = store.features.get_many([with_them.frame.id, without.frame.id], "frame as it is")
    assert list(cached) == [with_them.frame.id]
    assert np.array_equal(cached[with_them.frame.id], seen[None, :])


def test_features_that_are_computed_while_their_frame_is_deleted_are_not_kept(store: FrameStore) -> None:
    frame_id = add(store, 1)
    store.delete(frame_id)
    store.features.put_many("r", {frame_id: np.ones((8, 4), np.float32)})
    assert store.features.frames() == set()


def test_a_frame_is_stored_even_where_its_features_find_no_room(
    store: FrameStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise StoreError("The feature cache refused (database or disk is full)")

    monkeypatch.setattr(FeatureCache, "put_many", full)
    (added,) = store.add_all([NewFrame(encoded(scene(1)), NOON, "live", features=np.ones(4, np.float32), recipe="r")])
    assert store.frame(added.frame.id)
    assert "Features of 1 frames were not kept" in caplog.text


# Lessons


def test_a_night_s_lessons_are_noted_once_and_grow_with_new_labels(store: FrameStore) -> None:
    added = store.add_all(
        [
            NewFrame(encoded(scene(seed)), NOON + timedelta(hours=seed), IMPORTED, label, "Ada", split)  # type: ignore[arg-type]  # "train" or "test"
            for seed, (label, split) in enumerate(
                [("head", "train"), ("hardhat", "train"), ("head", "test"), ("crane", "train"), (None, "train")]
            )
        ]
    )
    head, hardhat, *_, waiting = (each.frame.id for each in added)
    assert store.note_lessons("Tuesday", ["head", "hardhat"]) == 2
    assert store.note_lessons("Tuesday", ["head", "hardhat"]) == 0
    store.label(waiting, "head", by="Ada")
    assert store.note_lessons("Tuesday", ["head", "hardhat"]) == 1
    lessons = {row[0] for row in store.rows("SELECT frame FROM lessons WHERE night = 'Tuesday'")}
    assert lessons == {head, hardhat, waiting}
    store.take_back(waiting)  # too late: the night has learned from it
    assert store.rows("SELECT 1 FROM lessons WHERE frame = ?", [waiting])
    store.delete(head)
    assert not store.rows("SELECT 1 FROM lessons WHERE frame = ?", [head])


# Thumbnails


def test_a_thumbnail_is_made_once_and_is_for_its_owner_only(store: FrameStore) -> None:
    frame_id = add(store, 1, width=960)
    small = store.thumbnail(frame_id)
    with Image.open(io.BytesIO(small)) as image:
        assert (image.format, image.size) == ("JPEG", (WIDTH, 240))
    path = store.pictures.path(frame_id).with_suffix(".small.jpg")
    assert path.read_bytes() == small
    assert path.stat().st_mode & 0o777 == 0o600
    store.pictures.path(frame_id).unlink()
    assert store.thumbnail(frame_id) == small


def test_a_small_picture_is_not_blown_up(store: FrameStore) -> None:
    with Image.open(io.BytesIO(store.thumbnail(add(store, 1)))) as image:
        assert image.size == (96, 72)


def test_a_thumbnail_is_upright(store: FrameStore) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    picture = encoded(scene(1, width=640, height=480), exif=exif)
    frame_id = store.add(picture, taken_utc=NOON, source="upload").frame.id
    with Image.open(io.BytesIO(store.thumbnail(frame_id))) as image:
        assert image.height > image.width


@pytest.mark.parametrize("left", [b"", b"\xff\xd8\xff half of it"])
def test_a_thumbnail_that_a_power_cut_left_half_written_is_made_again(store: FrameStore, left: bytes) -> None:
    frame_id = add(store, 1)
    whole = store.thumbnail(frame_id)
    store.pictures.path(frame_id).with_suffix(".small.jpg").write_bytes(left)
    with FrameStore(store.root) as again:
        assert again.thumbnail(frame_id) == whole
        assert again.pictures.thumbnail_bytes == len(whole)


def test_a_thumbnail_goes_with_its_frame(store: FrameStore) -> None:
    frame_id = add(store, 1)
    store.thumbnail(frame_id)
    store.delete(frame_id)
    assert list((store.root / "frames").glob("*/*")) == []
    with pytest.raises(StoreError):
        store.thumbnail(frame_id)


def test_a_thumbnail_that_is_made_while_its_frame_is_deleted_does_not_stay(
    store: FrameStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame_id = add(store, 1)
    read = store.pictures.read

    def deleted_meanwhile(of: str) -> bytes:
        data = read(of)
        store.delete(of)
        return data

    monkeypatch.setattr(store.pictures, "read", deleted_meanwhile)
    with pytest.raises(NotThereError):
        store.thumbnail(frame_id)
    assert list((store.root / "frames").glob("*/*")) == []


def test_a_damaged_picture_has_no_thumbnail_and_that_is_said(store: FrameStore) -> None:
    frame_id = add(store, 1)
    store.pictures.path(frame_id).write_bytes(b"\xff\xd8 nothing")
    with pytest.raises(PictureError, match="can't be read as a picture"):
        store.thumbnail(frame_id)


# Written bytes


def test_written_bytes_are_those_of_files_and_log(store: FrameStore) -> None:
    before = store.written.bytes
    picture = encoded(scene(1, width=1280, height=960))
    frame_id = store.add(picture, taken_utc=NOON, source="live").frame.id
    added = store.written.bytes - before
    assert len(picture) + 4096 <= added < len(picture) + 200_000
    store.label(frame_id, "head", by="Ada")
    assert 4096 <= store.written.bytes - before - added < 100_000
    before = store.written.bytes
    store.frames()
    store.thumbnail(frame_id)
    once = store.written.bytes
    store.thumbnail(frame_id)
    assert once - before == store.pictures.thumbnail_bytes
    assert store.written.bytes == once
