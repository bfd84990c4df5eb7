"""The frame store: what is added, labelled, listed and deleted, and which split a frame lands in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import PictureError, StoreError
from appliance.store.features import FeatureCache
from appliance.store.frames import IMPORTED, FrameStore, NewFrame, Split
from tests.fakes.pictures import a_second_later, encoded, scene

NOON = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FrameStore]:
    with FrameStore(tmp_path / "store") as store:
        yield store


def jpeg(seed: int) -> bytes:
    return encoded(scene(seed))


def add(store: FrameStore, seed: int, *, at_utc: datetime = NOON) -> str:
    return store.add(jpeg(seed), taken_utc=at_utc, source="live").frame.id


def imported(seed: int, label: str = "head", split: Split | None = None) -> NewFrame:
    return NewFrame(jpeg(seed), NOON, IMPORTED, label, "tests", split)


def files(root: Path) -> list[Path]:
    return [path for path in (root / "store" / "frames").rglob("*") if path.is_file()]


def test_a_frame_comes_back_as_it_was(store: FrameStore) -> None:
    added = store.add(jpeg(1), taken_utc=NOON, source="live")
    assert added.new
    assert not added.labelled
    frame = store.frame(added.frame.id)
    assert frame == added.frame
    assert (frame.taken_utc, frame.source, frame.width, frame.height) == (NOON, "live", 96, 72)
    assert (frame.label, frame.labelled_utc, frame.labelled_by) == (None, None, None)
    assert store.jpeg(frame.id) == jpeg(1)
    assert store.pixels(frame.id).shape == (72, 96, 3)
    assert store.pixels(frame.id).dtype == np.uint8


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    with FrameStore(tmp_path / "store") as store:
        frame_id = add(store, 1)
        store.label(frame_id, "head", by="Ada", at_utc=NOON)
        before = store.frames()
    with FrameStore(tmp_path / "store") as store:
        assert store.frames() == before
        assert store.jpeg(frame_id) == jpeg(1)


def test_pictures_are_for_their_owner_only(store: FrameStore, tmp_path: Path) -> None:
    add(store, 1)
    store.add_all([imported(2)])
    with store.incoming() as incoming:
        (incoming / "3.jpg").write_bytes(jpeg(3))
        store.add_all([NewFrame(incoming / "3.jpg", NOON, IMPORTED)])
    assert [path.stat().st_mode & 0o777 for path in files(tmp_path)] == [0o600] * 3
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700


def test_a_label_is_kept_with_who_and_when(store: FrameStore) -> None:
    frame_id = add(store, 1)
    store.label(frame_id, "head", by="Ada", at_utc=NOON + timedelta(hours=1))
    frame = store.frame(frame_id)
    assert (frame.label, frame.labelled_by, frame.labelled_utc) == ("head", "Ada", NOON + timedelta(hours=1))
    store.label(frame_id, "hardhat", by="Bo")
    assert (store.frame(frame_id).label, store.frame(frame_id).labelled_by) == ("hardhat", "Bo")


def test_a_label_can_be_taken_back(store: FrameStore) -> None:
    frame_id = add(store, 1)
    store.label(frame_id, "head", by="Ada")
    store.take_back(frame_id)
    frame = store.frame(frame_id)
    assert (frame.label, frame.labelled_utc, frame.labelled_by) == (None, None, None)
    assert store.frames() == []


def test_frames_are_listed_in_the_order_they_were_taken(store: FrameStore) -> None:
    late, early = add(store, 1, at_utc=NOON + timedelta(hours=1)), add(store, 2, at_utc=NOON)
    assert [frame.id for frame in store.frames(labelled_only=False)] == [early, late]


def test_frames_are_listed_by_label_and_split(store: FrameStore) -> None:
    store.add_all(
        [imported(1, "head", "train"), imported(2, "hardhat", "train"), imported(3, "head", "test")],
    )
    unlabelled = add(store, 4)
    assert len(store.frames()) == 3
    assert len(store.frames(labelled_only=False)) == 4
    assert {frame.label for frame in store.frames(split="train")} == {"head", "hardhat"}
    assert [frame.split for frame in store.frames(split="test", label="head")] == ["test"]
    assert unlabelled not in {frame.id for frame in store.frames()}
    assert store.counts() == {"test": {"head": 1}, "train": {"hardhat": 1, "head": 1}}


def test_the_same_picture_is_stored_once(store: FrameStore, tmp_path: Path) -> None:
    first = store.add(jpeg(1), taken_utc=NOON, source="live")
    again = store.add(jpeg(1), taken_utc=NOON + timedelta(days=1), source="live")
    assert not again.new
    assert again.frame == first.frame
    assert len(files(tmp_path)) == 1


def test_the_same_picture_in_another_file_form_is_stored_once(store: FrameStore) -> None:
    pixels = store.pixels(add(store, 1))
    with store.incoming() as incoming:
        (incoming / "a.jpg").write_bytes(encoded(pixels, "PNG"))
        (again,) = store.add_all([NewFrame(incoming / "a.jpg", NOON, IMPORTED)])
    assert not again.new


def test_an_import_labels_a_frame_that_had_no_label_and_leaves_one_that_had(store: FrameStore) -> None:
    waiting, known = add(store, 1), add(store, 2)
    store.label(known, "hardhat", by="Ada")
    results = store.add_all([imported(1), imported(2)])
    assert [result.labelled for result in results] == [True, False]
    assert (store.frame(waiting).label, store.frame(waiting).labelled_by) == ("head", "tests")
    assert (store.frame(known).label, store.frame(known).labelled_by) == ("hardhat", "Ada")


# Scenes and splits


def test_frames_of_one_scene_share_its_split(store: FrameStore) -> None:
    for seed in range(12):
        picture = scene(seed)
        first = store.add(encoded(picture), taken_utc=NOON, source="live").frame
        second = store.add(encoded(a_second_later(picture)), taken_utc=NOON + timedelta(seconds=1), source="live").frame
        assert first.id != second.id
        assert first.scene == second.scene
        assert first.split == second.split
    assert len({frame.scene for frame in store.frames(labelled_only=False)}) == 12


def test_the_same_view_ten_minutes_later_is_another_scene(store: FrameStore) -> None:
    first = store.frame(add(store, 1))
    later = encoded(a_second_later(scene(1)))
    other = store.add(later, taken_utc=NOON + timedelta(minutes=10), source="live").frame
    assert first.scene != other.scene


def test_imported_frames_share_a_scene_whenever_they_were_taken(store: FrameStore) -> None:
    live = store.frame(add(store, 1))
    (old,) = store.add_all([NewFrame(encoded(a_second_later(scene(1))), NOON - timedelta(days=99), IMPORTED)])
    assert old.frame.scene == live.scene


def test_a_fifth_of_new_scenes_is_to_test_on(store: FrameStore) -> None:
    results = store.add_all([imported(seed) for seed in range(200)])
    assert len({result.frame.scene for result in results}) == 200
    share = sum(result.frame.split == "test" for result in results) / 200
    assert 0.03 < share < 0.42  # ids are random: 6 standard deviations below and 8 above


def test_a_new_scene_takes_the_split_that_an_import_asks_for(store: FrameStore) -> None:
    splits: list[Split] = ["train", "test"] * 6
    results = store.add_all([imported(seed, split=split) for seed, split in enumerate(splits)])
    assert [result.frame.split for result in results] == splits


@pytest.mark.parametrize("order", [("train", "test"), ("test", "train")])
@pytest.mark.parametrize("twin", [lambda picture: picture, a_second_later], ids=["identical", "near-identical"])
def test_a_scene_with_both_wishes_goes_to_train(store: FrameStore, order: tuple[Split, Split], twin) -> None:  # type: ignore[no-untyped-def]
    first, second = (
        NewFrame(encoded(picture), NOON, IMPORTED, "head", "tests", split)
        for picture, split in zip((scene(1), twin(scene(1))), order, strict=True)
    )
    results = store.add_all([first, imported(2, split="test"), second])
    assert [result.frame.split for result in results] == ["train", "test", "train"]
    assert store.frame(results[0].frame.id).split == "train"


def test_a_known_scene_keeps_its_split_whatever_an_import_asks_for(store: FrameStore) -> None:
    (known,) = store.add_all([imported(1, split="test")])
    (twin,) = store.add_all([NewFrame(encoded(a_second_later(scene(1))), NOON, IMPORTED, "head", "t", "train")])
    assert twin.frame.scene == known.frame.scene
    assert twin.frame.split == "test"


# Deleting


def test_deleting_removes_row_file_and_features(store: FrameStore, tmp_path: Path) -> None:
    gone, stays = add(store, 1), add(store, 2)
    with FeatureCache(tmp_path / "store") as cache:
        cache.put_many("r", {frame_id: np.ones((2, 3), np.float32) for frame_id in (gone, stays)})
        store.delete(gone)
        assert list(cache.get_many([gone, stays], "r")) == [stays]
    assert [path.stem for path in files(tmp_path)] == [stays]
    assert [frame.id for frame in store.frames(labelled_only=False)] == [stays]
    store.delete(gone)
    assert store.add(jpeg(1), taken_utc=NOON, source="live").new


def test_a_scene_outlives_its_first_frame(store: FrameStore) -> None:
    first = store.frame(add(store, 1))
    later = encoded(a_second_later(scene(1)))
    second = store.add(later, taken_utc=NOON, source="live").frame
    store.delete(first.id)
    assert store.frame(second.id).scene == first.scene


# What is refused


@pytest.mark.parametrize("frame_id", ["", "../../../etc/passwd", "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "\n"])
def test_an_id_that_is_none_never_touches_a_path(store: FrameStore, frame_id: str) -> None:
    for use in (store.jpeg, store.pixels, store.delete, store.frame, store.take_back):
        with pytest.raises(StoreError, match="is not a frame's id"):
            use(frame_id)
    with pytest.raises(StoreError, match="is not a frame's id"):
        store.label(frame_id, "head", by="Ada")


def test_an_unknown_frame_is_said_so(store: FrameStore) -> None:
    nobody = "0" * 32
    with pytest.raises(StoreError, match="There is no frame"):
        store.frame(nobody)
    with pytest.raises(StoreError, match="There is no frame"):
        store.label(nobody, "head", by="Ada")
    with pytest.raises(StoreError, match="There is no frame"):
        store.take_back(nobody)


def test_a_picture_that_is_gone_is_said_so(store: FrameStore, tmp_path: Path) -> None:
    frame_id = add(store, 1)
    files(tmp_path)[0].unlink()
    with pytest.raises(StoreError, match="can't be read"):
        store.jpeg(frame_id)


def test_a_time_without_a_zone_is_refused(store: FrameStore) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        store.add(jpeg(1), taken_utc=datetime(2026, 10, 1), source="live")  # noqa: DTZ001  # that is the point


def test_one_bad_picture_in_a_batch_stores_none_of_it(store: FrameStore, tmp_path: Path) -> None:
    with pytest.raises(PictureError):
        store.add_all([imported(1), NewFrame(jpeg(2)[:300], NOON, IMPORTED), imported(3)])
    assert store.frames(labelled_only=False) == []
    assert files(tmp_path) == []


# Several at once


def test_threads_and_a_second_store_write_at_the_same_time(store: FrameStore, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def write(into: FrameStore, first: int) -> None:
        try:
            for seed in range(first, first + 8):
                into.label(add(into, seed), "head", by="thread")
                into.counts()
        except BaseException as error:  # noqa: BLE001  # shown by the assertion below
            failures.append(error)

    with FrameStore(tmp_path / "store") as second:
        threads = [
            threading.Thread(target=write, args=(into, first))
            for into, first in ((store, 0), (store, 100), (second, 200), (second, 4))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    frames = store.frames()
    assert len(frames) == 28  # seeds 4 to 7 came twice
    assert sorted(path.stem for path in files(tmp_path)) == sorted(frame.id for frame in frames)
