"""The feature cache gives back the very numbers it was given, and forgets what it must."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from appliance.errors import StoreError
from appliance.store.features import FeatureCache
from appliance.store.frames import FrameStore
from tests.fakes.pictures import encoded, scene

ONE, TWO = "1" * 32, "2" * 32


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FeatureCache]:
    with FeatureCache(tmp_path) as cache:
        yield cache


def vectors(seed: int, variants: int = 8, features: int = 1280) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((variants, features), np.float32)


def test_features_come_back_bit_for_bit(cache: FeatureCache, tmp_path: Path) -> None:
    cache.put_many("r", {ONE: vectors(1), TWO: vectors(2, 1, 5)})
    with FeatureCache(tmp_path) as reopened:
        found = reopened.get_many([ONE, TWO, "3" * 32], "r")
    assert found.keys() == {ONE, TWO}
    for frame_id, expected in ((ONE, vectors(1)), (TWO, vectors(2, 1, 5))):
        assert found[frame_id].dtype == np.float32
        assert np.array_equal(found[frame_id], expected)


def test_another_recipe_is_another_cache(cache: FeatureCache) -> None:
    cache.put_many("old", {ONE: vectors(1)})
    cache.put_many("new", {ONE: vectors(2)})
    assert np.array_equal(cache.get_many([ONE], "old")[ONE], vectors(1))
    assert cache.get_many([ONE], "other") == {}


def test_features_are_replaced(cache: FeatureCache) -> None:
    cache.put_many("r", {ONE: vectors(1)})
    cache.put_many("r", {ONE: vectors(2)})
    assert np.array_equal(cache.get_many([ONE], "r")[ONE], vectors(2))


def test_more_frames_than_one_query_takes(cache: FeatureCache) -> None:
    ids = [f"{number:032x}" for number in range(1234)]
    cache.put_many("r", {frame_id: np.full((1, 2), number, np.float32) for number, frame_id in enumerate(ids)})
    assert [float(value[0, 0]) for value in cache.get_many(ids, "r").values()] == list(range(1234))


def test_a_forgotten_frame_has_no_features_in_any_recipe(cache: FeatureCache) -> None:
    for recipe in ("a", "b"):
        cache.put_many(recipe, {ONE: vectors(1), TWO: vectors(2)})
    cache.forget([ONE])
    for recipe in ("a", "b"):
        assert list(cache.get_many([ONE, TWO], recipe)) == [TWO]


def test_pruning_keeps_one_recipe(cache: FeatureCache) -> None:
    for recipe in ("old", "new"):
        cache.put_many(recipe, {ONE: vectors(1)})
    cache.prune({"new"})
    assert cache.get_many([ONE], "old") == {}
    assert list(cache.get_many([ONE], "new")) == [ONE]


def test_features_of_frames_that_are_gone_are_swept_when_the_store_opens(tmp_path: Path) -> None:
    with FrameStore(tmp_path) as store:
        known = store.add(encoded(scene(1)), taken_utc=datetime.now(UTC), source="live").frame.id
    with FeatureCache(tmp_path) as cache:
        cache.put_many("r", {known: vectors(1), ONE: vectors(2)})
        FrameStore(tmp_path).close()
        assert list(cache.get_many([known, ONE], "r")) == [known]


def test_a_damaged_cache_says_that_it_may_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "features.sqlite").write_bytes(b"nonsense" * 1000)
    with pytest.raises(StoreError, match=r"features\.sqlite can't be used") as refused:
        FeatureCache(tmp_path)
    assert "Delete" in refused.value.do
    with pytest.raises(StoreError, match=r"features\.sqlite"):
        FrameStore(tmp_path)
    (tmp_path / "features.sqlite").unlink()
    FrameStore(tmp_path).close()
