"""Who has which pictures: even and skewed ways to deal them out to cameras, scene by scene."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.models.head import Array
from tests.benchmarks.precision import Indices, Material

_EVEN, _MANY = 5, 10
_SKEW = 0.5  # Dirichlet's alpha: most cameras have few frames of one of the labels


@dataclass(frozen=True, eq=False)
class Pictures:
    """What is learned from.

    Attributes:
        material: Labels, truth, scenes.
        features: float32 [frames, variants, features].
        hard: bool [frames]: pictures of one source, told by their size, in which every label occurs. Pictures of
            one camera; on the tutorial's data one person in few rooms, with and without a hat.
    """

    material: Material
    features: Array
    hard: npt.NDArray[np.bool_]


Split = Callable[[Pictures, np.random.Generator], Indices]


def even(cameras: int) -> Split:
    """Scenes dealt out evenly, whatever they show."""

    def split(pictures: Pictures, generator: np.random.Generator) -> Indices:
        group = pictures.material.group
        names = np.unique(group)
        dealt = dict(zip(generator.permutation(names).tolist(), itertools.cycle(range(cameras)), strict=False))
        return np.array([dealt[int(scene)] for scene in group], np.intp)

    return split


def by_source(pictures: Pictures, _: np.random.Generator) -> Indices:
    """Two cameras: the hard part, and all other pictures."""
    return pictures.hard.astype(np.intp)


def by_label(pictures: Pictures, _: np.random.Generator) -> Indices:
    """One camera for each label. (The product's cameras don't train with one label; this is what it would cost.)"""
    return pictures.material.truth


def dirichlet(cameras: int) -> Split:
    """Each label's scenes go to cameras in shares drawn from a Dirichlet distribution (Hsu et al., 1909.06335)."""

    def split(pictures: Pictures, generator: np.random.Generator) -> Indices:
        material = pictures.material
        camera = np.zeros(len(material.truth), np.intp)
        for label in range(len(material.labels)):
            shares = generator.dirichlet([_SKEW] * cameras)
            for scene in np.unique(material.group[material.truth == label]):
                camera[material.group == scene] = generator.choice(cameras, p=shares)
        return camera

    return split


SPLITS: Mapping[str, Split] = {
    f"even, {_EVEN} cameras": even(_EVEN),
    "one source per camera": by_source,
    "one label per camera": by_label,
    f"Dirichlet {_SKEW}, {_MANY} cameras": dirichlet(_MANY),
}
