"""People's answers: labels, "can't tell", "later", and taking any of them back.

What was before each answer is remembered in memory, newest first, for as long as the process lives: taking back is
for the slip of a finger, and the store itself keeps who said what and when.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from appliance.errors import StoreError
from appliance.labelling.model import ModelView
from appliance.store.frames import FrameStore
from appliance.store.records import FrameRecord

_REMEMBERED = 2000


@dataclass(frozen=True)
class _Said:
    """What people had said of a frame."""

    label: str | None
    by: str | None
    at_utc: datetime | None
    unclear: bool
    skipped: int

    @staticmethod
    def of(frame: FrameRecord) -> _Said:
        return _Said(frame.label, frame.labelled_by, frame.labelled_utc, frame.unclear, frame.skipped)


@dataclass(frozen=True)
class _Answer:
    """Who did something to a frame, and what was said of it before and after."""

    frame: str
    by: str
    before: _Said
    after: _Said

    @property
    def repeats(self) -> bool:
        """Whether it says again what was said, but for the time."""
        return replace(self.before, at_utc=None) == replace(self.after, at_utc=None)


class Answers:
    """Safe for several threads.

    Args:
        store: The camera's.
        model: Says which labels there are.
    """

    def __init__(self, store: FrameStore, model: ModelView) -> None:
        self._store = store
        self._model = model
        self._lock = threading.Lock()
        self._given: deque[_Answer] = deque(maxlen=_REMEMBERED)

    def label(self, frame_id: str, label: str, *, by: str) -> FrameRecord:
        """Say what a frame shows. When this returns, a power cut can't take it back.

        Raises:
            ConfigError: The model has no such label.
            NotThereError: There is no such frame.
            StoreError: The store refused.
        """
        known = self._model.checked(label)
        return self._answer(frame_id, by, lambda: self._store.label(frame_id, known, by=by))

    def unclear(self, frame_id: str, *, by: str) -> FrameRecord:
        """Say that one can't tell.

        Raises:
            NotThereError: There is no such frame.
            StoreError: The store refused.
        """
        return self._answer(frame_id, by, lambda: self._store.mark_unclear(frame_id, by=by))

    def skip(self, frame_id: str, *, by: str) -> FrameRecord:
        """Put a frame off: it goes to the end of the queue.

        Raises:
            NotThereError: There is no such frame.
            StoreError: The store refused.
        """
        return self._answer(frame_id, by, lambda: self._store.skip(frame_id))

    def undo(self, frame_id: str, *, by: str) -> FrameRecord:
        """Take back what this person last did to a frame; what was before is there again, whoever had said it.

        Raises:
            NotThereError: There is no such frame.
            StoreError: They did nothing to it that is remembered, or somebody has answered it since.
        """
        with self._lock:
            frame = self._store.frame(frame_id)
            given = [each for each in self._given if each.frame == frame_id]
            if all(each.by != by for each in given):
                raise StoreError(
                    "There is nothing of yours to take back on this frame",
                    means="It stays as it is",
                    do="Label it again, if it is wrong",
                )
            last = given[-1]
            if last.by != by or last.after != _Said.of(frame):
                raise StoreError(
                    f"{frame.labelled_by if last.by == by else last.by} has answered this frame since",
                    means="It stays as it is",
                    do="Label it again, if it is wrong",
                )
            self._restore(frame_id, last)
            self._given.remove(last)
            return self._store.frame(frame_id)

    def _answer(self, frame_id: str, by: str, act: Callable[[], object]) -> FrameRecord:
        with self._lock:
            before = self._store.frame(frame_id)
            act()
            after = self._store.frame(frame_id)
            answer = _Answer(frame_id, by, _Said.of(before), _Said.of(after))
            last = next((each for each in reversed(self._given) if each.frame == frame_id), None)
            if last is not None and last.by == by and last.after == answer.before and answer.repeats:
                self._given.remove(last)  # sent twice because the network lost our yes: one answer to take back
                answer = replace(answer, before=last.before)
            self._given.append(answer)
            return after

    def _restore(self, frame_id: str, answer: _Answer) -> None:
        before = answer.before
        if answer.after.skipped > before.skipped:
            self._store.unskip(frame_id)
        elif before.label is not None:
            self._store.label(frame_id, before.label, by=str(before.by), at_utc=before.at_utc)
        elif before.unclear:
            self._store.mark_unclear(frame_id, by=str(before.by), at_utc=before.at_utc)
        else:
            self._store.take_back(frame_id)
