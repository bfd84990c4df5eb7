"""What the accuracy benchmark computes from scores."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.accuracy_measures import calibration_error, skewed, some_of, tempered, wilson
from tests.benchmarks.precision import Material
from tests.benchmarks.splits import Pictures

GROUP = np.arange(60) // 2  # two frames a scene
TRUTH = (GROUP % 2).astype(np.intp)


def pictures() -> Pictures:
    material = Material(("hardhat", "head"), TRUTH, GROUP, {})
    return Pictures(material, np.zeros((60, 1, 4), np.float32), np.zeros(60, np.bool_))


def test_wilson_s_interval_is_the_published_one() -> None:
    assert wilson(8, 10) == pytest.approx((0.490, 0.943), abs=1e-3)
    assert wilson(10, 10)[1] == pytest.approx(1)


def test_scores_that_are_right_as_often_as_they_say_have_no_calibration_error() -> None:
    truth = np.array([0] * 8 + [1] * 2, np.intp)
    assert calibration_error(np.tile(np.array([[0.8, 0.2]], np.float32), (10, 1)), truth) == pytest.approx(0, abs=1e-6)
    sure = np.tile(np.array([[1.0, 0.0]], np.float32), (10, 1))
    assert calibration_error(sure, truth) == pytest.approx(0.2)


def test_a_temperature_calms_scores_that_are_too_sure() -> None:
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 2, 400).astype(np.intp)
    said = np.where(generator.random(400) < 0.8, truth, 1 - truth)
    scores = np.where(np.arange(2) == said[:, None], 0.97, 0.03).astype(np.float32)
    calmed = tempered(scores, truth, np.arange(400))
    assert calibration_error(calmed, truth) < 0.06 < calibration_error(scores, truth)
    assert (calmed.argmax(axis=1) == scores.argmax(axis=1)).all()


def test_a_skewed_deal_gives_each_label_to_its_half_and_tears_no_scene() -> None:
    camera = skewed(4)(pictures(), np.random.default_rng(0))
    for label, half in ((0, (0, 1)), (1, (2, 3))):
        assert 0.75 < np.isin(camera[label == TRUTH], half).mean() < 1
    assert all(len(set(camera[scene == GROUP])) == 1 for scene in np.unique(GROUP))


def test_few_frames_of_a_site_are_as_many_of_each_label_from_few_scenes() -> None:
    rows = np.arange(10, 60)
    chosen = some_of(rows, TRUTH, GROUP, 5, np.random.default_rng(0))
    assert np.bincount(TRUTH[chosen]).tolist() == [5, 5]
    assert len(set(chosen)) == 10
    assert set(chosen) <= set(rows)
    assert len(set(GROUP[chosen])) == 6  # three scenes of two for each label
