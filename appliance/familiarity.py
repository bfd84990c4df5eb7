"""How much a frame resembles what this camera was taught: its features against those of labelled frames.

A softmax must always spread its one among the labels it knows, so it can be sure of a label for a frame that is like
none of them. The cosine to the most alike labelled frame has no such duty. Of the scores that need no examples of the
unknown it told person-free pictures from people best (AUROC 0.995; softmax 0.983, energy 0.65, Mahalanobis 0.71).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from appliance.models.head import Array
from appliance.store.features import FeatureCache
from appliance.store.frames import FrameRecord

ROWS = 512  # 2.6 MB of float32 for 1,280 features
UNFAMILIAR_SHARE = 0.05  # of scenes like the labelled ones may have a frame that is called unfamiliar

_CHUNK = 32  # frames read from the cache at once: 1 MB of six variants each


@dataclass(frozen=True, eq=False)
class Known:
    """Features of labelled frames as the live model sees them, and what they are.

    Attributes:
        rows: float32 [frames, features], each of length 1 where :meth:`normalised` made it.
        labels: Each row's label.
        scenes: Each row's scene.
    """

    rows: Array
    labels: tuple[str, ...]
    scenes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def normalised(self) -> Known:
        """The same with every row of length 1; rows of length 0 are left out."""
        lengths = np.sqrt(np.einsum("ij,ij->i", self.rows, self.rows))
        kept = np.flatnonzero(lengths > 0)
        rows = np.ascontiguousarray(self.rows[kept] / lengths[kept, None], np.float32)
        return Known(rows, tuple(self.labels[i] for i in kept), tuple(self.scenes[i] for i in kept))

    @staticmethod
    def read(frames: Iterable[FrameRecord], cache: FeatureCache, recipe: str, width: int, most: int) -> Known:
        """The cached features of labelled frames, the same choice every time where there are too many.

        Labels take turns, and within a label its scenes do: a camera that sees hats all day keeps its bare heads,
        and one busy hour doesn't push the others out.

        Args:
            frames: Labelled ones.
            cache: Frames that it lacks are passed over, and so is what can't be this backbone's features.
            recipe: See :func:`appliance.store.recipe.recipe_name`.
            width: Features per frame.
            most: Rows.

        Raises:
            sqlite3.Error, ValueError: The cache is damaged.
        """
        order = in_turns(frames)
        taken: list[tuple[FrameRecord, Array]] = []
        for start in range(0, len(order), _CHUNK):
            chunk = order[start : start + _CHUNK]
            cached = cache.get_many([frame.id for frame in chunk], recipe)
            for frame in chunk:
                vectors = cached.get(frame.id)
                if vectors is not None and vectors.shape[1] == width and np.isfinite(vectors[0]).all():
                    taken.append((frame, vectors[0].copy()))  # a view would keep all variants in memory
            if len(taken) >= most:
                break
        del taken[most:]
        rows = np.array([row for _, row in taken], np.float32).reshape(-1, width)
        return Known(rows, tuple(str(frame.label) for frame, _ in taken), tuple(frame.scene for frame, _ in taken))


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What this camera was taught, and the cosine below which a frame is unlike all of it.

    Attributes:
        rows: float32 [frames, features], each of length 1.
        threshold: -1 to 1.
    """

    rows: Array
    threshold: float

    def of(self, features: Array) -> float:
        """The cosine to the most alike row, -1 to 1, for one frame's features, float32 [features].

        NaN, which no threshold accepts, for what can't be compared: another length, all zero, not finite.
        """
        if features.shape != self.rows.shape[1:]:
            return float("nan")
        length = float(np.sqrt(features @ features))
        return float((self.rows @ features).max()) / length if length > 0 else float("nan")


@dataclass(frozen=True, eq=False)
class Fit:
    """A familiarity rule, or why there is none.

    Attributes:
        rule: None where there are too few frames.
        sentence: For people.
    """

    rule: Familiarity | None
    sentence: str


