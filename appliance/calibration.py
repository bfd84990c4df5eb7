"""How sure is sure enough: score thresholds per label, from this camera's own labelled test frames.

The setting ``model.sure_above`` is a floor and always holds. Where there are frames enough to say something, a label
that other scenes reach too easily gets a higher threshold. No temperature is fitted: it would rescale every score of
a model alike, and thresholds per label say the same without a second number to keep.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.decide import Rules
from appliance.errors import SitecamError
from appliance.familiarity import ROWS, Known, fewest, fit, low_cut, per_scene
from appliance.models.head import Array, Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.store.features import FeatureCache
from appliance.store.frames import FrameStore
from appliance.store.recipe import VARIANTS, recipe_name

logger = logging.getLogger(__name__)

WRONG_SHARE = 0.05  # of scenes of other labels may score higher for a label than its threshold
LOST_SHARE = 0.02  # of its own scenes may be lost to a raised threshold; 0.05 cost detections and saved no alarm

_TESTED = 1024  # test frames are enough; 5.2 MB of float32 for 1,280 features


@dataclass(frozen=True)
class Calibration:
    """Score thresholds and what they rest on.

    Attributes:
        thresholds: By label, 0 to 1; never below the floor.
        frames: Test frames that were looked at.
        sentence: For people.
    """

    thresholds: Mapping[str, float]
    frames: int
    sentence: str


def calibrate(
    scores: Array,
    truth: npt.NDArray[np.int64],
    scenes: Sequence[str],
    labels: Sequence[str],
    *,
    floor: float,
) -> Calibration:
    """The thresholds that labelled test frames support.

    A label's threshold is set so that, whatever the distribution, a further scene of another label scores above it
    with a probability of at most WRONG_SHARE (split conformal prediction). It is never raised so far that more than
    LOST_SHARE of its own scenes fall below: a wrongly labelled frame or two must not make a camera blind. Each scene
    counts once, by its worst frame. With fewer than 49 scenes of the label or 19 of others nothing can be said, and
    the floor holds alone.

    Args:
        scores: float32 [frames, labels], the model's for the test frames.
        truth: int64 [frames], index of the right label.
        scenes: Each frame's scene.
        labels: In the order of the scores.
        floor: No threshold is below it.
    """
    thresholds = dict.fromkeys(labels, floor)
    raised: list[str] = []
    held: list[str] = []
    thin: list[str] = []
    for index, label in enumerate(labels):
        own = truth == index
        others = -per_scene(-scores[~own, index], _pick(scenes, ~own))
        wanted = low_cut(-others, WRONG_SHARE)
        spared = low_cut(per_scene(scores[own, index], _pick(scenes, own)), LOST_SHARE)
        if wanted is None or spared is None:
            thin.append(label)
            continue
        # "Above" leaves out the value itself, and the worst scene that shall be kept must stay above.
        highest = max(floor, float(np.nextafter(np.float32(spared), np.float32(0))))
        if -wanted > highest:
            held.append(label)
        thresholds[label] = max(floor, min(-wanted, highest))
        if thresholds[label] > floor:
            raised.append(f"{label} {thresholds[label]:.2f}")
    return Calibration(thresholds, len(truth), _sentence(floor, raised, held, thin))


def _pick(scenes: Sequence[str], chosen: npt.NDArray[np.bool_]) -> list[str]:
    return [scene for scene, wanted in zip(scenes, chosen.tolist(), strict=True) if wanted]


def _sentence(floor: float, raised: Sequence[str], held: Sequence[str], thin: Sequence[str]) -> str:
    sentence = f"A label is said above a score of {floor:.2f}"
    if raised:
        sentence += f" ({_joined(raised)})"
    if held:
        sentence += (
            f"; more than one in {round(1 / WRONG_SHARE)} other scenes may still be called {_joined(held)}, and a"
            " higher threshold would lose what it should find: look for wrong labels among the test frames"
        )
    if thin:
        sentence += (
            f"; more is not asked of {_joined(thin)} before {fewest(LOST_SHARE)} test scenes of the label and"
            f" {fewest(WRONG_SHARE)} of others are known"
        )
    return sentence + "."


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def fitted_rules(
    store: FrameStore, cache: FeatureCache, manifest: Manifest, head: Head, *, sure_above: float, familiar: bool
) -> Rules:
    """The rules of a version that the store's labelled frames support.

    Only frames whose features a night has cached count: nothing is computed here. Memory: under 15 MB for a while.

    Args:
        store: This camera's frames.
        cache: Their features.
        manifest: The version.
        head: Its head.
        sure_above: The floor, 0 to 1.
        familiar: Whether unfamiliar frames shall be called unsure.

    Raises:
        SitecamError, sqlite3.Error, OSError, ValueError: Store or cache is damaged.
    """
    known = {
        split: Known.read(
            (frame for frame in store.frames(split=split) if frame.label in manifest.labels),
            cache,
            recipe_name(manifest, variants),
            manifest.feature_count,
            most,
        )
        for split, variants, most in (("train", VARIANTS, ROWS), ("test", 1, _TESTED))
    }
    return rules_from(known["train"], known["test"], head, manifest.labels, sure_above=sure_above, familiar=familiar)


def rules_from(
    taught: Known, tested: Known, head: Head, labels: Sequence[str], *, sure_above: float, familiar: bool
) -> Rules:
    """The rules that features of labelled frames support.

    Args:
        taught: Training frames.
        tested: Test frames.
        head: The version's.
        labels: Its labels, in the order of the head's outputs.
        sure_above: The floor, 0 to 1.
        familiar: Whether unfamiliar frames shall be called unsure.

    Raises:
        ValueError: Head, labels and features don't belong together.
    """
    if head.label_count != len(labels):
        raise ValueError(f"the head has {head.label_count} outputs for {len(labels)} labels")
    truth = np.array([labels.index(label) for label in tested.labels], np.int64)
    calibration = calibrate(head.scores(tested.rows), truth, tested.scenes, labels, floor=sure_above)
    if not familiar:
        return Rules(sure_above, calibration.thresholds, None, (calibration.sentence,))
    likeness = fit(taught, tested)
    return Rules(sure_above, calibration.thresholds, likeness.rule, (calibration.sentence, likeness.sentence))


def rules_for(root: Path, shelf: Shelf, version: int, *, sure_above: float, familiar: bool) -> Rules:
    """The rules of a version on this camera; never fails.

    Takes up to a second or two with thousands of frames: call it from a thread of its own, at the start, after a
    swap, after a night and when labels have changed. Whatever is wrong with the store leads to the plain floor, with
    a sentence that says so.

    Args:
        root: The frame store's folder.
        shelf: Holds the version.
        version: Which.
        sure_above: The floor, 0 to 1.
        familiar: Whether unfamiliar frames shall be called unsure.
    """
    try:
        manifest = shelf.manifest(version)
        if manifest.foreign:
            sentence = f"A label is said above a score of {sure_above:.2f} and nothing more is asked: this version came"
            sentence += " as a whole .eim, which tells nothing about how familiar a frame is."
            return Rules(sure_above, sentences=(sentence,))
        head = Head.from_bytes(shelf.part(manifest.parts["head"]))
        with FrameStore(root) as store, FeatureCache(root) as cache:
            return fitted_rules(store, cache, manifest, head, sure_above=sure_above, familiar=familiar)
    except (SitecamError, sqlite3.Error, OSError, ValueError) as error:
        logger.error("No rules could be fitted for version %d: %s", version, error)
        sentence = f"A label is said above a score of {sure_above:.2f} and nothing more is asked,"
        sentence += f" because this camera's labelled frames could not be read ({error})"
        return Rules(sure_above, sentences=(sentence,))
