"""The canary: is a new version worse than the running one on this camera's own labelled test frames?

Both answer the same frames, so only those count on which they differ (McNemar's exact test: under "equally good" each
of them is a coin toss). Three outcomes. Worse: so many of them went against the new version that chance would do it in
fewer than 5 % of cases (divided by the number of questions: all frames, and each label by itself). Not worse: it is
better by the same test, or with 95 % confidence at most the margin of all frames got worse (Clopper-Pearson bound).
Else: not enough frames to judge; then the server's verdict, which let the version out, counts. Twenty frames without
one that got worse bound the loss at 14 %, sixty at 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

CONFIDENCE = 0.95
Outcome = Literal["worse", "not worse", "not enough frames"]


@dataclass(frozen=True)
class Tally:
    """Two versions on the same frames.

    Attributes:
        frames: How many.
        before: Named right by the running version.
        after: Named right by the new one.
        lost: Named right before, wrong now.
        won: Named wrong before, right now.
    """

    frames: int
    before: int
    after: int
    lost: int
    won: int

    @staticmethod
    def of(truth: Sequence[str], before: Sequence[str], after: Sequence[str]) -> Tally:
        """Count; all three have one entry per frame."""
        pairs = [(b == t, a == t) for t, b, a in zip(truth, before, after, strict=True)]
        return Tally(
            frames=len(pairs),
            before=sum(b for b, _ in pairs),
            after=sum(a for _, a in pairs),
            lost=sum(b and not a for b, a in pairs),
            won=sum(a and not b for b, a in pairs),
        )


@dataclass(frozen=True)
class Judgement:
    """What the canary says.

    Attributes:
        outcome: Only ``worse`` keeps a version out.
        sentence: Why, for a person.
    """

    outcome: Outcome
    sentence: str


def judge(
    truth: Sequence[str],
    before: Sequence[str],
    after: Sequence[str],
    *,
    margin: float,
    counts: str = "the server's verdict",
) -> Judgement:
    """Compare two versions on labelled frames.

    Args:
        truth: Every frame's label.
        before: What the running version says of it.
        after: What the new one says.
        margin: Share of frames that may get worse, 0 to 1.
        counts: Whose word counts where there are too few frames.
    """
    if not truth:
        return Judgement("not enough frames", f"No labelled test frames to judge it by: {counts} counts")
    groups: dict[str, list[int]] = {label: [] for label in sorted(set(truth))}
    for index, label in enumerate(truth):
        groups[label].append(index)
    tallies = {
        label: Tally.of(*([column[i] for i in chosen] for column in (truth, before, after)))
        for label, chosen in groups.items()
    }
    whole = Tally.of(truth, before, after)
    worse = _worse({"": whole} | tallies)
    if worse:
        return Judgement("worse", worse)
    bound = upper_bound(whole.lost, whole.frames)
    right = f"{whole.after} of {whole.frames} own test frames right, {whole.before} before"
    if tail(whole.won, whole.lost + whole.won) < 1 - CONFIDENCE:
        return Judgement("not worse", f"{right}: better, and not by chance")
    if bound <= margin:
        return Judgement("not worse", f"{right}; not more than {bound:.0%} of frames got worse")
    return Judgement(
        "not enough frames",
        f"{right}: not enough frames to judge (up to {bound:.0%} could have got worse unseen, the margin is"
        f" {margin:.0%}), so {counts} counts",
    )


def _worse(tallies: Mapping[str, Tally]) -> str:
    allowed = (1 - CONFIDENCE) / len(tallies)
    for label, tally in tallies.items():
        chance = tail(tally.lost, tally.lost + tally.won)
        if chance < allowed:
            of_label = f" of {label}" if label else ""
            return (
                f"Worse on this camera's own test frames{of_label}: {tally.after} of {tally.frames} right,"
                f" {tally.before} before. Chance alone would do that in {chance:.1%} of cases"
            )
    return ""


def tail(lost: int, differing: int) -> float:
    """The chance that ``lost`` or more of so many coin tosses fall against the new version; 1 for none."""
    return _at_most(differing - lost, differing, 0.5)


def upper_bound(bad: int, frames: int, confidence: float = CONFIDENCE) -> float:
    """The share of bad frames that is not exceeded, with this confidence, where ``bad`` of ``frames`` were found.

    Clopper and Pearson (Biometrika 26, 1934), one-sided; found by bisection.
    """
    if bad >= frames:
        return 1.0
    low, high = bad / frames, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(bad, frames, middle) > 1 - confidence else (low, middle)
    return high


def _at_most(most: int, tosses: int, chance: float) -> float:
    """P(X <= most) for X binomially distributed; in logarithms, because a fleet's frames make huge factorials."""
    if most < 0:
        return 0.0
    k = np.arange(1, most + 1, dtype=np.float64)
    log_combinations = np.concatenate([[0.0], np.cumsum(np.log(tosses - k + 1) - np.log(k))])
    hits = np.arange(most + 1)
    logs = log_combinations + hits * math.log(chance) + (tosses - hits) * math.log1p(-chance)
    return min(1.0, float(np.exp(logs).sum()))
