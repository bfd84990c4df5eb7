"""Slows down guessing, and never shuts anybody out for good.

Each wrong try from an address doubles the time until the next one is looked at, up to a minute. Over all addresses
together only so many wrong tries are looked at per minute; an address that has logged in before is not held up by
strangers.
"""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_FREE_TRIES = 3
_LONGEST_S = 60.0
_FORGET_S = 900.0
_MINUTE_S = 60.0
_PER_MINUTE = 30
_MOST_ADDRESSES = 10_000


@dataclass
class _Address:
    wrong: int
    last_s: float


class Throttle:
    """Wrong tries, by address and over all.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._addresses: dict[str, _Address] = {}  # in the order of their last wrong try
        self._wrong: deque[float] = deque(maxlen=_PER_MINUTE)
        self._known: dict[str, None] = {}  # addresses that have logged in

    def wait_s(self, address: str) -> int:
        """Whole seconds until a try from there is looked at; 0: now. A try that may go counts as wrong until told.

        Several tries at once must not all pass before the first is known to be wrong.
        """
        name, now = _network(address), self._clock()
        with self._lock:
            held = max(self._held_by_address(name, now), 0.0 if name in self._known else self._held_by_all(now))
            if held > 0:
                return math.ceil(held)
            before = self._addresses.pop(name, None)
            self._addresses[name] = _Address(1 if before is None else before.wrong + 1, now)
            self._wrong.append(now)
            while len(self._addresses) > _MOST_ADDRESSES:
                self._addresses.pop(next(iter(self._addresses)))
            return 0

    def right(self, address: str) -> None:
        """That try was right: its address starts afresh."""
        name = _network(address)
        with self._lock:
            self._addresses.pop(name, None)
            self._known.pop(name, None)
            self._known[name] = None
            if self._wrong:
                self._wrong.pop()
            while len(self._known) > _MOST_ADDRESSES:
                self._known.pop(next(iter(self._known)))

    def spare(self, address: str) -> None:
        """That try was no guess: what it brought was right, and it failed for another reason."""
        name = _network(address)
        with self._lock:
            counted = self._addresses.get(name)
            if counted is not None:
                counted.wrong -= 1
            if self._wrong:
                self._wrong.pop()

    def _held_by_address(self, name: str, now: float) -> float:
        known = self._addresses.get(name)
        if known is None or now - known.last_s > _FORGET_S:
            self._addresses.pop(name, None)
            return 0.0
        if known.wrong < _FREE_TRIES:
            return 0.0
        pause = min(_LONGEST_S, 2.0 ** min(known.wrong - _FREE_TRIES, 10))
        return known.last_s + pause - now

    def _held_by_all(self, now: float) -> float:
        if len(self._wrong) < _PER_MINUTE:
            return 0.0
        return self._wrong[0] + _MINUTE_S - now


def _network(address: str) -> str:
    """One household's IPv6 addresses are as many as it likes: its network counts."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
