"""Who is logged in: random tokens in memory, each with two ends."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

IDLE_S = 3600.0
LONGEST_S = 12 * 3600.0
_MOST = 100


@dataclass
class _Session:
    began_s: float
    used_s: float
    password: str


class Sessions:
    """The open sessions. A restart of the page ends them all.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, _Session] = {}  # by the token's hash: looking one up tells nothing about the others

    def begin(self, password: str) -> str:
        """Start a session under the password of that mark; return its token. Of too many, the oldest ends."""
        token = secrets.token_urlsafe(32)
        now = self._clock()
        with self._lock:
            while len(self._open) >= _MOST:
                self._open.pop(min(self._open, key=lambda name: self._open[name].used_s))
            self._open[_name(token)] = _Session(now, now, password)
        return token

    def holds(self, token: str, password: str) -> bool:
        """Whether the token's session goes on, under the password of that mark; if so it has just been used."""
        now = self._clock()
        with self._lock:
            session = self._open.get(_name(token))
            if session is None:
                return False
            over = now - session.used_s > IDLE_S or now - session.began_s > LONGEST_S
            if over or not password or session.password != password:
                del self._open[_name(token)]
                return False
            session.used_s = now
            return True

    def end(self, token: str) -> None:
        """End a session; nothing happens where there is none."""
        with self._lock:
            self._open.pop(_name(token), None)


def _name(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
