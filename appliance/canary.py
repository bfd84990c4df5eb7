"""Has a new version answer this camera's own labelled test frames, and the running one beside it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from appliance.eim.runner import Answer, Impulse
from appliance.errors import ImpulseError, ModelError, PictureError, StoreError, SwapError
from appliance.judge import Judgement, judge
from appliance.models.head import Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.store.frames import FrameRecord, FrameStore
from appliance.vision import InputSpec, prepare

Asked = list[tuple[FrameRecord, Answer]]

MOST_FRAMES = 300  # bounds the time: half a minute on a Pi 3


class Canary:
    """Judges versions by the store's test frames.

    Args:
        store: The store's folder.
        shelf: Where versions lie.
        start: Starts an ``.eim``.
        margin: Share of frames that may get worse, 0 to 1.
    """

    def __init__(self, store: Path, shelf: Shelf, start: Callable[[Path], Impulse], *, margin: float) -> None:
        self._store = store
        self._shelf = shelf
        self._start = start
        self._margin = margin

    def judge(self, impulse: Impulse, version: int, running: int) -> Judgement:
        """Compare a version with the one that runs.

        Args:
            impulse: The version's, started and probed.
            version: Which it is.
            running: Which one runs.

        Raises:
            SwapError: It is worse.
            ImpulseError: It failed while it was asked.
        """
        new = self._shelf.manifest(version)
        if not self._store.exists():
            return judge([], [], [], margin=self._margin, counts=_who_counts(new))
        try:
            with FrameStore(self._store) as store:
                asked = _ask(impulse, store, _chosen(store, new), new.input)
                try:
                    before = self._of_running(store, new, running, asked)
                except (ModelError, ImpulseError) as error:  # what runs is at fault, and the new one may heal that
                    return Judgement("not enough frames", f"Version {running} could not be asked ({error.what})")
        except StoreError as error:
            return Judgement("not enough frames", f"The own test frames can't be read ({error.what})")
        known = [(frame, answer) for frame, answer in asked if frame.id in before]
        truth = [str(frame.label) for frame, _ in known]
        judged = [before[frame.id] for frame, _ in known]
        said = [_best(answer) for _, answer in known]
        judgement = judge(truth, judged, said, margin=self._margin, counts=_who_counts(new))
        if judgement.outcome == "worse":
            raise SwapError(judgement.sentence, means=f"Version {running} stays")
        return judgement

    def _of_running(self, store: FrameStore, new: Manifest, running: int, asked: Asked) -> dict[str, str]:
        """What the running version says of the same frames, by frame.

        Raises:
            ModelError: It is damaged on disk.
            ImpulseError: It could not be asked.
        """
        if not asked:
            return {}
        old = self._shelf.manifest(running)
        features = [answer.features for _, answer in asked if answer.features is not None]
        same = (old.parts.get("backbone"), old.input) == (new.parts.get("backbone"), new.input)
        if same and len(features) == len(asked):
            # The loop's own .eim is busy; its head, on the very same features, says the same.
            scores = Head.from_bytes(self._shelf.part(old.parts["head"])).scores(np.stack(features))
            best = scores.argmax(axis=1)
            return {frame.id: old.labels[index] for (frame, _), index in zip(asked, best, strict=True)}
        impulse = self._start(self._shelf.impulse_path(running))
        try:
            answers = _ask(impulse, store, [frame for frame, _ in asked], old.input)
        finally:
            impulse.close()
        return {frame.id: _best(answer) for frame, answer in answers}


def _chosen(store: FrameStore, manifest: Manifest) -> list[FrameRecord]:
    frames = [frame for frame in store.frames(split="test") if frame.label in manifest.labels]
    if len(frames) > MOST_FRAMES:
        frames = random.Random(0).sample(frames, MOST_FRAMES)  # noqa: S311  # a fair choice, not a secret
    return frames


def _ask(impulse: Impulse, store: FrameStore, frames: Sequence[FrameRecord], spec: InputSpec) -> Asked:
    """One frame after the other: decoded, a few hundred would not fit into memory."""
    asked = []
    for frame in frames:
        try:
            picture = prepare(store.pixels(frame.id), spec)
        except (StoreError, PictureError):
            continue  # deleted meanwhile, or damaged: the others judge
        asked.append((frame, impulse.classify(picture)))
    return asked


def _best(answer: Answer) -> str:
    """The label with the highest score; none where a local version's label that counts for none of ours has more."""
    best = max(answer.scores, key=lambda label: answer.scores[label])
    return best if answer.scores[best] >= 1 - sum(answer.scores.values()) else ""


def _who_counts(manifest: Manifest) -> str:
    return "the word of whoever added it" if manifest.foreign else "the server's verdict"
