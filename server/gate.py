"""May this global model go out? First gate: not worse than what runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from appliance.models.head import Head
from trainer.head import Examples


@dataclass(frozen=True)
class LabelScores:
    """A head on labelled frames.

    Attributes:
        correct: Frames named right, per label.
        frames: Frames there were, per label.
    """

    correct: Mapping[str, int]
    frames: Mapping[str, int]

    @property
    def total(self) -> int:
        """All frames."""
        return sum(self.frames.values())

    @property
    def accuracy(self) -> float:
        """Share named right, 0 to 1; 0 where there were none."""
        return sum(self.correct.values()) / self.total if self.total else 0.0

    @property
    def mean_recall(self) -> float:
        """Mean over labels of the share named right: many hats can't hide a few missed heads."""
        shares = [self.correct[label] / n for label, n in self.frames.items() if n]
        return float(np.mean(shares)) if shares else 0.0

    def text(self) -> str:
        """For people: "head 24/25, hardhat 25/25"."""
        return ", ".join(f"{label} {self.correct[label]}/{n}" for label, n in self.frames.items() if n)


@dataclass(frozen=True)
class GateVerdict:
    """The gate's answer.

    Attributes:
        passed: Whether the model may go out.
        reason: Why, in a sentence.
    """

    passed: bool
    reason: str


def score(head: Head, examples: Examples, labels: tuple[str, ...]) -> LabelScores:
    """Score a head per label, by the very function the live model uses."""
    chosen = head.scores(examples.features[:, 0, :]).argmax(axis=1) if len(examples) else examples.labels
    right = chosen == examples.labels
    return LabelScores(
        correct={label: int(right[examples.labels == index].sum()) for index, label in enumerate(labels)},
        frames={label: int((examples.labels == index).sum()) for index, label in enumerate(labels)},
    )


def judge(before: LabelScores, after: LabelScores, *, own_frames: int, own_before: int, own_after: int) -> GateVerdict:
    """Compare a new global model with the one that runs.

    Args:
        before: The running head on the server's test frames.
        after: The new one.
        own_frames: Test frames that cameras tested on themselves.
        own_before: Of those, named right by the running head.
        own_after: Of those, named right by the new one.

    Returns:
        Passed if it is not worse on the server's frames (over all, and as a mean over labels) nor on the
        cameras' own. Not passed where nobody has a test frame: a model that nobody can judge stays at home.
    """
    if not after.total and not own_frames:
        return GateVerdict(False, "neither the server nor any camera has a labelled test frame, so nobody can tell")
    if after.total and (after.accuracy < before.accuracy or after.mean_recall < before.mean_recall):
        return GateVerdict(
            False,
            f"worse on the server's test frames: {after.text()}, where the running model has {before.text()}",
        )
    if own_after < own_before:
        return GateVerdict(
            False,
            f"worse on the cameras' own test frames: {own_after} of {own_frames} right, was {own_before}",
        )
    where = f"server's frames: {after.text()} (was {before.text()})" if after.total else "server has no frames"
    return GateVerdict(True, f"{where}; cameras' own: {own_after} of {own_frames} right (was {own_before})")
