"""Trains and scores the head on cached features: the fleet's training graph, run by LiteRT."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance import litert
from appliance.errors import NightError, NoLabelsError, PartError
from appliance.models.head import Array, Head


@dataclass(frozen=True)
class Recipe:
    """How a head is trained.

    Attributes:
        epochs: Passes over all examples.
        rate: Adam's step at the start; it falls to zero along a half cosine.
        smoothing: Share of the target that is spread over all labels: 0 is one-hot.
        seed: Of the order of the examples.
        proximal: FedProx's mu: how strongly the head is held to where it started; 0 not at all.
    """

    epochs: int
    rate: float
    smoothing: float = 0.0
    seed: int = 0
    proximal: float = 0.0


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled features.

    Attributes:
        features: float32 [frames, variants, features]; variant 0 is the frame as it is.
        labels: int64 [frames], index into the manifest's labels.
    """

    features: Array
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.labels.shape[0])


@dataclass(frozen=True)
class Score:
    """How a head does on examples.

    Attributes:
        frames: How many there were.
        correct: How many it named right.
        loss: Mean cross-entropy, nats.
    """

    frames: int
    correct: int
    loss: float

    @property
    def accuracy(self) -> float:
        """Share of frames named right, 0 to 1; 0 where there were none."""
        return self.correct / self.frames if self.frames else 0.0


def train(graph: bytes, head: Head, examples: Examples, recipe: Recipe) -> tuple[Head, float]:
    """Train a head, starting from ``head``.

    Every label weighs the same however many frames it has: a camera that sees hats all day must not forget
    bare heads.

    Args:
        graph: The fleet's ``trainer`` part, see :func:`trainer.graphs.trainer_graph`.
        head: Where to start; left as it is.
        examples: At least one frame.
        recipe: How.

    Returns:
        The trained head and the mean loss of the last epoch.

    Raises:
        NoLabelsError: There are no examples.
        PartError: The graph is not a training graph, or not for a head of this shape.
        NightError: The recipe has a proximal term, and the graph was made before there was one.
    """
    if not len(examples):
        raise NoLabelsError("No labelled frames to learn from", means="This camera can't train", do="Label some frames")
    load, step, save = _signatures(graph)
    if len(load.get_input_details()) != len(head.arrays):
        raise PartError("The training graph is for another shape of head", do="Fetch the model again")
    batch = int(step.get_input_details()["weights"]["shape"][0])
    features, targets, weights = _flatten(examples, head.label_count, recipe.smoothing)
    expected = [tuple(int(n) for n in step.get_input_details()["features"]["shape"][1:]), head.label_count]
    if expected != [(features.shape[1],), int(step.get_input_details()["targets"]["shape"][1])]:
        raise PartError("The training graph is for another shape of head", do="Fetch the model again")
    extra = _proximal(step, recipe)
    load(**{f"array_{index}": array for index, array in enumerate(head.arrays)})
    generator = np.random.default_rng(recipe.seed)
    steps_per_epoch = -(-len(features) // batch)
    total = steps_per_epoch * recipe.epochs
    losses: list[float] = []
    for epoch in range(recipe.epochs):
        order = generator.permutation(len(features))
        losses.clear()
        # As even as can be: a short last batch of one frame would move the head as much as a full one of 32.
        for number, chosen in enumerate(np.array_split(order, steps_per_epoch)):
            padding = np.zeros(batch - len(chosen), np.int64)
            rows = np.concatenate([chosen, padding])
            batch_weights = np.concatenate([weights[chosen], np.zeros(len(padding), np.float32)])
            progress = (epoch * steps_per_epoch + number) / total
            rate = np.float32(recipe.rate * 0.5 * (1 + np.cos(np.pi * progress)))
            reply = step(features=features[rows], targets=targets[rows], weights=batch_weights, rate=rate, **extra)
            losses.append(float(reply["loss"]))
    arrays = save()
    trained = Head.from_arrays([np.array(arrays[f"array_{index}"]) for index in range(len(head.arrays))])
    return trained, float(np.mean(losses))


def evaluate(head: Head, examples: Examples) -> Score:
    """Score a head on the frames as they are (variant 0), by the very function the live model uses."""
    if not len(examples):
        return Score(0, 0, 0.0)
    scores = head.scores(examples.features[:, 0, :])
    correct = int((scores.argmax(axis=1) == examples.labels).sum())
    likelihood = scores[np.arange(len(examples)), examples.labels]
    return Score(len(examples), correct, float(-np.log(np.maximum(likelihood, 1e-12)).mean()))


def named_right(head: Head, examples: Examples) -> npt.NDArray[np.bool_]:
    """Which frames, as they are, a head names right: bool [frames]."""
    if not len(examples):
        return np.zeros(0, np.bool_)
    right: npt.NDArray[np.bool_] = head.scores(examples.features[:, 0, :]).argmax(axis=1) == examples.labels
    return right


def _proximal(step: litert.Signature, recipe: Recipe) -> dict[str, np.float32]:
    """What the step wants to know of the proximal term."""
    if "proximal" in step.get_input_details():
        return {"proximal": np.float32(recipe.proximal)}
    if recipe.proximal:
        raise NightError(
            "This fleet's training graph was made before there was FedProx",
            means="It can't train with a proximal term",
            do='Set night.strategy to "fedavg" on the server',
        )
    return {}


def _signatures(graph: bytes) -> tuple[litert.Signature, litert.Signature, litert.Signature]:
    try:
        interpreter = litert.load(graph)
        load, step, save = (interpreter.get_signature_runner(name) for name in ("load", "step", "save"))
    except (ValueError, RuntimeError) as error:
        raise PartError(f"The training graph can't be used ({error})", do="Fetch the model again") from error
    return load, step, save


def _flatten(examples: Examples, label_count: int, smoothing: float) -> tuple[Array, Array, npt.NDArray[np.float32]]:
    """One row per variant of a frame: features, soft targets, weights that even the labels out."""
    frames, variants, width = examples.features.shape
    labels = np.repeat(examples.labels, variants)
    targets = np.full((len(labels), label_count), smoothing / label_count, np.float32)
    targets[np.arange(len(labels)), labels] += 1 - smoothing
    counts = np.bincount(labels, minlength=label_count)
    weights = (len(labels) / np.count_nonzero(counts) / np.maximum(counts, 1))[labels]
    return examples.features.reshape(frames * variants, width), targets, weights.astype(np.float32)
