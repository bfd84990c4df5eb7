"""What a cross-validation's scores are worth: intervals, calibration, and ways to deal frames out unfairly."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from appliance.models.head import Array
from tests.benchmarks.precision import Indices
from tests.benchmarks.splits import Pictures

_Z = 1.959964  # 95 %, both sides
_TEMPERATURES = np.geomspace(0.25, 4, 81)


def wilson(right: float, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (E. B. Wilson, JASA 22, 1927); ``right`` may be a mean over seeds."""
    share = right / of
    middle = share + _Z**2 / (2 * of)
    half = _Z * math.sqrt(share * (1 - share) / of + _Z**2 / (4 * of**2))
    below = 1 + _Z**2 / of
    return (middle - half) / below, (middle + half) / below


def calibration_error(scores: Array, truth: Indices, bins: int = 10) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015): how far confidence and share of right answers are apart.

    Args:
        scores: float32 [frames, labels], each row adds up to 1.
        truth: intp [frames].
        bins: Of confidence, equally wide.
    """
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    return float(
        sum(
            (place == one).mean() * abs(right[place == one].mean() - confidence[place == one].mean())
            for one in np.unique(place)
        )
    )


def tempered(scores: Array, truth: Indices, group: Indices) -> Array:
    """Scores with a temperature (Guo et al., ICML 2017), each half's fitted on the other; scenes stay together."""
    half = group % 2 == 0
    found = np.empty_like(scores)
    for here, there in ((half, ~half), (~half, half)):
        losses = [_loss(_at(scores[there], one), truth[there]) for one in _TEMPERATURES]
        found[here] = _at(scores[here], float(_TEMPERATURES[int(np.argmin(losses))]))
    return found


def _at(scores: Array, temperature: float) -> Array:
    logits = np.log(np.maximum(scores, 1e-12)) / temperature
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def _loss(scores: Array, truth: Indices) -> float:
    return float(-np.log(np.maximum(scores[np.arange(len(truth)), truth], 1e-12)).mean())


def skewed(cameras: int, share: float = 0.9) -> Callable[[Pictures, np.random.Generator], Indices]:
    """Each label's scenes go to its own half of the cameras with this share, and else to the others."""

    def split(pictures: Pictures, generator: np.random.Generator) -> Indices:
        material = pictures.material
        camera = np.zeros(len(material.truth), np.intp)
        halves = np.array_split(np.arange(cameras), len(material.labels))
        for label in range(len(material.labels)):
            others = np.concatenate([half for number, half in enumerate(halves) if number != label])
            for scene in np.unique(material.group[material.truth == label]):
                place = halves[label] if generator.random() < share else others
                camera[material.group == scene] = generator.choice(place)
        return camera

    return split


def some_of(
    rows: Indices, truth: Indices, group: Indices, each: int, generator: np.random.Generator
) -> npt.NDArray[np.intp]:
    """So many rows of every label, scene by scene, so that few scenes are touched."""
    chosen: list[int] = []
    for label in np.unique(truth[rows]):
        of_label = rows[truth[rows] == label]
        found: list[int] = []
        for scene in generator.permutation(np.unique(group[of_label])):
            found += generator.permutation(of_label[group[of_label] == scene]).tolist()
            if len(found) >= each:
                break
        chosen += found[:each]
    return np.array(chosen, np.intp)
