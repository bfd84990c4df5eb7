"""Keeps the store within its budget and the disk above its floor, and says what it does for that.

What goes first is what people miss least:

1. unlabelled frames that are too old, whether there is room or not;
2. unlabelled frames that the model is sure of, the surest first, and those that people put off three times;
3. other unlabelled frames, the oldest first;
4. unlabelled frames that were kept at random: only they measure the truth;
5. unlabelled frames that a person asked for: a burst, an upload, a false alarm;
6. thumbnails and cached features, which can be made again;
7. frames that a person looked at and could not tell: nothing learns from them.

A labelled frame is never deleted here. Where nothing else is left, new frames are refused, and people are told.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from appliance.config import StoreSettings
from appliance.errors import StoreFullError
from appliance.store.records import as_text

if TYPE_CHECKING:
    from appliance.store.frames import FrameStore

logger = logging.getLogger(__name__)

CERTAIN = 0.9  # a score from which on a model counts as sure
PUT_OFF = 3  # so often, and a frame counts as one that nobody wants to answer

_AT_ONCE = 64
_SLACK_SHARE = 0.01  # of the budget is freed beyond need, so that not every new frame costs a purge
_SLACK_MOST = 50_000_000
_PICTURE_BYTES = 500_000  # about what the next frame takes

_At = Literal["budget", "floor"]

# The numbers are those of the list above.
_UNLABELLED = f"""
SELECT id FROM frames WHERE label IS NULL AND unclear = 0 ORDER BY
CASE WHEN reason IN ('burst', 'upload', 'false alarm') THEN 5
     WHEN reason = 'random' THEN 4
     WHEN score >= {CERTAIN} OR skipped >= {PUT_OFF} THEN 2
     ELSE 3 END,
