"""May this global model go out? Per label, on labelled test frames, with how sure one can be.

The new head and the running one answer the same frames. Three questions, each by an exact test, see
:mod:`appliance.judge`: is it worse over all of the server's frames, for one of the labels, or on the cameras' own
frames? "Cannot tell" is an answer: 27 frames without a single loss still leave room for a loss of a tenth.

What cameras say of their own frames is counted so that no camera alone can keep a good model in or let a bad one out:
the model stays at home if half of them find it worse; one that is outvoted is left out here (it judges again for itself
before it swaps, and keeps its old model), and none weighs more than twice the median.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from appliance.judge import CONFIDENCE, Tally, tail, upper_bound
from appliance.models.head import Head
from trainer.head import Examples

Outcome = Literal["better", "not worse", "cannot tell", "worse"]


@dataclass(frozen=True)
class LabelScores:
    """A head on labelled frames.

    Attributes:
        labels: The fleet's.
        truth: Index of every frame's label.
        chosen: Index of the label that the head gave it.
        loss: Mean cross-entropy, nats; 0 where there are no frames.
    """

    labels: tuple[str, ...]
    truth: tuple[int, ...]
    chosen: tuple[int, ...]
    loss: float

    @property
    def total(self) -> int:
        """All frames."""
        return len(self.truth)

    @property
    def correct(self) -> int:
        """Frames named right."""
        return sum(a == b for a, b in zip(self.truth, self.chosen, strict=True))

    @property
    def accuracy(self) -> float:
        """Share named right, 0 to 1; 0 where there were none."""
        return self.correct / self.total if self.total else 0.0

    def of_label(self, index: int) -> tuple[int, int]:
        """(named right, frames) of one label."""
        chosen = [b for a, b in zip(self.truth, self.chosen, strict=True) if a == index]
        return sum(b == index for b in chosen), len(chosen)

    def text(self) -> str:
        """For people: "head 24/25, hardhat 25/25"."""
        counts = [(label, *self.of_label(index)) for index, label in enumerate(self.labels)]
        return ", ".join(f"{label} {right}/{frames}" for label, right, frames in counts if frames)


@dataclass(frozen=True)
class LabelResult:
    """One label at the gate.

    Attributes:
        label: Its name.
        frames: The server's test frames of it.
        before: Named right by the running head.
        after: Named right by the new one.
        low: Lower end of the 95 % interval of the new one's recall (Clopper and Pearson, 1934), 0 to 1.
        high: Its upper end.
    """

    label: str
    frames: int
    before: int
    after: int
    low: float
    high: float

    def text(self) -> str:
        """For people: "head 24 of 25 (80 to 100 %)"."""
        return f"{self.label} {self.after} of {self.frames} ({100 * self.low:.0f} to {100 * self.high:.0f} %)"


@dataclass(frozen=True)
class GateVerdict:
    """The gate's answer.

    Attributes:
        passed: Whether the model may go out.
        outcome: In a word.
        reason: Why, in a sentence.
        labels: Per label that has test frames.
    """

    passed: bool
    outcome: Outcome
    reason: str
    labels: tuple[LabelResult, ...] = ()

    def figures(self) -> dict[str, Any]:
        """For the registry."""
        return {
            "passed": self.passed,
            "outcome": self.outcome,
            "reason": self.reason,
            "labels": [asdict(label) for label in self.labels],
        }


def score(head: Head, examples: Examples, labels: tuple[str, ...]) -> LabelScores:
    """Score a head by the very function the live model uses."""
    if not len(examples):
        return LabelScores(labels, (), (), 0.0)
    scores = head.scores(examples.features[:, 0, :])
    likelihood = scores[np.arange(len(examples)), examples.labels]
    loss = float(-np.log(np.maximum(likelihood, 1e-12)).mean())
    return LabelScores(labels, tuple(examples.labels.tolist()), tuple(scores.argmax(axis=1).tolist()), loss)


def judge(before: LabelScores, after: LabelScores, own: Sequence[Tally], *, margin: float) -> GateVerdict:
    """Compare a new global model with the one that runs.

    Args:
        before: The running head on the server's test frames.
        after: The new one, on the same frames.
        own: How both do on the test frames of each camera that has some.
        margin: Share of frames that may get worse unseen, 0 to 1.

    Returns:
        Not passed if it is significantly worse anywhere; if it can't be told and fewer frames are named right than
        before; or if nobody has a test frame: a model that nobody can judge stays at home.
    """
    labels = tuple(
        _result(label, *before.of_label(index), after.of_label(index)[0])
        for index, label in enumerate(after.labels)
        if after.of_label(index)[1]
    )
    own = _weighed([tally for tally in own if tally.frames])
    against = [tally for tally in own if _chance(tally) < 1 - CONFIDENCE]
    outvoted = len(against) * 2 < len(own)
    pooled = _sum([tally for tally in own if not outvoted or tally not in against])
    if not after.total and not pooled.frames:
        nobody = "neither the server nor any camera has a labelled test frame, so nobody can tell"
        return GateVerdict(False, "cannot tell", nobody)
    whole = _tally(before, after)
    parts = {"the server's test frames": whole, "the cameras' own test frames": pooled}
    for index, label in enumerate(after.labels):
        parts[f"the server's test frames of {label}"] = _tally(before, after, index)
    parts = {where: tally for where, tally in parts.items() if tally.frames}
    counts = "; ".join(
        part
        for part in (
            f"server: {', '.join(result.text() for result in labels)}, before {before.text()}" if labels else "",
            f"cameras' own: {pooled.after} of {pooled.frames}, before {pooled.before}" if pooled.frames else "",
        )
        if part
    )
    if against and not outvoted:
        where = f"the own test frames of {len(against)} of {len(own)} cameras"
        each = ", ".join(f"{tally.after} of {tally.frames} right, {tally.before} before" for tally in against[:3])
        return GateVerdict(False, "worse", f"worse on {where}: {each} ({counts})", labels)
    for where, tally in parts.items():
        if _chance(tally) < (1 - CONFIDENCE) / len(parts):
            reason = f"worse on {where}: {tally.after} of {tally.frames} right, {tally.before} before ({counts})"
            return GateVerdict(False, "worse", reason, labels)
    every = _sum([whole, pooled])
    if tail(every.won, every.lost + every.won) < 1 - CONFIDENCE:
        return GateVerdict(True, "better", f"better, and not by chance ({counts})", labels)
    bound = upper_bound(every.lost, every.frames)
    if bound <= margin:
        reason = f"not worse: at most {bound:.0%} of frames got worse ({counts})"
        return GateVerdict(True, "not worse", reason, labels)
    unsure = f"up to {bound:.0%} of frames could have got worse unseen, the margin is {margin:.0%} ({counts})"
    if every.after < every.before:
        return GateVerdict(False, "cannot tell", f"it named fewer frames right, and {unsure}", labels)
    return GateVerdict(True, "cannot tell", f"{every.frames} frames can't tell: {unsure}", labels)


def _result(label: str, before: int, frames: int, after: int) -> LabelResult:
    side = 1 - (1 - CONFIDENCE) / 2
    low = 1 - upper_bound(frames - after, frames, side)
    return LabelResult(label, frames, before, after, low, upper_bound(after, frames, side))


def _tally(before: LabelScores, after: LabelScores, index: int | None = None) -> Tally:
    rows = zip(after.truth, before.chosen, after.chosen, strict=True)
    truth, old, new = [], [], []
    for label, chosen_before, chosen_after in rows:
        if index in (None, label):
            truth.append(str(label))
            old.append(str(chosen_before))
            new.append(str(chosen_after))
    return Tally.of(truth, old, new)


def _chance(tally: Tally) -> float:
    """That chance alone would turn so many frames against the new head."""
    return tail(tally.lost, tally.lost + tally.won)


def _weighed(tallies: Sequence[Tally]) -> list[Tally]:
    """With none of more frames than twice the median; a larger one is scaled down."""
    most = 2 * int(np.median([tally.frames for tally in tallies])) if tallies else 0
    return [
        tally
        if tally.frames <= most
        else Tally(*(value * most // tally.frames for value in dataclasses.astuple(tally)))
        for tally in tallies
    ]


def _sum(tallies: Sequence[Tally]) -> Tally:
    def total(name: str) -> int:
        return sum(getattr(tally, name) for tally in tallies)

    return Tally(total("frames"), total("before"), total("after"), total("lost"), total("won"))
