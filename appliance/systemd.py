"""Tells systemd how the process is: ready, alive, a status line, stopping.

The protocol is one datagram of a few words to a Unix socket, so it needs no library: `sdnotify` would be one more
package on every camera for what is forty lines here, and `python3-systemd` needs a compiler in the camera's
environment. Outside systemd nothing is sent.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)

START_AFRESH_EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h; the unit names it in RestartForceExitStatus=

_BEATS_PER_DEADLINE = 4  # half the deadline is what sd_watchdog_enabled(3) advises; a busy board may be late twice
_STATUS_CHARACTERS = 200  # `systemctl status` shows one line


class Notifier:
    """Speaks to the systemd that started this process; silent where none did. Never raises, never waits.

    Args:
        environment: ``os.environ``, or a test's; read once.
        pid: This process.
        clock: Seconds that only rise.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        pid: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._socket: socket.socket | None = None
        if self._address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)  # systemd's queue being full must not hold up the live loop
        self.beat_every_s = self._beat_every_s(environment, os.getpid() if pid is None else pid)
        self._next_beat_s = float("-inf")
        self._status = ""
        self._failed = False

    def ready(self) -> None:
        """Everything is started: what waits for this unit may go on."""
        self._send("READY=1")

    def beat(self) -> None:
        """Say that the loop is alive. Call it as often as you like: it costs a look at the clock."""
        if self.beat_every_s is None:
            return
        now_s = self._clock()
        if now_s >= self._next_beat_s:
            self._next_beat_s = now_s + self.beat_every_s
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Say how it is going, for ``systemctl status``; the same text again is not sent."""
        line = " ".join(text.split())[:_STATUS_CHARACTERS]  # a line break would begin another assignment
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def stopping(self) -> None:
        """The process is about to end because it wants to."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Let go of the socket; what is said later is not sent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _beat_every_s(self, environment: Mapping[str, str], pid: int) -> float | None:
        deadline_us, for_pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        if self._socket is None or not deadline_us or (for_pid and for_pid != str(pid)):
            return None
        if not (deadline_us.isascii() and deadline_us.isdigit() and int(deadline_us) > 0):
            logger.warning("WATCHDOG_USEC is %r, which is no time; systemd is told no signs of life", deadline_us)
            return None
        return int(deadline_us) / 1_000_000 / _BEATS_PER_DEADLINE

    def _send(self, message: str) -> None:
        if self._socket is None or self._address is None:
            return
        try:
            self._socket.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError as error:
            if not self._failed:  # once is enough: the next beat comes in seconds
                logger.warning("systemd could not be told %s (%s)", message, error)
            self._failed = True
        else:
            self._failed = False


def _address(name: str) -> bytes | None:
    """The socket's address as the kernel wants it: a leading ``@`` stands for the abstract namespace's NUL."""
    if name.startswith("@"):
        return b"\0" + os.fsencode(name[1:])
    if name.startswith("/"):
        return os.fsencode(name)
    if name:
        logger.warning("NOTIFY_SOCKET is %r, which is no Unix socket; systemd is told nothing", name)
    return None