CASE WHEN reason NOT IN ('burst', 'upload', 'false alarm', 'random') AND score >= {CERTAIN} THEN -score ELSE 0 END,
taken_utc LIMIT {_AT_ONCE}
"""  # noqa: S608  # our own numbers
_UNCLEAR = f"SELECT id FROM frames WHERE label IS NULL AND unclear = 1 ORDER BY taken_utc LIMIT {_AT_ONCE}"  # noqa: S608  # our own number
_OLD = f"SELECT id FROM frames WHERE label IS NULL AND unclear = 0 AND taken_utc < ? LIMIT {_AT_ONCE}"  # noqa: S608  # our own number


@dataclass(frozen=True)
class Limits:
    """What a store may take.

    Attributes:
        budget_bytes: Pictures, thumbnails, features and database together, and what ``others`` takes.
        floor_bytes: So much of the disk stays free, whoever fills it.
        unlabelled_days: Frames that nobody labelled are deleted after so many days.
        others: Bytes of what shares the budget: events' snapshots.
    """

    budget_bytes: int
    floor_bytes: int
    unlabelled_days: int
    others: Callable[[], int] = lambda: 0

    @staticmethod
    def of(settings: StoreSettings, others: Callable[[], int] = lambda: 0) -> Limits:
        """As ``[store]`` in sitecam.toml says."""
        return Limits(settings.budget_mb * 10**6, settings.floor_mb * 10**6, settings.unlabelled_days, others)


@dataclass(frozen=True)
class RoomState:
    """How a store stands.

    Attributes:
        state: "ok"; "purging": at its limit, unlabelled frames go as new ones come; "full": new frames are refused.
        sentence: For people.
        size_bytes: What it takes, with what shares its budget.
        budget_bytes: What it may take; 0: no limit.
        free_bytes: Of the disk.
        floor_bytes: What must stay free of it.
    """

    state: Literal["ok", "purging", "full"]
    sentence: str
    size_bytes: int
    budget_bytes: int
    free_bytes: int
    floor_bytes: int


class Room:
    """Makes room in a store.

    Args:
        store: Which.
        limits: None: without end.
    """

    def __init__(self, store: FrameStore, limits: Limits | None) -> None:
        self._store = store
        self._limits = limits
        self._slack = min(int(limits.budget_bytes * _SLACK_SHARE), _SLACK_MOST) if limits else 0

    def state(self) -> RoomState:
        """How the store stands now."""
        limits = self._limits
        size, free = self._size(), self._free()
        if limits is None:
            return RoomState("ok", f"The store takes {_words(size)}.", size, 0, free, 0)
        lacks = self._lacks(_PICTURE_BYTES)
        at: _At = "budget" if limits.budget_bytes - size < free - limits.floor_bytes else "floor"
        state: Literal["ok", "purging", "full"] = "ok"
        if lacks > 0 and not self._store.rows("SELECT 1 FROM frames WHERE label IS NULL LIMIT 1"):
            state = "full"
            sentence = f"{self._limit(at)} Everything left has been labelled, and nothing labelled is deleted without"
            sentence += " asking: no new frames are kept."
        elif lacks > -2 * self._slack:
            state = "purging"
            sentence = f"{self._limit(at)} As new frames come, unlabelled ones go: those that the model is surest of"
            sentence += " first, then the oldest."
        else:
            sentence = (
                f"The store takes {_words(size)} of {_words(limits.budget_bytes)}; {_words(free)} of the disk are free."
            )
        return RoomState(state, sentence, size, limits.budget_bytes, free, limits.floor_bytes)

    def make(self, needed_bytes: int) -> None:
        """Have room for so many bytes more.

        Raises:
            StoreFullError: Only labelled frames are left, and there is none.
        """
        if self._limits is None:
            return
        self._drop_old()
        if self._lacks(needed_bytes) <= 0 or self._purge(needed_bytes):
            return
        state = self.state()
        at: _At = "floor" if self._limits.floor_bytes + needed_bytes > state.free_bytes else "budget"
        raise StoreFullError(
            f"There is no room for {_words(needed_bytes)} of new frames. {self._limit(at)}",
            means="Nothing was stored. Everything left has been labelled, and that is never deleted without asking",
            do="Free some of the disk" if at == "floor" else "Export and delete some frames, or raise store.budget_mb",
        )

    def tidy(self) -> int:
        """Delete what is too old, and what is too much; how many frames that was."""
        if self._limits is None:
            return 0
        before = self._count()
        self._drop_old()
        if self._lacks(0) > 0:
            self._purge(0)
        return before - self._count()

    def _purge(self, needed_bytes: int) -> bool:
        """Delete in the order above until there is room, and some more; False where only labelled ones are left."""
        wanted = needed_bytes + self._slack
        before = self._count()
        self._store.database.checkpoint(0)  # deleting writes too: on a full disk it needs the room of the logs
        self._store.features.checkpoint()
        derived = False
        while self._lacks(wanted) > 0:
            ids = [row[0] for row in self._store.rows(_UNLABELLED)]
            if not ids and not derived:
                derived = True
                self._store.pictures.drop_thumbnails()
                self._store.features.clear()
                logger.info("Thumbnails and cached features were deleted to make room; they are made again")
                continue
            ids = ids or [row[0] for row in self._store.rows(_UNCLEAR)]
            if not ids:
                break
            self._drop(ids, wanted)
        gone = before - self._count()
        if gone:
            logger.info("%d frames without a label were deleted to make room", gone)
        return self._lacks(needed_bytes) <= 0

    def _drop(self, ids: list[str], wanted: int) -> None:
        """Delete frames, but not more of them than must go."""
        sizes = {frame.id: frame.size_bytes for frame in self._store.some(ids)}
        lacks = self._lacks(wanted)
        chosen: list[str] = []
        for frame_id in ids:
            chosen.append(frame_id)
            lacks -= sizes.get(frame_id, 0)
            if lacks <= 0:
                break
        self._store.delete_all(chosen)

    def _drop_old(self) -> None:
        limits = self._limits
        if limits is None:
            return
        oldest = as_text(datetime.now(UTC) - timedelta(days=limits.unlabelled_days))
        while ids := [row[0] for row in self._store.rows(_OLD, [oldest])]:
            self._store.delete_all(ids)
            logger.info("%d frames that nobody labelled in %d days were deleted", len(ids), limits.unlabelled_days)

    def _lacks(self, more_bytes: int) -> int:
        """How many bytes too many there would be with so many more; negative: how much room is left."""
        limits = self._limits
        if limits is None:
            return -1
        over = self._size() + more_bytes - limits.budget_bytes
        return max(over, limits.floor_bytes + more_bytes - self._free())

    def _size(self) -> int:
        return self._store.size_bytes() + (self._limits.others() if self._limits else 0)

    def _free(self) -> int:
        return shutil.disk_usage(self._store.root).free

    def _count(self) -> int:
        ((count,),) = self._store.rows("SELECT frames FROM totals")
        return int(count)

    def _limit(self, at: _At) -> str:
        limits = self._limits
        if limits is None:
            return ""
        if at == "budget":
            return f"The store has reached its limit of {_words(limits.budget_bytes)} (store.budget_mb)."
        return f"The disk has less than {_words(limits.floor_bytes)} free (store.floor_mb)."


def _words(size_bytes: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if size_bytes >= unit / 10:
            return f"{size_bytes / unit:,.1f} {name}"
    return f"{size_bytes / 1000:,.0f} kB"
