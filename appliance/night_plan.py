"""Whether a camera trains tonight, as far as it knows itself: the server opens the window, not the camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def objection(train_frames: Mapping[str, int], min_frames: int) -> str:
    """Why a camera with these labelled frames should not train; empty where it should."""
    total = sum(train_frames.values())
    if total < min_frames:
        return f"{total} labelled frames, fewer than the {min_frames} that night.min_frames asks for"
    there = [label for label, count in train_frames.items() if count]
    if len(there) < 2:
        return f"all {total} labelled frames are {there[0]}: label some of another kind"
    return ""


def tonight(counts: Mapping[str, Mapping[str, int]], labels: Sequence[str], min_frames: int) -> str:
    """Tonight's plan in a sentence.

    Args:
        counts: Labelled frames per split and label, as ``FrameStore.counts`` gives them.
        labels: Those that the running model knows; frames of others take no part.
        min_frames: ``night.min_frames``.
    """
    train, test = ({label: counts.get(split, {}).get(label, 0) for label in labels} for split in ("train", "test"))
    why = objection(train, min_frames)
    if why:
        return f"It does not train tonight: {why}. It still gets the fleet's new model."
    frames = sum(train.values())
    return (
        f"It trains tonight, once the server opens the night: {frames} labelled frames to learn from,"
        f" {sum(test.values())} to test with."
    )
