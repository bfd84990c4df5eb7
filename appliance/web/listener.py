"""The page's socket: takes connections, and lets no crowd of them hold up anybody else.

Whoever connects and then says nothing, or a byte now and then, in the TLS handshake or in a request, costs a file of
this process; the camera needs files too. So only so many connections may be waited for: when one more comes, the one
that has kept us waiting longest is hung up. Connections whose request is being answered are not touched.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Collection
from typing import Any

MOST_WAITED_FOR = 64
MOST = 400


class Listener(socket.socket):
    """A listening socket, for one asyncio loop.

    Attributes:
        answering: Tells the connections, by file number, whose request is being answered.
    """

    answering: Callable[[], Collection[int]]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.answering = frozenset
        self._taken: list[socket.socket] = []  # oldest first

    def accept(self) -> tuple[socket.socket, Any]:
        """Take the next connection; hang up another one where too many are waited for."""
        connection, address = super().accept()
        # asyncio does this itself, but only where the listening socket names its protocol; without it every answer
        # waits for the 40 ms that the other side takes to acknowledge its headers
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._taken = [each for each in self._taken if each.fileno() >= 0]
        busy = self.answering()
        waited_for = [each for each in self._taken if each.fileno() not in busy]
        if len(waited_for) >= MOST_WAITED_FOR:
            _hang_up(waited_for[0])
            self._taken.remove(waited_for[0])  # it closes a moment later; the next one must be another
        if len(self._taken) >= MOST:
            _hang_up(connection)
        self._taken.append(connection)
        return connection, address


def _hang_up(connection: socket.socket) -> None:
    """Its end; whoever reads from it, here or there, hears of it."""
    with contextlib.suppress(OSError):  # the other side was quicker
        connection.shutdown(socket.SHUT_RDWR)
