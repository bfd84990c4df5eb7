"""The exact start: all cameras' class means become the head that one machine with all frames would have made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from appliance.errors import NightError
from appliance.models.head import Array
from server.start import head_from_means
from tests.fakes.parts import FEATURES, tiny_head
from trainer.head import Examples, evaluate
from trainer.means import ClassMeans, class_means

LIKE = tiny_head()


def clusters(*counts: int, seed: int = 0, spread: float = 0.5) -> Examples:
    """Frames of each label around a point of their own, all far from the origin as features are."""
    generator = np.random.default_rng(seed)
    centres = 5 + 2 * np.eye(len(counts), FEATURES)
    labels = np.repeat(np.arange(len(counts)), counts)
    features = centres[labels] + generator.normal(0, spread, (len(labels), FEATURES))
    return Examples(features[:, np.newaxis].astype(np.float32), labels)


def parts_of(examples: Examples, cameras: Sequence[Sequence[int]]) -> list[ClassMeans]:
    """Class means of cameras that have only these labels each."""
    found = []
    for labels in cameras:
        rows = np.isin(examples.labels, labels)
        found.append(class_means(Examples(examples.features[rows], examples.labels[rows]), 3))
    return found


def nearest_mean(examples: Examples, unseen: Array) -> list[int]:
    features = examples.features[:, 0].astype(np.float64)
    centres = np.stack([features[examples.labels == index].mean(axis=0) for index in range(3)])
    distances = np.linalg.norm(unseen[:, np.newaxis] - centres, axis=2)
    return [int(label) for label in distances.argmin(axis=1)]


def test_a_frame_gets_the_label_whose_mean_is_nearest() -> None:
    known, unseen = clusters(20, 30, 40), clusters(200, 200, 200, seed=3, spread=2.0).features[:, 0]
    head = head_from_means([class_means(known, 3)], LIKE)
    assert head.scores(unseen).argmax(axis=1).tolist() == nearest_mean(known, unseen)
    assert (head.feature_count, head.label_count, head.hidden_units) == (FEATURES, 3, 0)


def test_it_does_not_matter_how_skewed_the_cameras_are() -> None:
    known = clusters(20, 30, 40)
    whole = head_from_means([class_means(known, 3)], LIKE)
    skewed = head_from_means(parts_of(known, [[0], [1], [2]]), LIKE)
    for ours, theirs in zip(skewed.arrays, whole.arrays, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    assert evaluate(skewed, clusters(50, 50, 50, seed=9)).accuracy > 0.95


def test_the_wider_frames_lie_the_less_sure_is_the_head() -> None:
    def sure(spread: float) -> float:
        known = clusters(30, 30, 30, spread=spread)
        return float(head_from_means([class_means(known, 3)], LIKE).scores(clusters(9, 9, 9).features[:, 0]).max())

    assert 0.99 < sure(0.2) > sure(2.0) > sure(5.0) < 0.9


def test_what_all_labels_share_is_not_in_the_heads_numbers() -> None:
    head = head_from_means([class_means(clusters(20, 20, 20), 3)], LIKE)
    np.testing.assert_allclose(head.arrays[0].sum(axis=1), 0, atol=1e-3)


def test_a_label_that_no_camera_has_enough_frames_of_stops_it() -> None:
    known = parts_of(clusters(20, 4, 20), [[0, 1], [1, 2]])
    with pytest.raises(NightError, match="No camera has enough labelled frames of label 2"):
        head_from_means(known, LIKE)
    with pytest.raises(NightError, match="label 1, 2, 3"):
        head_from_means([], LIKE)


def test_a_head_with_hidden_units_has_no_exact_start() -> None:
    with pytest.raises(NightError, match="has 4 hidden units"):
        head_from_means([class_means(clusters(9, 9, 9), 3)], tiny_head(hidden_units=4))


def test_frames_that_are_all_the_same_have_no_distances_to_go_by() -> None:
    same = Examples(np.ones((30, 1, FEATURES), np.float32), np.repeat(np.arange(3), 10))
    with pytest.raises(NightError, match="same features"):
        head_from_means([class_means(same, 3)], LIKE)


def test_means_that_make_no_finite_head_are_refused_with_a_reason() -> None:
    sums = np.eye(3, FEATURES, dtype=np.float32) * np.float32(1e-32)
    least = float(np.square(sums, dtype=np.float64).sum()) / 5  # where every frame lies on its mean
    with pytest.raises(NightError, match="make no head"):
        head_from_means([ClassMeans(sums, np.full(3, 5), least * (1 + 1e-9))], LIKE)
