"""Labels that a model contradicts, frames to look through, and a new version's opinion of old frames."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import NotThereError
from appliance.labelling.model import ModelView
from appliance.labelling.rescoring import Rescorer
from appliance.models.head import Array
from appliance.store import review
from appliance.store.frames import FrameStore, NewFrame
from appliance.store.recipe import VARIANTS, recipe_name
from tests.fakes.labelling import NOON, add, model_view, shelf_in
from tests.fakes.parts import FEATURES, LABELS
from tests.fakes.pictures import encoded, scene
from tests.fakes.waiting import wait_until


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FrameStore]:
    with FrameStore(tmp_path / "store") as opened:
        yield opened


def _labelled(store: FrameStore, seed: int, label: str, guess: str, score: float, *, version: int = 1) -> str:
    frame_id = add(store, seed, score=score, guess=guess, version=version)
    store.label(frame_id, label, by="Ada")
    return frame_id


def test_disagreements_come_surest_first_and_only_those(store: FrameStore) -> None:
    mild = _labelled(store, 1, "head", "hardhat", 0.6)
    sure = _labelled(store, 2, "head", "hardhat", 0.99)
    _labelled(store, 3, "head", "head", 0.99)
    add(store, 4, score=0.99)
    _labelled(store, 5, "head", "hardhat", 0.99, version=2)
    assert [frame.id for frame in review.disagreements(store, 1, 10)] == [sure, mild]
    assert [frame.id for frame in review.disagreements(store, 1, 1)] == [sure]
    assert review.count_disagreements(store, 1) == 2
    assert review.count_disagreements(store, 1, surer_than=0.95) == 1


def test_a_label_put_right_leaves_the_review(store: FrameStore) -> None:
    frame_id = _labelled(store, 1, "head", "hardhat", 0.99)
    store.label(frame_id, "hardhat", by="Ada")
    assert review.disagreements(store, 1, 10) == []


def test_pages_go_from_new_to_old_and_miss_none_even_of_one_moment(store: FrameStore) -> None:
    added = store.add_all([NewFrame(encoded(scene(n)), NOON, "import", "head", "Ada") for n in range(7)])
    seen: list[str] = []
    before = None
    while True:
        page = review.page(store, most=3, before=before)
        seen += [frame.id for frame in page.frames]
        if not page.more:
            break
        before = seen[-1]
    assert sorted(seen) == sorted(each.frame.id for each in added)


def test_pages_can_be_narrowed(store: FrameStore) -> None:
    head, hat = _labelled(store, 1, "head", "head", 0.9), _labelled(store, 2, "hardhat", "head", 0.9)
    waiting, unclear = add(store, 3), add(store, 4)
    store.mark_unclear(unclear, by="Ada")
    assert [frame.id for frame in review.page(store, most=9, label="head").frames] == [head]
    assert [frame.id for frame in review.page(store, most=9, state="labelled").frames] == [hat, head]
    assert [frame.id for frame in review.page(store, most=9, state="waiting").frames] == [waiting]
    assert [frame.id for frame in review.page(store, most=9, state="unclear").frames] == [unclear]
    split = store.frame(head).split
    assert head in [frame.id for frame in review.page(store, most=9, split=split).frames]
    with pytest.raises(NotThereError):
        review.page(store, most=9, before="0" * 32)


# A new version's opinion


def _with_features(store: FrameStore, tmp_path: Path, seeds: range, *, variants: int = 1) -> dict[str, Array]:
    """Frames whose features are cached, as the live loop or a night leaves them."""
    recipe = recipe_name(model_view(tmp_path / "other").manifest(1), variants)
    vectors = {
        add(store, seed, score=0.5): np.random.default_rng(seed).random((variants, FEATURES)).astype(np.float32)
        for seed in seeds
    }
    store.features.put_many(recipe, vectors)
    return vectors


@pytest.mark.parametrize("variants", [1, VARIANTS])
def test_after_a_swap_frames_with_features_have_the_new_version_s_word(
    store: FrameStore, tmp_path: Path, variants: int
) -> None:
    vectors = _with_features(store, tmp_path, range(5), variants=variants)
    bare = add(store, 50, score=0.123)
    view = model_view(tmp_path / "camera", 1, 2)
    assert Rescorer(store, view).rescore(2) == 5
    for frame_id, of_frame in vectors.items():
        scores = view.head(2).scores(of_frame[:1])[0]
        frame = store.frame(frame_id)
        assert (frame.version, frame.guess) == (2, LABELS[int(scores.argmax())])
        assert frame.score == pytest.approx(float(scores.max()), abs=1e-6)
    assert (store.frame(bare).version, store.frame(bare).score) == (1, 0.123)


def test_a_frame_that_the_version_has_seen_is_not_asked_about_again(store: FrameStore, tmp_path: Path) -> None:
    _with_features(store, tmp_path, range(3))
    rescorer = Rescorer(store, model_view(tmp_path / "camera", 1, 2))
    assert rescorer.rescore(2) == 3
    assert rescorer.rescore(2) == 0


def test_a_damaged_vector_is_passed_over(store: FrameStore, tmp_path: Path) -> None:
    vectors = _with_features(store, tmp_path, range(2))
    view = model_view(tmp_path / "camera", 1, 2)
    broken = next(iter(vectors))
    store.features.put_many(view.recipe(2), {broken: np.full((1, FEATURES), np.nan, np.float32)})
    assert Rescorer(store, view).rescore(2) == 1
    assert store.frame(broken).version == 1


def test_more_frames_than_fit_into_one_batch_are_all_asked_about(store: FrameStore, tmp_path: Path) -> None:
    recipe = model_view(tmp_path / "other").recipe(1)
    new = [
        NewFrame(encoded(scene(n)), NOON + timedelta(hours=n), "live", features=_vector(n), recipe=recipe)
        for n in range(230)
    ]
    store.add_all(new)
    assert Rescorer(store, model_view(tmp_path / "camera", 1, 2)).rescore(2) == 230


def test_the_thread_waits_for_a_swap_to_end_and_then_asks(store: FrameStore, tmp_path: Path) -> None:
    (frame_id,) = _with_features(store, tmp_path, range(1))
    swapping = [True]
    rescorer = Rescorer(store, model_view(tmp_path / "camera", 1, 2), swapping=lambda: swapping[0], look_s=0.01)
    rescorer.start()
    try:
        assert store.frame(frame_id).version == 1
        swapping[0] = False
        wait_until(lambda: store.frame(frame_id).version == 2)
    finally:
        rescorer.stop()


def test_an_unreadable_version_is_logged_and_the_thread_goes_on(
    store: FrameStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (frame_id,) = _with_features(store, tmp_path, range(1))
    shelf = shelf_in(tmp_path / "camera", 1, 2)
    running = [99]
    rescorer = Rescorer(store, ModelView(shelf, lambda: running[0]), look_s=0.01)
    rescorer.start()
    try:
        wait_until(lambda: "could not be shown to version 99" in caplog.text)
        running[0] = 2
        wait_until(lambda: store.frame(frame_id).version == 2)
    finally:
        rescorer.stop()


def _vector(seed: int) -> Array:
    return np.random.default_rng(seed).random(FEATURES).astype(np.float32)
