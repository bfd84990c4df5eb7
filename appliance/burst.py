"""Takes a row of pictures on demand, unlabelled: the page's "capture" button."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from appliance.errors import ConfigError, SitecamError, StoreError
from appliance.frame import Decision, Frame
from appliance.recorder import FrameSink, live_frame
from appliance.store.frames import NewFrame
from appliance.tap import Tap
from appliance.vision import encode_jpeg

logger = logging.getLogger(__name__)

MOST_FRAMES = 100
LONGEST_S = 600.0

_REASON = "burst"
_FRAME_S = 10.0  # without a picture for so long the burst ends
_AT_ONCE = 10  # frames in one write: what is in memory, and what a power cut may cost
_LONGEST_WAIT_S = 10.0  # of a frame in memory


@dataclass(frozen=True)
class CaptureState:
    """How a capture goes, or went.

    Attributes:
        busy: Whether it is under way.
        taken: Frames taken.
        count: Frames asked for.
        sentence: For people.
    """

    busy: bool
    taken: int
    count: int
    sentence: str


class Burst:
    """The listener that takes frames when somebody asks.

    Args:
        sink: The store.
        recipe: Names how a version's live features were computed.
    """

    def __init__(self, sink: FrameSink, recipe: Callable[[int], str]) -> None:
        self._sink = sink
        self._recipe = recipe
        self._tap = Tap()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._state = CaptureState(False, 0, 0, "")

    def __call__(self, frame: Frame, decision: Decision | None) -> None:
        """Hand a frame over where one is wanted. Returns at once."""
        self._tap(frame, decision)

    @property
    def state(self) -> CaptureState:
        """Of the burst under way, or the last one."""
        return self._state

    def begin(self, count: int, every_s: float) -> CaptureState:
        """Take frames from now on.

        Args:
            count: How many, 1 to MOST_FRAMES.
            every_s: Seconds between two; the whole takes at most LONGEST_S.

        Raises:
            ConfigError: Too many, or too long.
            StoreError: A burst is under way.
        """
        if not 1 <= count <= MOST_FRAMES:
            raise ConfigError(f"{count} frames can't be taken in a row", do=f"Ask for 1 to {MOST_FRAMES}")
        if not 0 <= every_s * count <= LONGEST_S:
            raise ConfigError(
                f"{count} frames, one every {every_s:g} s, take longer than {LONGEST_S / 60:.0f} minutes",
                do="Ask for fewer, or closer together",
            )
        with self._lock:
            if self._state.busy:
                raise StoreError(
                    "Frames are being taken already",
                    means="One burst is carried out at a time",
                    do="Wait until it is done",
                )
            self._state = CaptureState(True, 0, count, "Taking frames.")
            self._thread = threading.Thread(target=self._work, args=(count, every_s), name="burst", daemon=True)
            self._thread.start()
            return self._state

    def stop(self, *, deadline_s: float = 5) -> None:
        """End what is under way; what was taken is stored."""
        self._stopping.set()
        self._tap.close()
        if self._thread is not None:
            self._thread.join(deadline_s)

    def _work(self, count: int, every_s: float) -> None:
        try:
            taken, stored = self._take(count, every_s)
        except Exception as error:  # logged and said: the page must not show a burst that never ends
            logger.error("A burst failed", exc_info=error)
            reason = str(error) if isinstance(error, SitecamError | OSError) else repr(error)
            self._state = CaptureState(False, self._state.taken, count, f"The frames could not be stored. {reason}")
            return
        if taken == count:
            sentence = f"{_frames(stored)} taken: they are in the queue."
        elif taken:
            sentence = f"{_frames(stored)} taken, then no more pictures came: they are in the queue."
        else:
            sentence = "No picture came from the camera, so nothing was taken."
        self._state = CaptureState(False, taken, count, sentence)

    def _take(self, count: int, every_s: float) -> tuple[int, int]:
        """Frames taken, and frames stored."""
        batch: list[NewFrame] = []
        stored = 0
        taken = 0
        while taken < count:
            if taken and self._stopping.wait(every_s):
                break
            seen = self._tap.next(_FRAME_S)
            if seen is None:
                break
            frame, decision = seen
            batch.append(live_frame(frame, decision, encode_jpeg(frame.pixels), _REASON, self._recipe))
            taken += 1
            self._state = CaptureState(True, taken, count, "Taking frames.")
            if len(batch) == _AT_ONCE or len(batch) * every_s >= _LONGEST_WAIT_S:
                stored += self._store(batch)
        return taken, stored + self._store(batch)

    def _store(self, batch: list[NewFrame]) -> int:
        if not batch:
            return 0
        self._sink.add_all(batch)
        number = len(batch)
        batch.clear()
        return number


def _frames(number: int) -> str:
    return "1 frame" if number == 1 else f"{number} frames"
