"""Frames unlike anything a camera was taught are told from the rest, once there are frames enough to say so."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from appliance.familiarity import Familiarity, Known, fewest, fit, in_turns, low_cut, per_scene
from appliance.models.head import Array
from appliance.store.features import FeatureCache
from appliance.store.frames import FrameRecord

_WIDTH = 16


def _around(centre: Array, count: int, *, seed: int, spread: float = 0.2) -> Array:
    noise = np.random.default_rng(seed).normal(0, spread, (count, _WIDTH))
    return (centre + noise).astype(np.float32)


def _known(rows: Array, *, label: str = "head", per_scene: int = 1, name: str = "scene") -> Known:
    scenes = tuple(f"{name}-{number // per_scene}" for number in range(len(rows)))
    return Known(rows, (label,) * len(rows), scenes)


def _record(number: int, label: str, scene: str) -> FrameRecord:
    frame_id = f"{number * 2654435761 % 2**32:08x}{number:024x}"
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return FrameRecord(
        frame_id, moment, "live", 1, 1, "", b"", scene, "train", label, moment, "somebody"
    )  # fmt: skip


_EAST = np.eye(_WIDTH, dtype=np.float32)[0]
_NORTH = np.eye(_WIDTH, dtype=np.float32)[1]
_NONE = _known(np.zeros((0, _WIDTH), np.float32))


def test_familiarity_is_the_cosine_to_the_most_alike_row() -> None:
    known = Familiarity(np.stack([_EAST, _NORTH]), 0.5)
    assert known.of(5 * _NORTH) == pytest.approx(1)
    assert known.of(_EAST + _NORTH) == pytest.approx(np.sqrt(0.5))
    assert known.of(-_EAST - 0.5 * _NORTH) == pytest.approx(-0.5 / np.sqrt(1.25))


def test_the_rule_keeps_frames_of_the_taught_kind_and_stops_others() -> None:
    fitted = fit(_known(_around(_EAST, 60, seed=1)), _known(_around(_EAST, 60, seed=2)))
    assert fitted.rule is not None
    kept = [fitted.rule.of(row) >= fitted.rule.threshold for row in _around(_EAST, 500, seed=3)]
    stopped = [fitted.rule.of(row) < fitted.rule.threshold for row in _around(_NORTH, 500, seed=4)]
    assert np.mean(kept) > 0.9
    assert np.mean(stopped) > 0.9
    assert "60 labelled frames" in fitted.sentence
    assert "60 test scenes" in fitted.sentence


def test_with_few_test_scenes_training_scenes_stand_in_each_against_the_others() -> None:
    taught = _known(np.repeat(_around(_EAST, 30, seed=1), 4, axis=0), per_scene=4)
    fitted = fit(taught, _known(_around(_EAST, 3, seed=2)))
    assert fitted.rule is not None
    assert fitted.rule.threshold < 0.999  # to its own scene every row has a cosine of 1
    assert "30 training scenes" in fitted.sentence


def test_with_few_scenes_of_either_kind_there_is_no_rule_and_it_says_how_many_it_takes() -> None:
    taught = _known(_around(_EAST, 180, seed=1), per_scene=10)
    fitted = fit(taught, _known(_around(_EAST, 5, seed=2)))
    assert fitted.rule is None
    assert "19 different scenes" in fitted.sentence
    assert "there are 18" in fitted.sentence


def test_nothing_taught_is_no_rule() -> None:
    assert fit(_NONE, _known(_around(_EAST, 60, seed=2))).rule is None


def test_frames_of_one_scene_count_once_by_the_least_familiar() -> None:
    lowest = per_scene(np.array([0.9, 0.5, 0.8, np.nan]), ["a", "a", "b", "c"])
    assert sorted(lowest.tolist()) == pytest.approx([0.5, 0.8])


def test_the_cut_is_passed_below_no_more_often_than_it_says() -> None:
    generator = np.random.default_rng(5)
    below = []
    for _ in range(3000):
        cut = low_cut(generator.exponential(size=19), 0.05)
        assert cut is not None
        below.append(generator.exponential() < cut)
    assert 0.035 < np.mean(below) < 0.065  # one in twenty, exactly, for 19 values
    assert fewest(0.05) == 19
    assert low_cut(np.arange(18.0), 0.05) is None


def test_the_choice_of_frames_is_fair_to_labels_and_scenes_and_the_same_every_time() -> None:
    frames = [_record(n, "hardhat", f"busy-{n % 3}") for n in range(300)]
    frames += [_record(300 + n, "head", f"rare-{n}") for n in range(10)]
    order = in_turns(frames)
    assert order == in_turns(frames[::-1])
    assert sum(frame.label == "head" for frame in order[:20]) == 10
    hats = [frame.scene for frame in order if frame.label == "hardhat"]
    assert set(hats[:3]) == {"busy-0", "busy-1", "busy-2"}
    assert len(order) == len(frames)


def test_known_frames_come_from_the_cache_variant_0_only_and_capped(tmp_path: Path) -> None:
    frames = [_record(number, "head", f"scene-{number}") for number in range(80)]
    rows = _around(_EAST, 80, seed=1)
    with FeatureCache(tmp_path) as cache:
        vectors = {frame.id: np.stack([row, -row]) for frame, row in zip(frames, rows, strict=True)}
        cache.put_many("recipe", vectors)
        known = Known.read(frames, cache, "recipe", _WIDTH, 50)
        nothing = Known.read(frames, cache, "another recipe", _WIDTH, 50)
    assert known.rows.shape == (50, _WIDTH)
    assert known.rows.base is None or known.rows.base.size <= 50 * _WIDTH
    for row, scene in zip(known.rows, known.scenes, strict=True):
        np.testing.assert_array_equal(row, rows[int(scene.split("-")[1])])
    assert len(nothing) == 0
    assert nothing.rows.shape == (0, _WIDTH)


def test_rows_that_cannot_be_this_backbones_features_are_passed_over(tmp_path: Path) -> None:
    frames = [_record(number, "head", f"scene-{number}") for number in range(3)]
    with FeatureCache(tmp_path) as cache:
        cache.put_many("recipe", {frames[0].id: np.full((1, _WIDTH), np.nan, np.float32)})
        cache.put_many("recipe", {frames[1].id: np.ones((1, _WIDTH + 1), np.float32)})
        cache.put_many("recipe", {frames[2].id: np.ones((1, _WIDTH), np.float32)})
        assert Known.read(frames, cache, "recipe", _WIDTH, 50).scenes == ("scene-2",)


def test_an_all_zero_row_is_left_out_of_what_is_compared() -> None:
    known = _known(np.stack([np.zeros(_WIDTH, np.float32), 4 * _EAST])).normalised()
    np.testing.assert_allclose(known.rows, [_EAST])
    assert known.scenes == ("scene-1",)
