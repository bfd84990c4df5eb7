"""Room in the store: what goes first, what never goes, and what is said when there is none."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from appliance.config import StoreSettings
from appliance.errors import StoreFullError
from appliance.store.frames import FrameStore, Limits, NewFrame, Said
from tests.fakes.pictures import encoded, scene

NOW = datetime.now(UTC).replace(microsecond=0)
PLENTY = 10**15
Usage = namedtuple("Usage", "total used free")


class Disk:
    """How much of the disk is free, as the store sees it."""

    def __init__(self) -> None:
        self.free = PLENTY

    def usage(self, _: object) -> Usage:
        return Usage(2 * PLENTY, 0, self.free)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(shutil, "disk_usage", disk.usage)
    return disk


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FrameStore]:
    with FrameStore(tmp_path / "store") as store:
        yield store


def frame(
    seed: int, *, reason: str = "uncertain", score: float = 0.5, hours: float = 0, label: str | None = None
) -> NewFrame:
    taken = NOW - timedelta(days=1) + timedelta(hours=hours)
    return NewFrame(
        encoded(scene(seed)), taken, "live", label, "Ada" if label else None, reason=reason, said=Said(3, "head", score)
    )


def limited(store: FrameStore, *, spare: int = 0, floor: int = 0, days: int = 60, others: int = 0) -> FrameStore:
    """The same store, opened with a budget of what it takes now and so many bytes to spare."""
    limits = Limits(store.size_bytes() + spare + others, floor, days, lambda: others)
    return FrameStore(store.root, limits)


def ids(store: FrameStore) -> list[str]:
    return [each.id for each in store.frames(labelled_only=False)]


ORDER = {
    "sure": frame(1, score=0.99, hours=9),
    "fairly sure": frame(2, score=0.92, hours=0),
    "old": frame(3, score=0.2, hours=1),
    "newer": frame(4, score=0.8, hours=2),
    "random, and sure": frame(5, reason="random", score=0.99, hours=0),
    "asked for": frame(6, reason="burst", score=0.99, hours=-1),
    "false alarm": frame(7, reason="false alarm", score=0.99, hours=-0.5),
}


def test_the_frames_that_people_miss_least_go_first(store: FrameStore) -> None:
    added = {name: store.add_all([each])[0].frame for name, each in ORDER.items()}
    unclear, labelled = (store.add_all([frame(seed, hours=-5)])[0].frame for seed in (8, 9))
    store.mark_unclear(unclear.id, by="Ada")
    store.label(labelled.id, "head", by="Ada")
    expected = [each.id for each in (*added.values(), unclear)]
    for number, gone in enumerate(expected, start=1):
        with limited(store, spare=-1) as full:
            assert full.tidy() == 1
        assert ids(store).count(gone) == 0, f"number {number} stayed"
        assert len(ids(store)) == len(expected) + 1 - number
    with limited(store, spare=-1) as full:
        assert full.tidy() == 0
    assert ids(store) == [labelled.id]


def test_a_frame_that_was_put_off_three_times_goes_with_the_sure_ones(store: FrameStore) -> None:
    old, new = (store.add_all([frame(seed, score=0.2, hours=seed)])[0].frame for seed in (1, 2))
    for _ in range(3):
        store.skip(new.id)
    with limited(store, spare=-1) as full:
        full.tidy()
    assert ids(store) == [old.id]


def test_a_new_frame_pushes_out_an_unlabelled_one_and_never_a_labelled_one(store: FrameStore) -> None:
    labelled = [store.add_all([frame(seed, label="head")])[0].frame.id for seed in range(3)]
    waiting = store.add_all([frame(9)])[0].frame.id
    with limited(store, spare=1000) as full:
        (added,) = full.add_all([frame(10, score=0.1)])
    assert sorted(ids(store)) == sorted([*labelled, added.frame.id])
    assert waiting not in ids(store)


def test_where_only_labelled_frames_are_left_nothing_is_deleted_and_the_reader_is_told(store: FrameStore) -> None:
    before = [store.add_all([frame(seed, label="head")])[0].frame.id for seed in range(3)]
    with limited(store, spare=100) as full:
        with pytest.raises(StoreFullError, match="no room for") as refused:
            full.add_all([frame(10)])
        assert "never deleted without asking" in refused.value.means
        assert "store.budget_mb" in refused.value.do
        state = full.room()
        assert state.state == "full"
        assert "no new frames are kept" in state.sentence
        full.delete(before[0])
        assert full.add_all([frame(10)])[0].new
    assert len(list((store.root / "frames").glob("*/*"))) == 3


def test_thumbnails_and_features_go_before_what_a_person_looked_at(store: FrameStore) -> None:
    labelled, unclear = (store.add_all([frame(seed)])[0].frame.id for seed in (1, 2))
    store.label(labelled, "head", by="Ada")
    store.mark_unclear(unclear, by="Ada")
    store.thumbnail(labelled)
    store.features.put_many("r", {labelled: np.ones((8, 4000), np.float32)})
    with limited(store, spare=-1000) as full:
        assert full.tidy() == 0
        assert full.pictures.thumbnail_bytes == 0
        assert full.features.frames() == set()
    assert sorted(ids(store)) == sorted([labelled, unclear])
    assert store.thumbnail(labelled)


def test_the_floor_holds_whoever_fills_the_disk(store: FrameStore, disk: Disk) -> None:
    for seed in range(4):
        store.add_all([frame(seed)])
    with limited(store, spare=PLENTY, floor=10**9) as full:
        assert full.room().state == "ok"
        disk.free = 10**9 - 1
        with pytest.raises(StoreFullError, match=r"less than 1\.0 GB free") as refused:
            full.add_all([frame(10)])  # here nothing that is deleted makes the disk any emptier
        assert "Free some of the disk" in refused.value.do
        assert full.room().state == "full"
        disk.free = PLENTY
        assert full.room().state == "ok"
        assert full.add_all([frame(10)])[0].new


def test_a_store_at_its_limit_says_that_it_purges(store: FrameStore) -> None:
    store.add_all([frame(1)])
    with limited(store, spare=1000) as full:
        state = full.room()
    assert state.state == "purging"
    assert "unlabelled ones go" in state.sentence
    assert (state.size_bytes, state.budget_bytes) == (store.size_bytes(), store.size_bytes() + 1000)


def test_what_others_take_counts_too(store: FrameStore) -> None:
    store.add_all([frame(1)])
    with limited(store, spare=1000, others=10**7) as full:
        assert full.room().size_bytes == store.size_bytes() + 10**7
        full.add_all([frame(2)])
        assert len(ids(full)) == 1


def test_unlabelled_frames_are_deleted_after_their_days_whether_there_is_room_or_not(store: FrameStore) -> None:
    old, young, labelled, unclear = (
        store.add_all([frame(seed, hours=hours)])[0].frame.id
        for seed, hours in ((1, -24 * 3), (2, -24), (3, -24 * 99), (4, -24 * 99))
    )
    store.label(labelled, "head", by="Ada")
    store.mark_unclear(unclear, by="Ada")
    with limited(store, spare=PLENTY, days=3) as full:
        assert full.tidy() == 1
    assert sorted(ids(store)) == sorted([young, labelled, unclear])
    assert old not in ids(store)


def test_a_store_without_limits_has_no_end(store: FrameStore) -> None:
    store.add_all([frame(1, hours=-24 * 999)])
    assert store.tidy() == 0
    assert (store.room().state, store.room().budget_bytes) == ("ok", 0)


def test_limits_are_what_the_settings_say() -> None:
    limits = Limits.of(StoreSettings(budget_mb=70, floor_mb=5, unlabelled_days=9), lambda: 11)
    assert (limits.budget_bytes, limits.floor_bytes, limits.unlabelled_days, limits.others()) == (70e6, 5e6, 9, 11)


def test_the_size_is_the_sum_of_all_that_is_there(store: FrameStore) -> None:
    empty = store.size_bytes()
    added = [each.frame for each in store.add_all([frame(seed) for seed in range(5)])]
    sizes = sum(each.size_bytes for each in added)
    assert sizes == sum(path.stat().st_size for path in (store.root / "frames").glob("*/*.jpg"))
    store.database.checkpoint()
    assert sizes <= store.size_bytes() - empty < sizes + 100_000
    before = store.size_bytes()
    small = store.thumbnail(added[0].id)
    assert store.size_bytes() == before + len(small)
    with FrameStore(store.root) as again:
        assert again.pictures.thumbnail_bytes == len(small)
    store.delete_all([each.id for each in added])
    assert store.rows("SELECT frames, size_bytes FROM totals") == [(0, 0)]
    assert store.pictures.thumbnail_bytes == 0
