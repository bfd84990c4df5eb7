"""The head's training, through the real training graph on the LiteRT runtime that is installed here."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest

from appliance import litert
from appliance.errors import NightError, NoLabelsError, PartError
from appliance.models.head import Array, Head
from tests.fakes.parts import FEATURES
from tests.fakes.site import tiny_trainer
from trainer import head as head_module
from trainer.head import Examples, Recipe, Score, evaluate, named_right, train

pytestmark = pytest.mark.litert

BATCH = 32  # rows that the graph takes at once
HIDDEN = [0, 8]


def clusters(*counts: int, variants: int = 1, seed: int = 0) -> Examples:
    """Examples that a linear head can tell apart: each label lies around a point of its own."""
    generator = np.random.default_rng(seed)
    centres = np.eye(len(counts), FEATURES, dtype=np.float32) * 3
    labels = np.repeat(np.arange(len(counts)), counts)
    noise = generator.normal(0, 0.3, (len(labels), variants, FEATURES))
    return Examples((centres[labels][:, np.newaxis] + noise).astype(np.float32), labels)


def start(hidden: int, labels: int = 3) -> Head:
    return Head.untrained(FEATURES, labels, hidden, seed=1)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_it_learns_what_can_be_learned(hidden: int) -> None:
    head = start(hidden)
    trained, loss = train(tiny_trainer(3, hidden), head, clusters(20, 20, 20), Recipe(epochs=40, rate=0.05))
    unseen = clusters(30, 30, 30, seed=5)
    assert evaluate(head, unseen).accuracy < 0.9
    assert evaluate(trained, unseen).accuracy == 1
    assert loss < 0.3
    assert (trained.hidden_units, trained.label_count) == (hidden, 3)


def test_the_head_that_training_starts_from_is_left_as_it_is() -> None:
    head = start(0)
    before = head.to_bytes()
    train(tiny_trainer(3, 0), head, clusters(5, 5, 5), Recipe(epochs=2, rate=0.1))
    assert head.to_bytes() == before


def test_the_same_recipe_gives_the_same_head_and_another_seed_another_order() -> None:
    known = clusters(20, 20, 20)

    def trained(seed: int) -> bytes:
        return train(tiny_trainer(3, 0), start(0), known, Recipe(epochs=2, rate=0.1, seed=seed))[0].to_bytes()

    assert trained(1) == trained(1)
    assert trained(1) != trained(2)


def test_a_second_training_starts_afresh_and_not_where_the_first_one_ended() -> None:
    recipe, known = Recipe(epochs=3, rate=0.1), clusters(10, 10, 10)
    first, _ = train(tiny_trainer(3, 0), start(0), known, recipe)
    longer, _ = train(tiny_trainer(3, 0), first, known, recipe)
    again, _ = train(tiny_trainer(3, 0), start(0), known, recipe)
    assert again.to_bytes() == first.to_bytes() != longer.to_bytes()


def test_a_label_with_few_frames_weighs_as_much_as_one_with_many() -> None:
    features = np.ones((64, 1, FEATURES), np.float32)  # all alike: only the labels' weights are left to learn
    labels = np.array([0] * 56 + [1] * 8)
    trained, _ = train(
        tiny_trainer(2, 0), start(0, labels=2), Examples(features, labels), Recipe(epochs=150, rate=0.05)
    )
    (scores,) = trained.scores(features[:1, 0])
    assert scores[1] == pytest.approx(0.5, abs=0.1)  # 0.125 where every frame weighs the same


def test_smoothing_keeps_the_head_from_being_too_sure() -> None:
    known = clusters(20, 20, 20)
    sure, _ = train(tiny_trainer(3, 0), start(0), known, Recipe(epochs=60, rate=0.1))
    modest, _ = train(tiny_trainer(3, 0), start(0), known, Recipe(epochs=60, rate=0.1, smoothing=0.3))
    assert modest.scores(known.features[:, 0]).max() < 0.95 < sure.scores(known.features[:, 0]).max()


def test_every_variant_of_a_frame_is_learned_from() -> None:
    known = clusters(6, 6, variants=3)
    known.features[:, 0] = 0  # the frames as they are say nothing; their variants do
    trained, _ = train(tiny_trainer(2, 0), start(0, labels=2), known, Recipe(epochs=40, rate=0.05))
    assert evaluate(trained, clusters(20, 20, seed=9)).accuracy == 1


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize(("frames", "proximal"), [(BATCH, 0.0), (7, 0.0), (70, 0.0), (70, 0.5)])
def test_training_is_adam_on_balanced_cross_entropy_to_the_last_digits(
    hidden: int, frames: int, proximal: float
) -> None:
    known = clusters(frames // 2, frames // 4, frames - frames // 2 - frames // 4)
    recipe = Recipe(epochs=2, rate=0.03, smoothing=0.1, seed=4, proximal=proximal)
    trained, loss = train(tiny_trainer(3, hidden), start(hidden), known, recipe)
    expected, expected_loss = _adam(start(hidden), known, recipe)
    for ours, theirs in zip(trained.arrays, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert loss == pytest.approx(expected_loss, abs=1e-5)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_rows_that_pad_a_batch_change_nothing(hidden: int) -> None:
    known, generator = clusters(3, 3, 3), np.random.default_rng(0)
    results = []
    for rubbish in (0.0, 1e4):
        interpreter = litert.load(tiny_trainer(3, hidden))
        load, step, save = (interpreter.get_signature_runner(name) for name in ("load", "step", "save"))
        load(**{f"array_{i}": array for i, array in enumerate(start(hidden).arrays)})
        features = (generator.normal(size=(BATCH, FEATURES)) * rubbish).astype(np.float32)
        features[:9] = known.features[:, 0]
        targets = np.full((BATCH, 3), 1 / 3, np.float32)
        targets[:9] = np.eye(3, dtype=np.float32)[known.labels]
        weights = np.array([1.0] * 9 + [0.0] * (BATCH - 9), np.float32)
        numbers = {"rate": np.float32(0.1), "proximal": np.float32(0)}
        loss = float(step(features=features, targets=targets, weights=weights, **numbers)["loss"])
        results.append([np.float32(loss), *(save()[f"array_{i}"].copy() for i in range(len(start(hidden).arrays)))])
    for clean, padded in zip(*results, strict=True):
        np.testing.assert_array_equal(clean, padded)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_the_more_proximal_the_nearer_a_head_stays_to_where_it_started(hidden: int) -> None:
    known, head = clusters(20, 20, 20), start(hidden)

    def moved(proximal: float) -> float:
        recipe = Recipe(epochs=60, rate=0.05, proximal=proximal)
        trained, _ = train(tiny_trainer(3, hidden), head, known, recipe)
        return math.sqrt(sum(float(np.square(a - b).sum()) for a, b in zip(trained.arrays, head.arrays, strict=True)))

    free, held, tight = moved(0.0), moved(0.3), moved(100.0)
    assert free > 2 * held > 10 * tight > 0


def test_the_loss_that_is_told_is_the_cross_entropy_without_the_proximal_term() -> None:
    known, pulled = clusters(10, 10, 10), Recipe(epochs=1, rate=1e-6, proximal=1000.0)
    _, loss = train(tiny_trainer(3, 0), start(0), known, pulled)
    assert loss == pytest.approx(evaluate(start(0), known).loss, abs=1e-3)


class OlderStep:
    """The step of a graph that was made before there was a proximal term."""

    def __init__(self, step: litert.Signature) -> None:
        self._step = step

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        assert "proximal" not in inputs
        return self._step(**inputs, proximal=np.float32(0))

    def get_input_details(self) -> dict[str, Any]:
        return {name: value for name, value in self._step.get_input_details().items() if name != "proximal"}


@pytest.fixture
def older_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = head_module._signatures

    def older(graph: bytes) -> tuple[litert.Signature, litert.Signature, litert.Signature]:
        load, step, save = ours(graph)
        return load, OlderStep(step), save

    monkeypatch.setattr(head_module, "_signatures", older)


@pytest.mark.usefixtures("older_graph")
def test_a_graph_from_before_fedprox_trains_without_a_proximal_term_and_refuses_one() -> None:
    known, recipe = clusters(5, 5, 5), Recipe(epochs=2, rate=0.1)
    older, _ = train(tiny_trainer(3, 0), start(0), known, recipe)
    assert older.to_bytes() != start(0).to_bytes()
    with pytest.raises(NightError, match="before there was FedProx"):
        train(tiny_trainer(3, 0), start(0), known, dataclasses.replace(recipe, proximal=0.01))


@pytest.mark.parametrize("frames", [33, 65, 31, 100])
def test_no_frame_weighs_more_because_its_batch_is_short(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    ours = head_module._signatures

    def counted(graph: bytes) -> tuple[Any, Any, Any]:
        load, step, save = ours(graph)

        class Counted(OlderStep):
            def __call__(self, **inputs: Any) -> dict[str, Any]:
                sizes.append(int((inputs["weights"] > 0).sum()))
                return self._step(**inputs)

            def get_input_details(self) -> dict[str, Any]:
                return self._step.get_input_details()

        return load, Counted(step), save

    monkeypatch.setattr(head_module, "_signatures", counted)
    train(tiny_trainer(2, 0), start(0, labels=2), clusters(frames - 10, 10), Recipe(epochs=1, rate=0.1))
    assert sum(sizes) == frames
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == -(-frames // BATCH)


def test_without_examples_there_is_nothing_to_learn() -> None:
    nobody = Examples(np.zeros((0, 1, FEATURES), np.float32), np.zeros(0, np.int64))
    with pytest.raises(NoLabelsError, match="Label some frames"):
        train(tiny_trainer(3, 0), start(0), nobody, Recipe(epochs=1, rate=0.1))


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(PartError, match="can't be used"):
        train(b"rubbish" * 100, start(0), clusters(2, 2, 2), Recipe(epochs=1, rate=0.1))


def test_a_graph_that_does_not_train_is_refused(tiny_backbone: bytes) -> None:
    with pytest.raises(PartError, match="can't be used"):
        train(tiny_backbone, start(0), clusters(2, 2, 2), Recipe(epochs=1, rate=0.1))


@pytest.mark.parametrize(("labels", "hidden"), [(2, 0), (3, 8)])
def test_a_graph_for_another_shape_of_head_is_refused(labels: int, hidden: int) -> None:
    with pytest.raises(PartError, match="another shape"):
        train(tiny_trainer(labels, hidden), start(0), clusters(2, 2, 2), Recipe(epochs=1, rate=0.1))


def test_a_linear_graph_does_not_train_half_of_a_larger_head() -> None:
    with pytest.raises(PartError, match="another shape"):
        train(tiny_trainer(3, 0), start(8), clusters(2, 2, 2), Recipe(epochs=1, rate=0.1))


def test_a_graph_for_other_features_is_refused() -> None:
    wide = Examples(np.zeros((4, 1, FEATURES + 1), np.float32), np.array([0, 1, 2, 0]))
    with pytest.raises(PartError, match="another shape"):
        train(tiny_trainer(3, 0), Head.untrained(FEATURES + 1, 3, 0, seed=1), wide, Recipe(epochs=1, rate=0.1))


@pytest.mark.parametrize("hidden", HIDDEN)
def test_a_score_is_what_the_live_head_says_of_the_frames_as_they_are(hidden: int) -> None:
    head, known = start(hidden), clusters(7, 5, 3, variants=4)
    scores = head.scores(known.features[:, 0, :])
    score = evaluate(head, known)
    assert score.frames == 15
    assert score.correct == int((scores.argmax(axis=1) == known.labels).sum())
    assert score.accuracy == score.correct / 15
    assert score.loss == pytest.approx(-np.log(scores[np.arange(15), known.labels]).mean(), abs=1e-6)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_which_frames_are_named_right_adds_up_to_the_score(hidden: int) -> None:
    head, known = start(hidden), clusters(7, 5, 3, variants=4)
    right = named_right(head, known)
    assert right.shape == (15,)
    assert int(right.sum()) == evaluate(head, known).correct


def test_the_score_of_nothing_is_nothing() -> None:
    nobody = Examples(np.zeros((0, 1, FEATURES), np.float32), np.zeros(0, np.int64))
    assert named_right(start(0), nobody).shape == (0,)
    assert evaluate(start(0), nobody) == Score(0, 0, 0.0)
    assert Score(0, 0, 0.0).accuracy == 0


def _adam(head: Head, examples: Examples, recipe: Recipe) -> tuple[list[Array], float]:
    """The same training in float64 NumPy, from Adam's paper: no padding, no graph."""
    frames, variants, width = examples.features.shape
    features = examples.features.reshape(frames * variants, width).astype(np.float64)
    labels = np.repeat(examples.labels, variants)
    count = head.label_count
    targets = np.eye(count)[labels] * (1 - recipe.smoothing) + recipe.smoothing / count
    weights = 1 / np.bincount(labels, minlength=count)[labels]
    values: list[Any] = [array.astype(np.float64) for array in head.arrays]
    first, second = ([np.zeros_like(value) for value in values] for _ in range(2))
    generator = np.random.default_rng(recipe.seed)
    batches = -(-len(features) // BATCH)
    times = itertools.count(1)
    losses: list[float] = []
    for _ in range(recipe.epochs):
        order = generator.permutation(len(features))
        losses = []
        for number in range(batches):
            size, larger = divmod(len(order), batches)  # the first few batches have one row more
            first_row = number * size + min(number, larger)
            rows = order[first_row : first_row + size + (number < larger)]
            loss, gradients = _gradients(values, features[rows], targets[rows], weights[rows])
            gradients = [g + recipe.proximal * (v - s) for g, v, s in zip(gradients, values, head.arrays, strict=True)]
            losses.append(loss)
            time = next(times)
            rate = recipe.rate * (1 + np.cos(np.pi * (time - 1) / (batches * recipe.epochs))) / 2
            for index, gradient in enumerate(gradients):
                first[index] = 0.9 * first[index] + 0.1 * gradient
                second[index] = 0.999 * second[index] + 0.001 * gradient**2
                mean, spread = first[index] / (1 - 0.9**time), second[index] / (1 - 0.999**time)
                values[index] = values[index] - rate * mean / (np.sqrt(spread) + 1e-7)
    return [value.astype(np.float32) for value in values], float(np.mean(losses))


def _gradients(values: list[Any], features: Any, targets: Any, weights: Any) -> tuple[float, list[Any]]:
    share = (weights / weights.sum())[:, np.newaxis]
    hidden = np.maximum(features @ values[0] + values[1], 0) if len(values) == 4 else features
    logits = hidden @ values[-2] + values[-1]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = powers / powers.sum(axis=1, keepdims=True)
    loss = float(-(share * targets * np.log(scores)).sum())
    error = (scores - targets) * share
    gradients = [hidden.T @ error, error.sum(axis=0)]
    if len(values) == 4:
        below = (error @ values[2].T) * (hidden > 0)
        gradients = [features.T @ below, below.sum(axis=0), *gradients]
    return loss, gradients
