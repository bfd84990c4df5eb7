"""Finds what gives a label away without a look at the picture: a source that has its own shape, size or camera.

Where such a thing names labels much better than chance, a model may learn to tell sources apart instead of what the
pictures show, and a test on pictures from the same sources will not notice.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_FEWEST = 20  # pictures; of fewer nothing can be said
_MARGIN = 0.1  # this much better than always naming the most frequent label, at the lower end of the interval


@dataclass(frozen=True)
class Tell:
    """A property that names labels too well.

    Attributes:
        name: The property.
        accuracy: Share of labels it names, each picture judged by the others that have the same value.
        chance: Share of the most frequent label.
        values: Its commonest values, each with its labels and how many pictures have them.
    """

    name: str
    accuracy: float
    chance: float
    values: tuple[tuple[str, dict[str, int]], ...]


def find_tells(properties: Sequence[Mapping[str, str]], labels: Sequence[str]) -> list[Tell]:
    """Ask each property for the labels, by a leave-one-out majority vote.

    Args:
        properties: One mapping of names to values for each picture; no two of one scene, or the scene is the tell.
        labels: Their labels.

    Returns:
        Those that beat always naming the most frequent label by 10 points at the lower end of Wilson's 95 % interval
        (E. B. Wilson, JASA 22, 1927), the best first.
    """
    if len(labels) < _FEWEST or len(set(labels)) < 2:
        return []
    commonest, most = Counter(labels).most_common(1)[0]
    tells = []
    for name in sorted({name for one in properties for name in one}):
        values = [one.get(name, "") for one in properties]
        by_value: dict[str, Counter[str]] = defaultdict(Counter)
        for value, label in zip(values, labels, strict=True):
            by_value[value][label] += 1
        right = sum(
            _vote(by_value[value], label, commonest) == label for value, label in zip(values, labels, strict=True)
        )
        if wilson_low(right, len(labels)) > most / len(labels) + _MARGIN:
            top = sorted(by_value.items(), key=lambda pair: (-pair[1].total(), pair[0]))[:5]
            shown = tuple((value, dict(counts)) for value, counts in top)
            tells.append(Tell(name, right / len(labels), most / len(labels), shown))
    return sorted(tells, key=lambda tell: -tell.accuracy)


def wilson_low(right: int, of: int) -> float:
    """The lower end of Wilson's 95 % interval of a share."""
    z = 1.959964
    share = right / of
    middle = share + z * z / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (middle - half) / (1 + z * z / of)


def _vote(counts: Counter[str], own: str, commonest: str) -> str:
    others = counts.copy()
    others[own] -= 1
    best = max(others.values())
    winners = [label for label, number in others.items() if number == best]
    return winners[0] if best > 0 and len(winners) == 1 else commonest
