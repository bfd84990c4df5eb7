"""The health of a camera's labelled data, in words: what to know before trusting what is learned from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Literal

from appliance.judge import CONFIDENCE, tail, upper_bound
from appliance.store import review
from appliance.store.frames import FrameStore
from appliance.store.records import IMPORTED

SURE = 0.95  # a model that is so sure and says otherwise is right often enough to look again

_LOPSIDED = 5  # times as many frames of one label as of another
_REPEATED = 0.5  # of the labelled frames may be of scenes that another one shows
_ENOUGH = 20  # frames, before a day or a person too few is worth a word
_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """Something about the data.

    Attributes:
        state: "ok", or "warning" where something should be done.
        what: The finding, for people.
        do: What to do about it; empty where nothing is to be done.
    """

    state: Literal["ok", "warning"]
    what: str
    do: str = ""


def findings(
    store: FrameStore, labels: Sequence[str], version: int | None, *, margin: float, zone: tzinfo
) -> list[Finding]:
    """What there is to say.

    Args:
        store: The camera's.
        labels: The running model's.
        version: Which one runs; None where none does.
        margin: ``model.margin``: how many test frames may get worse with a new version, 0 to 1.
        zone: The site's, for days.

    Raises:
        StoreError: The store can't be read.
    """
    counts = store.counts()
    total = {label: sum(of_split.get(label, 0) for of_split in counts.values()) for label in labels}
    known = sum(total.values())
    if not known:
        return [Finding("warning", "Nobody has labelled a frame yet.", "Label today's frames: it takes two minutes.")]
    found = [
        *_counts(total),
        *_tests(counts.get("test", {}), labels, margin),
        *_repeated(store),
        *_wrong(store, version),
    ]
    if known >= _ENOUGH:
        found += [*_one_day(store, zone), *_one_person(store)]
    return found


def frames_to_exclude_loss(margin: float) -> int:
    """Test frames it takes to say that a version is not worse, where not one of them got worse.

    The smallest n for which :func:`appliance.judge.upper_bound` of 0 in n is within the margin.
    """
    low, high = 0, 1
    while upper_bound(0, high) > margin:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if upper_bound(0, middle) > margin else (low, middle)
    return high


def frames_to_see_loss(labels: int) -> int:
    """Test frames of one label it takes to notice that a version lost all of them.

    The smallest n for which McNemar's test (:func:`appliance.judge.tail`), asked about all frames and about each
    label, calls n losses without a gain no chance.
    """
    allowed = (1 - CONFIDENCE) / (labels + 1)
    lost = 1
    while tail(lost, lost) >= allowed:
        lost += 1
    return lost


def _counts(total: Mapping[str, int]) -> list[Finding]:
    missing = [label for label, number in total.items() if not number]
    most, fewest = max(total, key=lambda label: total[label]), min(total, key=lambda label: total[label])
    listed = ", ".join(f"{label} {number}" for label, number in total.items())
    if missing:
        return [
            Finding(
                "warning",
                f"No frame is labelled {' or '.join(missing)} ({listed}).",
                "A model can't learn what it was never shown. Take some with Capture, or label more of the queue.",
            )
        ]
    if total[most] > _LOPSIDED * total[fewest]:
        return [
            Finding(
                "warning",
                f"There are {total[most] // total[fewest]} times as many frames of {most} as of {fewest} ({listed}).",
                f"Take more of {fewest}: the model will else be too quick to say {most}.",
            )
        ]
    return [Finding("ok", f"Labelled frames: {listed}.")]


def _tests(tested: Mapping[str, int], labels: Sequence[str], margin: float) -> list[Finding]:
    number, wanted = sum(tested.get(label, 0) for label in labels), frames_to_exclude_loss(margin)
    found = []
    if number < wanted:
        found.append(
            Finding(
                "warning",
                f"{_frames(number, 'test frame')} can't show that a new model is not worse; that takes {wanted}, with"
                f" not one of them getting worse (margin {margin:.0%}, confidence {CONFIDENCE:.0%}).",
                "Keep labelling: one scene in five is for testing. Until then the server's verdict counts.",
            )
        )
    needed = frames_to_see_loss(len(labels))
    blind = [f"{label} {tested.get(label, 0)}" for label in labels if tested.get(label, 0) < needed]
    if blind:
        found.append(
            Finding(
                "warning",
                f"Too few test frames to notice that a model has forgotten a label ({', '.join(blind)}): it takes"
                f" {needed} of each.",
                "Label more frames of these, from different hours.",
            )
        )
    return found or [Finding("ok", f"{number} test frames are enough to judge a new model ({wanted} are needed).")]


def _repeated(store: FrameStore) -> list[Finding]:
    frames, scenes = review.labelled_scenes(store)
    again = frames - scenes
    if again <= _REPEATED * frames:
        return [Finding("ok", f"The labelled frames show {scenes} different scenes; identical pictures are kept once.")]
    return [
        Finding(
            "warning",
            f"{again} of {frames} labelled frames are near-duplicates: they show a scene that another one shows.",
            "They count little. Label frames of other days, places and light.",
        )
    ]


def _wrong(store: FrameStore, version: int | None) -> list[Finding]:
    found = []
    mixed = review.contradicting_scenes(store)
    if mixed:
        found.append(
            Finding(
                "warning",
                f"{_frames(mixed, 'scene')} with nearly identical frames under different labels.",
                "Look at them in the review: one of the labels is probably a slip.",
            )
        )
    unsure = review.count_disagreements(store, version, surer_than=SURE) if version else 0
    if unsure:
        found.append(
            Finding(
                "warning",
                f"{_frames(unsure, 'label')} that version {version} contradicts, and it is more than {SURE:.0%} sure.",
                "Look at them in the review, the surest first: a wrong label there costs most.",
            )
        )
    return found or [Finding("ok", "No label looks wrong to the running model.")]


def _one_day(store: FrameStore, zone: tzinfo) -> list[Finding]:
    between = review.taken_between(store)
    if between is None or between[0].astimezone(zone).date() != between[1].astimezone(zone).date():
        return []
    return [
        Finding(
            "warning",
            f"All labelled frames that this camera took are from one day, {between[0].astimezone(zone):%-d %b %Y}.",
            "Label frames of other days and other light, or the model will know this day only.",
        )
    ]


def _one_person(store: FrameStore) -> list[Finding]:
    people = review.people(store)
    if not people:
        return []
    if len(people) > 1:
        return [Finding("ok", f"Labelled by {', '.join(people[:_SHOWN])}{' and others' * (len(people) > _SHOWN)}.")]
    return [
        Finding(
            "warning",
            "Every label came with an import." if people == [IMPORTED] else f"Only {people[0]} has labelled frames.",
            "Have somebody else look through the review: two people don't overlook the same things.",
        )
    ]


def _frames(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
