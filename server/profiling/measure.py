"""Measures an .eim of ours on this machine: time per picture, memory, size.

The real file runs as the live loop runs it, over its socket and its fast lane (appliance/eim/lane.py). Edge Impulse's
SDK is left out: it is installed on cameras, not on servers, and a picture's time must not hold its start.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.board import memory_of
from appliance.eim.child import Child, describe
from appliance.eim.lane import SLOTS
from appliance.eim.replies import SharedMemory, garbled, read_hello, read_lane, read_scores
from appliance.errors import ImpulseExitedError, ImpulseRefusedError, ImpulseSilentError
from appliance.frame import Pixels

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where Linux keeps POSIX shared memory
_START_S = 60.0
_ANSWER_S = 60.0
_WARM_UP = 5  # the first answers wait for pages of the file
_TICK_S = 0.01
_CHUNK_BYTES = 65536


@dataclass(frozen=True)
class Measured:
    """What an ``.eim`` took.

    Attributes:
        median_ms: From handing a picture over to having its scores.
        p99_ms: 99 of 100 pictures took less.
        inferences: How many were measured.
        pss_bytes: The most that the process had in memory, other processes' share of its pages left out.
        rss_bytes: Likewise, shared pages counted whole.
        file_bytes: Size of the ``.eim``.
    """

    median_ms: float
    p99_ms: float
    inferences: int
    pss_bytes: int | None
    rss_bytes: int | None
    file_bytes: int


def measure(eim: Path, pictures: Pixels, *, inferences: int) -> Measured:
    """Run an ``.eim`` of ours, ask it, and end it.

    Args:
        eim: The file.
        pictures: uint8 [n, height, width, 3], of its own size; asked in turn.
        inferences: How often to ask, after a few that aren't counted.

    Raises:
        ImpulseError: It doesn't answer as ours do.
    """
    times_ms: list[float] = []
    memories: list[tuple[int, int]] = []
    with _running(eim) as asked:
        for number in range(-_WARM_UP, inferences):
            took_ms = asked.classify(pictures[number % len(pictures)])
            if number >= 0:
                times_ms.append(took_ms)
            if number in (0, inferences // 2, inferences - 1):  # between pictures: looking takes milliseconds
                memories += filter(None, [memory_of(asked.pid)])
    return Measured(
        median_ms=statistics.median(times_ms),
        p99_ms=float(np.percentile(times_ms, 99)),
        inferences=inferences,
        pss_bytes=max((pss for pss, _ in memories), default=None),
        rss_bytes=max((rss for _, rss in memories), default=None),
        file_bytes=eim.stat().st_size,
    )


class _Asked:
    """A started ``.eim`` that was greeted."""

    def __init__(self, eim: Path, child: Child, client: socket.socket) -> None:
        self._name = eim.name
        self._child = child
        self._client = client
        self._inbox = b""
        self._number = 0
        self._slot = 0
        hello = self._ask({"hello": 1})
        info = read_hello(hello, self._name)
        self._labels = info.labels
        offered = read_lane(hello, info, self._name)
        if offered is None:
            raise garbled(f"{self._name} offers no fast lane")
        self._slots = offered[1].pictures(_attached(offered[0], self._name))

    @property
    def pid(self) -> int:
        return self._child.pid

    def classify(self, picture: npt.NDArray[np.uint8]) -> float:
        """Ask for one picture, uint8 [height, width, 3]; the milliseconds that it took."""
        begun = time.perf_counter()
        np.copyto(self._slots[self._slot], picture)
        reply = self._ask({"classify_lane": {"slot": self._slot}})
        took_ms = (time.perf_counter() - begun) * 1000
        read_scores(reply, self._labels, self._name)
        self._slot = (self._slot + 1) % SLOTS
        return took_ms

    def _ask(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self._number += 1
        try:
            self._client.sendall(json.dumps({**body, "id": self._number}).encode() + b"\0")
            while b"\0" not in self._inbox:
                chunk = self._client.recv(_CHUNK_BYTES)
                if not chunk:
                    raise self._ended()
                self._inbox += chunk
        except TimeoutError:
            raise ImpulseSilentError(f"{self._name} gave no answer within {_ANSWER_S:.0f} s") from None
        except OSError as error:
            raise self._ended() from error
        line, _, self._inbox = self._inbox.partition(b"\0")
        reply: dict[str, Any] = json.loads(line)
        if reply.get("success") is not True:
            raise ImpulseRefusedError(f"{self._name} refused: {reply.get('error')}")
        return reply

    def _ended(self) -> ImpulseExitedError:
        return _ended(self._name, self._child)


@contextmanager
def _running(eim: Path) -> Iterator[_Asked]:
    with tempfile.TemporaryDirectory(prefix="sitecam-") as folder, socket.socket(socket.AF_UNIX) as client:
        deadline = time.monotonic() + _START_S
        child = Child(eim, Path(folder) / "eim", deadline=deadline)
        try:
            _connect(client, Path(folder) / "eim", child, eim.name, deadline)
            client.settimeout(_ANSWER_S)
            yield _Asked(eim, child, client)
        finally:
            child.end()


def _connect(client: socket.socket, path: Path, child: Child, name: str, deadline: float) -> None:
    while True:
        try:
            return client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):  # no socket there yet
            child.drain()
        if child.wait(_TICK_S) is not None:
            raise _ended(name, child)
        if time.monotonic() >= deadline:
            raise ImpulseSilentError(f"{name} made no socket within {_START_S:.0f} s")


def _attached(offer: SharedMemory, name: str) -> mmap.mmap:
    try:
        descriptor = os.open(_SHARED_MEMORY / offer.name, os.O_RDWR | os.O_NOFOLLOW)
        try:
            return mmap.mmap(descriptor, offer.size_bytes)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise garbled(f"{name} offers shared memory that can't be used ({error})") from error


def _ended(name: str, child: Child) -> ImpulseExitedError:
    status = child.wait(1.0)
    how = "hung up" if status is None else f"ended {describe(status)}"
    return ImpulseExitedError(f"{name} {how} ({child.last_words() or 'it said nothing'})")
