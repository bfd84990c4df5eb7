"""What to do about a camera that stays without pictures: start the process afresh, and at last ask for a reboot.

Opening the camera again is the first rung; :class:`appliance.capture.Capture` does that by itself. The second is a
fresh process, after ``restart_after_s`` without a picture. Each restart that brought no picture doubles that time, up
to a quarter of an hour, because a camera that is simply not there is not helped by haste. The third is a reboot,
asked for in a file that a helper with the right to do so watches.

At most one reboot is asked for in six hours, however wrong the clock is: a Pi without a battery clock boots in the
past and jumps when the network tells the time, so wall-clock time is written for people only and never compared.
What is kept is how much longer to wait, counted down while this process runs and written back now and then. Time
while the Pi is off, or since the last write before a power cut, doesn't count: the wait only ever gets longer.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from appliance.files import write_atomically

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 15 * 60.0  # whoever plugs the cable in again should see a picture while they are still there
REBOOT_EVERY_S = 6 * 3600.0  # a reboot ends the page and the night's training too, for a camera that may be broken
_WRITE_EVERY_S = 600.0  # so much of the countdown may be lost in a power cut; 36 small writes per reboot


class Ladder:
    """Decides when only a fresh process, or only a reboot, can help. One per process.

    :meth:`picture` may be called from any thread, everything else from one.

    Args:
        restarts_path: Its small file; its folder must exist. A damaged one counts as none.
        reboot_request_path: Appears when a reboot is asked for: JSON with ``reason``, ``at_utc`` and ``restarts``.
        restart_after_s: Without a picture, before the first restart.
        reboot_after_restarts: So many restarts in a row without a picture; 0: never ask for a reboot.
        clock: Seconds that only rise.
        utc_now: What time it is, for people.
    """

    def __init__(
        self,
        restarts_path: Path,
        reboot_request_path: Path,
        *,
        restart_after_s: float,
        reboot_after_restarts: int,
        clock: Callable[[], float] = time.monotonic,
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path = restarts_path
        self._request_path = reboot_request_path
        self._restart_after_s = restart_after_s
        self._reboot_after_restarts = reboot_after_restarts
        self._clock = clock
        self._utc_now = utc_now
        self._restarts, self._wait_from_s = _read(restarts_path)
        self._wait_from_at_s = self._picture_at_s = clock()  # before the first picture: since the start
        self._had_picture = threading.Event()
        self._stuck: str | None = None
        self._must_restart: str | None = None

    @property
    def restarts(self) -> int:
        """How many restarts in a row have brought no picture."""
        return self._restarts

    @property
    def must_restart(self) -> str | None:
        """Why this process must be started afresh, for a person; None while it needn't. Once said, it stays."""
        return self._must_restart

    def picture(self) -> None:
        """A picture came. Cheap, for every frame."""
        self._picture_at_s = self._clock()
        self._had_picture.set()

    def stuck(self, what: str) -> None:
        """The driver never came back: nothing but a fresh process can open the camera again.

        Args:
            what: One sentence without its full stop, for a person.
        """
        self._stuck = what

    def step(self) -> str | None:
        """Look how long there has been no picture, and act; call it about once a second.

        Returns:
            :attr:`must_restart`.
        """
        if self._must_restart is not None:
            return self._must_restart
        if self._had_picture.is_set() and self._restarts:
            self._write(restarts=0, reboot_wait_s=self._reboot_wait_s())
        if self._counting_s() >= min(self._wait_from_s, _WRITE_EVERY_S) > 0:
            self._write(restarts=self._restarts, reboot_wait_s=self._reboot_wait_s())
        without_s = self._clock() - self._picture_at_s
        if without_s >= self._patience_s():
            why = self._stuck or f"There has been no picture for {without_s:.0f} s, however often the camera was opened"
            self._climb(why)
        return self._must_restart

    def _patience_s(self) -> float:
        """How long to bear having no picture. A stuck driver gets one rung less: at first, none at all."""
        doublings = self._restarts - (self._stuck is not None)
        if doublings < 0:
            return 0.0
        longest_s = max(LONGEST_WAIT_S, self._restart_after_s)
        return min(self._restart_after_s * 2.0 ** min(doublings, 30), longest_s)

    def _climb(self, why: str) -> None:
        done = self._restarts
        asks = 0 < self._reboot_after_restarts <= done and self._reboot_wait_s() <= 0
        written = self._write(restarts=done + 1, reboot_wait_s=REBOOT_EVERY_S if asks else self._reboot_wait_s())
        # The limit is on the disk before the request is: a full disk must not make a Pi that reboots for ever.
        if asks and written:
            self._ask_for_reboot(why, done)
        self._must_restart = f"{why}. The camera service starts afresh."
        logger.error("%s (restarts without a picture so far: %d)", self._must_restart, done)

    def _ask_for_reboot(self, why: str, restarts: int) -> None:
        body = {
            "reason": f"{why}, and {restarts} restarts of the camera service brought no picture.",
            "at_utc": self._utc_now().isoformat(),
            "restarts": restarts,
        }
        try:
            write_atomically(self._request_path, json.dumps(body, indent=1).encode() + b"\n")
        except OSError as error:
            logger.error("A reboot could not be asked for (%s)", error)
        else:
            logger.error("A reboot is asked for: %s", body["reason"])

    def _counting_s(self) -> float:
        return self._clock() - self._wait_from_at_s

    def _reboot_wait_s(self) -> float:
        return max(0.0, self._wait_from_s - self._counting_s())

    def _write(self, *, restarts: int, reboot_wait_s: float) -> bool:
        """Remember, and say whether the disk does too."""
        self._restarts, self._wait_from_s, self._wait_from_at_s = restarts, reboot_wait_s, self._clock()
        body = {"restarts": restarts, "reboot_wait_s": round(reboot_wait_s, 1)}
        try:
            write_atomically(self._path, json.dumps(body).encode() + b"\n")
        except OSError as error:
            logger.error("%s could not be written (%s); the next start knows nothing of this one", self._path, error)
            return False
        return True


def _read(path: Path) -> tuple[int, float]:
    """Restarts in a row without a picture, and how many seconds must run before a reboot may be asked for."""
    # Whether a reboot was just asked for can't be known from a damaged file, so the whole wait begins anew.
    careful = (0, REBOOT_EVERY_S)
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        restarts, reboot_wait_s = int(body["restarts"]), float(body["reboot_wait_s"])
    except FileNotFoundError:
        return 0, 0.0
    except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        logger.warning("%s can't be read (%r); the count of restarts begins anew", path, error)
        return careful
    if restarts < 0 or not 0 <= reboot_wait_s <= REBOOT_EVERY_S:
        logger.warning("%s says what can't be: %r; the count of restarts begins anew", path, body)
        return careful
    return restarts, reboot_wait_s
