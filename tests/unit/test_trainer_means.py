"""A camera's class means: sums over enough frames, and never two that differ by one of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import NightError
from appliance.models.manifest import Part
from tests.fakes import parts
from trainer.head import Examples
from trainer.means import ClassMeans, class_means, once

MANIFEST = parts.tiny_manifest(b"backbone", b"head")


def examples(*counts: int, seed: int = 0) -> Examples:
    labels = np.repeat(np.arange(len(counts)), counts)
    features = np.random.default_rng(seed).normal(3, 1, (len(labels), 4, parts.FEATURES))
    return Examples(features.astype(np.float32), labels)


def test_they_are_sums_of_the_frames_as_they_are() -> None:
    known = examples(6, 7, 8)
    means = class_means(known, 3)
    features = known.features[:, 0]
    for index in range(3):
        np.testing.assert_allclose(means.sums[index], features[known.labels == index].sum(axis=0), rtol=1e-5)
    assert means.counts.tolist() == [6, 7, 8]
    assert means.squares == pytest.approx(float(np.square(features, dtype=np.float64).sum()))
    assert [str(array.dtype) for array in (means.sums, means.counts)] == ["float32", "int64"]


def test_a_label_with_few_frames_is_in_none_of_the_numbers() -> None:
    known = examples(6, 4, 8)
    kept = known.labels != 1
    means, without = class_means(known, 3), class_means(Examples(known.features[kept], known.labels[kept]), 3)
    assert means.counts.tolist() == [6, 0, 8]
    assert not means.sums[1].any()
    np.testing.assert_array_equal(means.sums, without.sums)
    assert means.squares == without.squares


def test_without_enough_frames_of_any_kind_there_are_none() -> None:
    with pytest.raises(NightError, match="No label has 5 frames here"):
        class_means(examples(4, 4, 4), 3)
    with pytest.raises(NightError, match="No label has 5 frames here"):
        class_means(Examples(np.zeros((0, 1, 8), np.float32), np.zeros(0, np.int64)), 3)


def test_the_norm_is_the_longest_means() -> None:
    sums = np.array([[30.0, 40.0], [0.0, 0.0], [6.0, 0.0]], np.float32)
    assert ClassMeans(sums, np.array([10, 0, 6]), 1.0).norm == 5


def test_whoever_asks_again_gets_the_same_numbers_whatever_was_labelled_meanwhile(tmp_path: Path) -> None:
    first = once(tmp_path, MANIFEST, lambda: examples(6, 7, 8))

    def more() -> Examples:
        raise AssertionError("the frames must not be looked at again")

    again = once(tmp_path, dataclasses.replace(MANIFEST, version=9), more)
    np.testing.assert_array_equal(again.sums, first.sums)
    np.testing.assert_array_equal(again.counts, first.counts)
    assert again.squares == first.squares
    assert [str(array.dtype) for array in (again.sums, again.counts)] == ["float32", "int64"]


def test_another_backbone_or_other_labels_have_means_of_their_own(tmp_path: Path) -> None:
    once(tmp_path, MANIFEST, lambda: examples(6, 7, 8))
    other = dataclasses.replace(MANIFEST, parts={**MANIFEST.parts, "backbone": Part.of(b"another")})
    assert once(tmp_path, other, lambda: examples(5, 5, 5)).counts.tolist() == [5, 5, 5]
    renamed = parts.relabelled(MANIFEST, "a", "b", "c")
    assert once(tmp_path, renamed, lambda: examples(9, 9, 9)).counts.tolist() == [9, 9, 9]


def test_means_that_were_kept_and_cannot_be_read_are_not_computed_anew(tmp_path: Path) -> None:
    once(tmp_path, MANIFEST, lambda: examples(6, 7, 8))
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    with pytest.raises(NightError, match="given before can't be read"):
        once(tmp_path, MANIFEST, lambda: examples(6, 7, 9))


def test_a_camera_that_has_too_few_frames_tonight_can_give_means_another_night(tmp_path: Path) -> None:
    with pytest.raises(NightError, match="No label"):
        once(tmp_path, MANIFEST, lambda: examples(1, 1, 1))
    assert once(tmp_path, MANIFEST, lambda: examples(6, 7, 8)).counts.tolist() == [6, 7, 8]
