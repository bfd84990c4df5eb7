"""Score thresholds follow this camera's own test frames, never below the floor, and never fail the camera."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.calibration import Calibration, calibrate, fitted_rules, rules_for
from appliance.models.head import Array, Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.store.features import FeatureCache
from appliance.store.frames import FrameStore, NewFrame
from appliance.store.recipe import VARIANTS, recipe_name
from tests.fakes import parts
from tests.fakes.pictures import encoded, scene

_LABELS = ("head", "hardhat")
_SCENES = 60


def _scores(head: Sequence[float]) -> Array:
    return np.array([[score, 1 - score] for score in head], np.float32)


def _calibrated(own: Sequence[float], others: Sequence[float], *, floor: float = 0.6) -> Calibration:
    truth = np.array([0] * len(own) + [1] * len(others), np.int64)
    scenes = [str(number) for number in range(len(truth))]
    return calibrate(_scores([*own, *others]), truth, scenes, _LABELS, floor=floor)


def test_a_label_that_other_scenes_reach_too_easily_gets_a_higher_threshold() -> None:
    confused = [0.05] * 55 + [0.7, 0.75, 0.8, 0.85, 0.86]
    calibration = _calibrated([0.97] * _SCENES, confused)
    assert calibration.thresholds["head"] == pytest.approx(0.8)  # the third highest of 60: three in 61
    assert calibration.thresholds["hardhat"] == 0.6
    assert calibration.frames == 120
    assert calibration.sentence == "A label is said above a score of 0.60 (head 0.80)."


def test_no_threshold_is_below_the_floor() -> None:
    calibration = _calibrated([0.97] * _SCENES, [0.02] * _SCENES, floor=0.8)
    assert calibration.thresholds == {"head": 0.8, "hardhat": 0.8}
    assert calibration.sentence == "A label is said above a score of 0.80."


def test_wrongly_labelled_frames_do_not_make_a_camera_blind() -> None:
    calibration = _calibrated([0.9] * _SCENES, [0.02] * 54 + [0.999] * 6)
    assert 0.6 < calibration.thresholds["head"] < np.float32(0.9)
    assert calibration.thresholds["head"] == pytest.approx(0.9)
    assert "may still be called head" in calibration.sentence
    assert "look for wrong labels" in calibration.sentence


def test_with_few_scenes_the_floor_holds_alone_and_says_how_many_it_takes() -> None:
    for own, others in ((48, 60), (60, 18)):
        calibration = _calibrated([0.97] * own, [0.95] * others)
        assert calibration.thresholds["head"] == 0.6
        assert "more is not asked of head" in calibration.sentence
        assert "before 49 test scenes of the label and 19 of others are known" in calibration.sentence


def test_many_frames_of_few_scenes_are_few() -> None:
    truth = np.array([0] * 300 + [1] * 300, np.int64)
    scenes = [str(number // 10) for number in range(600)]
    calibration = calibrate(_scores([0.97] * 300 + [0.95] * 300), truth, scenes, _LABELS, floor=0.6)
    assert calibration.thresholds == {"head": 0.6, "hardhat": 0.6}


def test_without_any_test_frame_the_floor_holds_alone() -> None:
    calibration = calibrate(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), [], _LABELS, floor=0.6)
    assert calibration.thresholds == {"head": 0.6, "hardhat": 0.6}
    assert calibration.frames == 0


# With a store


def _fill(store: FrameStore, cache: FeatureCache, manifest: Manifest, head: Head, *, confused: int = 0) -> None:
    """Scenes of every label on both sides, and features which the head names right but for some test frames."""
    frames = []
    for split, first in (("train", 0), ("test", 500)):
        for number, label in enumerate(parts.LABELS):
            seeds = range(first + 100 * number, first + 100 * number + 50)
            frames += [
                NewFrame(encoded(scene(seed)), datetime(2026, 1, 1, tzinfo=UTC), "import", label, "me", split)  # type: ignore[arg-type]
                for seed in seeds
            ]
    added = [each.frame for each in store.add_all(frames)]
    generator = np.random.default_rng(1)
    kernel = head.layers[-1][0]
    for split, variants in (("train", VARIANTS), ("test", 1)):
        vectors = {}
        for number, frame in enumerate(frame for frame in added if frame.split == split):
            column = parts.LABELS.index(str(frame.label))
            if split == "test" and 50 <= number < 50 + confused:
                column = 0
            row = kernel[:, column] + generator.normal(0, 0.1, parts.FEATURES)
            vectors[frame.id] = np.tile(row.astype(np.float32), (variants, 1))
        cache.put_many(recipe_name(manifest, variants), vectors)


def _manifest(head: Head) -> Manifest:
    return parts.tiny_manifest(b"a backbone", head.to_bytes())


def _rows_head() -> Head:
    """A head that is sure of a feature vector which is one of its own columns."""
    kernel = np.linalg.qr(np.random.default_rng(3).normal(size=(parts.FEATURES, 3)))[0] * 2.0
    return Head.from_arrays([kernel.astype(np.float32), np.zeros(3, np.float32)])


def test_the_rules_of_a_version_rest_on_the_cached_features_of_labelled_frames(tmp_path: Path) -> None:
    head = _rows_head()
    manifest = _manifest(head)
    with FrameStore(tmp_path) as store, FeatureCache(tmp_path) as cache:
        _fill(store, cache, manifest, head, confused=10)
        rules = fitted_rules(store, cache, manifest, head, sure_above=0.5, familiar=True)
        plain = fitted_rules(store, cache, manifest, head, sure_above=0.5, familiar=False)
    assert rules.threshold("head") > 0.8
    assert rules.threshold("nobody") == 0.5
    assert rules.familiarity is not None
    assert rules.familiarity.rows.shape == (150, parts.FEATURES)
    assert rules.familiarity.of(head.layers[0][0][:, 1]) > rules.familiarity.threshold
    assert len(rules.sentences) == 2
    assert plain.familiarity is None


def test_frames_that_no_night_has_looked_at_lead_to_the_floor(tmp_path: Path) -> None:
    head = _rows_head()
    manifest = _manifest(head)
    with FrameStore(tmp_path) as store, FeatureCache(tmp_path) as cache:
        _fill(store, cache, parts.tiny_manifest(b"another backbone", head.to_bytes()), head)
        rules = fitted_rules(store, cache, manifest, head, sure_above=0.5, familiar=True)
    assert rules.threshold("head") == 0.5
    assert rules.familiarity is None
    assert "there are 0" in rules.sentences[1]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """A shelf with version 1."""
    key = Ed25519PrivateKey.generate()
    shelf = Shelf(tmp_path / "models", key.public_key())
    head = _rows_head().to_bytes()
    manifest = parts.tiny_manifest(b"a backbone", head)
    body = manifest.to_bytes()
    contents = {
        part.sha256: data
        for part, data in zip(
            (manifest.parts[role] for role in ("backbone", "head", "trainer")),
            (b"a backbone", head, b"no test of the .eim needs one"),
            strict=True,
        )
    }
    shelf.accept(body, key.sign(body), contents)
    return shelf


def test_rules_for_a_version_on_the_shelf(tmp_path: Path, shelf: Shelf) -> None:
    head = _rows_head()
    with FrameStore(tmp_path / "store") as store, FeatureCache(tmp_path / "store") as cache:
        _fill(store, cache, _manifest(head), head)
    rules = rules_for(tmp_path / "store", shelf, 1, sure_above=0.5, familiar=True)
    assert rules.familiarity is not None


@pytest.mark.parametrize("damage", ["frames.sqlite", "features.sqlite"])
def test_a_damaged_store_leads_to_the_plain_floor_and_says_so(
    tmp_path: Path, shelf: Shelf, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    head = _rows_head()
    with FrameStore(tmp_path / "store") as store, FeatureCache(tmp_path / "store") as cache:
        _fill(store, cache, _manifest(head), head)
    (tmp_path / "store" / damage).write_bytes(b"this was a database once" * 1000)
    with caplog.at_level(logging.ERROR):
        rules = rules_for(tmp_path / "store", shelf, 1, sure_above=0.5, familiar=True)
    assert (rules.threshold("head"), rules.familiarity) == (0.5, None)
    assert "could not be read" in rules.sentences[0]
    assert "version 1" in caplog.text


def test_a_version_that_is_not_there_leads_to_the_plain_floor(tmp_path: Path, shelf: Shelf) -> None:
    assert rules_for(tmp_path / "store", shelf, 7, sure_above=0.5, familiar=True).threshold("head") == 0.5


def test_a_head_that_does_not_fit_its_manifest_is_not_used(tmp_path: Path) -> None:
    head = parts.tiny_head(labels=2)
    manifest = _manifest(head)
    with FrameStore(tmp_path) as store, FeatureCache(tmp_path) as cache, pytest.raises(ValueError, match="2 outputs"):
        fitted_rules(store, cache, manifest, head, sure_above=0.5, familiar=True)
