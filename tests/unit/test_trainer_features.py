"""Features of labelled frames: the same as the live model's, computed once, gone with their frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from appliance.frame import Pixels
from appliance.models.head import Array
from appliance.models.manifest import Manifest, Part
from appliance.store.features import FeatureCache
from appliance.store.frames import FrameStore, NewFrame
from appliance.store.recipe import VARIANTS, recipe_name
from appliance.vision import RESIZE_MODES, InputSpec, ResizeMode, encode_jpeg, prepare
from tests.fakes import parts
from tests.fakes.site import jpeg, picture, tiny_trainer
from trainer.features import Backbone, augment, examples
from trainer.head import Recipe, evaluate, train

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def manifest(tiny_backbone: bytes) -> Manifest:
    return parts.tiny_manifest(tiny_backbone, parts.tiny_head().to_bytes())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FrameStore]:
    with FrameStore(tmp_path / "store") as store:
        yield store


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FeatureCache]:
    with FeatureCache(tmp_path / "store") as cache:
        yield cache


def fill(store: FrameStore, *labels: str, split: str = "train") -> list[str]:
    """One frame per label, hours apart; their ids."""
    frames = [
        NewFrame(jpeg(label, seed=number), NOON + timedelta(hours=number), "live", label, "test", split)  # type: ignore[arg-type]  # "train" or "test"
        for number, label in enumerate(labels)
    ]
    return [added.frame.id for added in store.add_all(frames)]


class Bench:
    """A backbone that counts how often it was made and asked."""

    def __init__(self, graph: bytes, spec: InputSpec = parts.INPUT) -> None:
        self._graph, self._spec = graph, spec
        self.made = self.asked = 0

    def __call__(self) -> Backbone:
        self.made += 1
        bench, real = self, Backbone(self._graph, self._spec)

        class Counting(Backbone):
            def __init__(self) -> None: ...

            def features(self, pixels: Pixels) -> Array:
                bench.asked += 1
                return real.features(pixels)

        return Counting()


def refuses(*_: object) -> Backbone:
    raise AssertionError("the backbone was made although nothing was missing")


@pytest.mark.litert
def test_features_are_computed_once(
    store: FrameStore, cache: FeatureCache, manifest: Manifest, tiny_backbone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, "head", "hardhat", "nobody")
    bench = Bench(tiny_backbone)
    first = examples(store, cache, manifest, bench, split="train", variants=3)
    assert (bench.made, bench.asked) == (1, 9)
    assert first.features.shape == (3, 3, parts.FEATURES)

    def not_again(*_: object) -> Pixels:
        raise AssertionError("a picture was decoded although its features are known")

    monkeypatch.setattr(FrameStore, "pixels", not_again)
    second = examples(store, cache, manifest, refuses, split="train", variants=3)
    np.testing.assert_array_equal(first.features, second.features)
    np.testing.assert_array_equal(first.labels, second.labels)


@pytest.mark.litert
def test_only_what_the_cache_lacks_is_computed(
    store: FrameStore, cache: FeatureCache, manifest: Manifest, tiny_backbone: bytes
) -> None:
    fill(store, "head", "hardhat")
    examples(store, cache, manifest, Bench(tiny_backbone), split="train", variants=2)
    store.add_all([NewFrame(jpeg("nobody", seed=7), NOON - timedelta(days=1), "live", "nobody", "test", "train")])
    bench = Bench(tiny_backbone)
    known = examples(store, cache, manifest, bench, split="train", variants=2)
    assert bench.asked == 2
    assert [manifest.labels[index] for index in known.labels] == ["nobody", "head", "hardhat"]  # in order of time


@pytest.mark.litert
def test_deleting_a_frame_deletes_its_features(
    tmp_path: Path, store: FrameStore, cache: FeatureCache, manifest: Manifest, tiny_backbone: bytes
) -> None:
    gone, stays = fill(store, "head", "hardhat")
    known = examples(store, cache, manifest, Bench(tiny_backbone), split="train", variants=2)
    vector = known.features[0].tobytes()
    assert vector in _bytes_below(tmp_path / "store")
    store.delete(gone)
    recipe = recipe_name(manifest, 2)
    assert set(cache.get_many([gone, stays], recipe)) == {stays}
    cache.close()
    store.close()  # the last one to let go writes the journal back into its file
    assert vector not in _bytes_below(tmp_path / "store")
    assert known.features[1].tobytes() in _bytes_below(tmp_path / "store")


@pytest.mark.litert
@pytest.mark.parametrize("mode", ["fit-shortest", "fit-longest", "squash"])
def test_the_first_variant_is_the_frame_as_the_live_model_sees_it(
    store: FrameStore, cache: FeatureCache, manifest: Manifest, tiny_backbone: bytes, mode: str
) -> None:
    spec = InputSpec(parts.SIDE, parts.SIDE, mode)  # type: ignore[arg-type]  # one of the three modes
    manifest = dataclasses.replace(manifest, input=spec)
    wide = np.random.default_rng(3).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    store.add_all([NewFrame(encode_jpeg(wide), NOON, "live", "head", "test", "train")])
    (frame,) = store.frames()
    backbone = Backbone(tiny_backbone, spec)
    known = examples(store, cache, manifest, lambda: backbone, split="train")
    as_live = prepare(store.pixels(frame.id), spec)  # what the live loop hands to the .eim
    assert as_live.shape == (parts.SIDE, parts.SIDE, 3)
    np.testing.assert_array_equal(known.features[0, 0], backbone.features(as_live))


def test_training_and_the_live_eim_see_a_frame_alike(
    store: FrameStore, cache: FeatureCache, manifest: Manifest, tiny_backbone: bytes, tiny_eim: Path
) -> None:
    from appliance.eim.runner import start_impulse

    (identity,) = fill(store, "hardhat")
    known = examples(store, cache, manifest, Bench(tiny_backbone), split="train")
    (at_night,) = parts.tiny_head().scores(known.features[:, 0])
    impulse = start_impulse(tiny_eim)
    try:
        live = impulse.classify(prepare(store.pixels(identity), impulse.info.input)).scores
    finally:
        impulse.close()
    np.testing.assert_allclose([live[label] for label in parts.LABELS], at_night, atol=1e-6)


@pytest.mark.litert
def test_frames_of_another_split_or_an_unknown_label_are_left_out(
    store: FrameStore, cache: FeatureCache, manifest: Manifest, tiny_backbone: bytes
) -> None:
    fill(store, "head", "hardhat")
    store.add_all([NewFrame(jpeg("nobody", seed=50), NOON, "import", "helmet", "test", "train")])
    store.add_all([NewFrame(jpeg("nobody", seed=51), NOON, "import", "nobody", "test", "test")])
    bench = Bench(tiny_backbone)
    assert len(examples(store, cache, manifest, bench, split="train", variants=1)) == 2
    assert len(examples(store, cache, manifest, bench, split="test", variants=1)) == 1


def test_no_labelled_frame_gives_no_examples(store: FrameStore, cache: FeatureCache, manifest: Manifest) -> None:
    known = examples(store, cache, manifest, refuses, split="train")
    assert len(known) == 0
    assert known.features.shape == (0, VARIANTS, parts.FEATURES)


@pytest.mark.litert
def test_a_night_cut_short_keeps_what_it_has_computed(
    store: FrameStore, cache: FeatureCache, manifest: Manifest, tiny_backbone: bytes
) -> None:
    ids = fill(store, *["head"] * 20)
    seen: list[tuple[int, int]] = []

    def cut(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 18:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        examples(store, cache, manifest, Bench(tiny_backbone), split="train", variants=1, progress=cut)
    assert seen[0] == (1, 20)
    kept = len(cache.get_many(ids, recipe_name(manifest, 1)))
    assert kept == 16
    bench = Bench(tiny_backbone)
    assert len(examples(store, cache, manifest, bench, split="train", variants=1)) == 20
    assert bench.asked == 20 - kept


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_variants_are_every_way_to_a_square_the_live_one_first_each_mirrored(mode: ResizeMode) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 90, 3), np.uint8)
    spec = InputSpec(32, 32, mode)
    variants = augment(pixels, spec)
    assert len(variants) == VARIANTS == 2 * len(RESIZE_MODES)
    np.testing.assert_array_equal(variants[0], prepare(pixels, spec))
    for square, mirrored in zip(variants[::2], variants[1::2], strict=True):
        np.testing.assert_array_equal(mirrored, square[:, ::-1])
    squares = {square.tobytes() for square in variants[::2]}
    assert squares == {prepare(pixels, InputSpec(32, 32, each)).tobytes() for each in RESIZE_MODES}


def test_one_variant_is_the_frame_alone_as_the_live_model_sees_it() -> None:
    pixels = picture("head", seed=1)
    (only,) = augment(pixels, parts.INPUT, 1)
    np.testing.assert_array_equal(only, prepare(pixels, parts.INPUT))


def test_features_are_kept_apart_by_everything_that_they_depend_on(manifest: Manifest) -> None:
    other_backbone = {**manifest.parts, "backbone": Part.of(b"another")}
    other_head = {**manifest.parts, "head": Part.of(b"another")}
    name = recipe_name(manifest, VARIANTS)
    others = {
        recipe_name(manifest, 1),
        recipe_name(dataclasses.replace(manifest, parts=other_backbone), VARIANTS),
        recipe_name(dataclasses.replace(manifest, input=InputSpec(32, 32, "squash")), VARIANTS),
        recipe_name(dataclasses.replace(manifest, input=InputSpec(48, 32, "fit-shortest")), VARIANTS),
    }
    assert len(others | {name}) == 5
    later = dataclasses.replace(manifest, version=9, parent=8, parts=other_head)
    assert recipe_name(later, VARIANTS) == name  # a new head needs no new features


@pytest.mark.litert
def test_the_tiny_backbone_tells_the_drawn_pictures_apart(
    store: FrameStore, cache: FeatureCache, manifest: Manifest, tiny_backbone: bytes
) -> None:
    """What the whole nights in tests/night lean on."""
    fill(store, *parts.LABELS * 8)
    bench = Bench(tiny_backbone)
    known = examples(store, cache, manifest, bench, split="train")
    trained, _ = train(tiny_trainer(), parts.tiny_head(), known, Recipe(epochs=20, rate=0.05))
    unseen = [bench().features(picture(label, seed=900 + seed)) for seed in range(10) for label in parts.LABELS]
    chosen = trained.scores(np.stack(unseen)).argmax(axis=1)
    assert (chosen == np.tile(range(3), 10)).mean() > 0.9
    assert evaluate(trained, known).accuracy > 0.9


def _bytes_below(root: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(root.rglob("features.sqlite*")))


def test_very_many_frames_have_fewer_variants_in_memory(
    tmp_path: Path, tiny_backbone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = parts.tiny_manifest(tiny_backbone, parts.tiny_head().to_bytes())

    def backbone() -> Backbone:
        return Backbone(tiny_backbone, manifest.input)

    with FrameStore(tmp_path) as store, FeatureCache(tmp_path) as cache:
        store.add_all(
            [
                NewFrame(jpeg(label, seed=seed), datetime.now(UTC), "import", label, "test", "train")
                for seed in range(4)
                for label in parts.LABELS
            ]
        )
        whole = examples(store, cache, manifest, backbone, split="train", variants=VARIANTS)
        frames = len(whole)
        for rows, variants in ((frames * 6, 6), (frames * 6 - 1, 5), (frames, 1), (3, 1)):
            monkeypatch.setattr("trainer.features.MAX_ROWS", rows)
            fewer = examples(store, cache, manifest, backbone, split="train", variants=VARIANTS)
            np.testing.assert_array_equal(fewer.features, whole.features[:, :variants])
            np.testing.assert_array_equal(fewer.labels, whole.labels)