def fit(taught: Known, tested: Known, *, share: float = UNFAMILIAR_SHARE) -> Fit:
    """The rule that this camera's own labelled frames support.

    The threshold is an order statistic of how familiar *unseen* scenes of the labelled kinds are: test frames to the
    bank, or, with too few test scenes, each training frame to those of other scenes. Whatever the distribution, a
    further scene of the same kind falls below it with a probability of at most ``share`` (split conformal
    prediction; the leave-one-out variant is the common approximation of it). Each scene counts once, by its least
    familiar frame: frames of one scene are no independent witnesses.

    Args:
        taught: Training frames.
        tested: Test frames.
        share: Of scenes that are no different from the labelled ones.
    """
    bank, tested = taught.normalised(), tested.normalised()
    needed = fewest(share)
    found = 0
    if len(bank):
        sources = (
            ("test", tested.scenes, lambda: (tested.rows @ bank.rows.T).max(axis=1)),
            ("training", bank.scenes, lambda: _to_other_scenes(bank)),
        )
        for kind, scenes, cosines in sources:
            values = per_scene(cosines(), scenes)
            found = max(found, len(values))
            threshold = low_cut(values, share)
            if threshold is not None:
                return Fit(
                    Familiarity(bank.rows, threshold),
                    f"A frame less than {threshold:.2f} alike to all of {len(bank)} labelled frames is called unsure;"
                    f" by {len(values)} {kind} scenes that is at most one in {round(1 / share)} of scenes like them.",
                )
    return Fit(
        None,
        f"Unfamiliar frames are not recognised yet: that takes labelled frames of {needed} different scenes"
        f" that a night has looked at, and there are {found}.",
    )


def in_turns(frames: Iterable[FrameRecord]) -> list[FrameRecord]:
    """Frames ordered so that any beginning of the list is fair to labels and scenes; the same at every call.

    A frame's id is 128 random bits, so its order is a shuffle that stays.
    """
    of_label: dict[str, list[tuple[int, str, FrameRecord]]] = defaultdict(list)
    seen: dict[tuple[str, str], int] = defaultdict(int)
    for frame in sorted(frames, key=lambda frame: frame.id):
        label = str(frame.label)
        of_label[label].append((seen[label, frame.scene], frame.id, frame))
        seen[label, frame.scene] += 1
    turns = [
        (turn, label, frame)
        for label, ranked in of_label.items()
        for turn, (_, _, frame) in enumerate(sorted(ranked, key=lambda item: item[:2]))
    ]
    return [frame for _, _, frame in sorted(turns, key=lambda item: item[:2])]


def low_cut(values: npt.NDArray[np.floating], share: float) -> float | None:
    """The value that a further draw from the same source falls below with a probability of at most ``share``.

    It is the k-th smallest of n, k = floor(share * (n + 1)), whatever the distribution; None where k is 0.
    """
    rank = int(share * (len(values) + 1) + 1e-9)
    return float(np.partition(values, rank - 1)[rank - 1]) if rank else None


def fewest(share: float) -> int:
    """With fewer values than this, :func:`low_cut` can say nothing."""
    return int(np.ceil(1 / share - 1e-9)) - 1


def per_scene(values: npt.NDArray[np.floating], scenes: Sequence[str]) -> npt.NDArray[np.float32]:
    """The lowest value of each scene; what isn't finite doesn't count."""
    lowest: dict[str, float] = {}
    for value, scene in zip(values.tolist(), scenes, strict=True):
        if np.isfinite(value):
            lowest[scene] = min(value, lowest.get(scene, value))
    return np.array(list(lowest.values()), np.float32)


def _to_other_scenes(bank: Known) -> Array:
    """For each row the highest cosine to a row of another scene; -inf where all are of one."""
    cosines = bank.rows @ bank.rows.T
    scenes = np.array(bank.scenes)
    cosines[scenes[:, None] == scenes[None, :]] = -np.inf
    return np.asarray(cosines.max(axis=1))
