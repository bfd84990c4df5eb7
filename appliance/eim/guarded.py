"""Edge Impulse's ImageImpulseRunner with its holes closed: deadlines, whole messages, nothing left behind.

The SDK's own ``init()``, ``hello()`` and ``classify()`` stay in charge; what they call is replaced. The
replacement stands *between* the SDK's two classes, so that ImageImpulseRunner's ``super()`` finds it::

    GuardedRunner -> ImageImpulseRunner (SDK) -> _Guard (here) -> ImpulseRunner (SDK)
"""

from __future__ import annotations

import json
import mmap
import os
import select
import shutil
import socket
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.eim.cell import Cell
from appliance.eim.child import Child, describe
from appliance.eim.features import pack
from appliance.eim.lane import SLOTS
from appliance.eim.replies import (
    ImpulseInfo,
    SharedMemory,
    garbled,
    read_hello,
    read_lane,
    read_shared_features,
)
from appliance.eim.sdk import ImageImpulseRunner, ImpulseRunner
from appliance.errors import (
    ConfigError,
    ImpulseError,
    ImpulseExitedError,
    ImpulseRefusedError,
    ImpulseSilentError,
)
from appliance.frame import Pixels
from appliance.vision import grey

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where Linux keeps POSIX shared memory
MAX_REPLY_BYTES = 1024 * 1024
_LONGEST_SOCKET_PATH_BYTES = 107
_EXIT_GRACE_S = 1.0  # who closes its socket is usually about to exit, and then there is more to tell
_TICK_S = 0.01
_grey = grey  # how it packs a picture for a model of one channel
_DO = "Start it again; if this goes on, go back to the previous version"


class _Guard(ImpulseRunner):  # type: ignore[misc]  # the SDK has no types
    """What the SDK does badly: starting, talking, stopping."""

    _ix: int
    _client: socket.socket | None
    _input_shm: dict[str, npt.NDArray[np.float32]] | None
    _path: Path
    _start_deadline_s: float
    _reply_deadline_s: float
    _memory_bytes: int
    _cell: Cell | None
    _greeted = False
    _deadline = 0.0  # of what is under way, on the monotonic clock
    _child: Child | None = None
    _segments: tuple[SharedMemory, ...] = ()
    _lane_pictures: list[npt.NDArray[np.uint8]]
    _lane_features: list[npt.NDArray[np.float32]]
    _under_way: deque[tuple[int, float]]
    _heard_at: float
    _inbox: bytearray
    info: ImpulseInfo

    def init(self, debug: bool = False) -> dict[str, Any]:  # noqa: ARG002  the SDK's signature
        """Start the process, say hello, attach the shared memory.

        Replaces the SDK's, which waits for ever for a process that has died or stays silent, leaves its
        folder behind, and attaches shared memory through multiprocessing, which starts one more process.
        """
        self._deadline = time.monotonic() + self._start_deadline_s
        folder = Path(tempfile.mkdtemp(prefix="sitecam-"))
        try:
            self._connect(folder / "eim")
        except BaseException:
            self.stop()  # before its folder goes: it may be about to make its socket
            raise
        finally:
            # Once connected nobody needs it, so even a killed camera leaves no folder. Errors don't matter: the
            # only one is that the .eim takes its socket away at the same moment, and then the folder still goes.
            shutil.rmtree(folder, ignore_errors=True)
        self._hello_resp: dict[str, Any] = self.hello()
        name = self._path.name
        segment = read_shared_features(self._hello_resp, self.info, name)
        offered = read_lane(self._hello_resp, self.info, name)
        self._segments = tuple(found for found in (segment, offered and offered[0]) if found)
        if segment:
            self._input_shm = {"array": np.frombuffer(self._attach(segment), np.float32)}
        if offered:
            memory, lane = self._attach(offered[0]), offered[1]
            self._lane_pictures, self._lane_features = lane.pictures(memory), lane.feature_rows(memory)
        self._greeted = True
        return self._hello_resp

    def hello(self) -> dict[str, Any]:
        """The SDK's hello; what it says is checked before the SDK's own init() takes it apart."""
        reply: dict[str, Any] = super().hello()
        self.info = read_hello(reply, self._path.name)
        return reply

    def send_msg(self, msg: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return its reply, without ``id`` and ``success``.

        Replaces the SDK's, which knows no time limit with shared memory, sends half of what is long, fails
        with IndexError or KeyError on what it doesn't expect, and scans replies character by character.
        """
        self.ask(msg)
        return self.hear()

    def ask(self, msg: dict[str, Any]) -> None:
        """Send a request; :meth:`hear` gives its reply. Several may be under way."""
        if self._client is None:
            raise self._stopped()
        self._ix += 1
        now = time.monotonic()
        if self._greeted:
            self._deadline = now + self._reply_deadline_s
        self._under_way.append((self._ix, now))
        self._send(self._client, json.dumps(msg | {"id": self._ix}).encode())

    def hear(self) -> dict[str, Any]:
        """The reply to the oldest request under way, without ``id`` and ``success``."""
        if self._client is None or self._child is None:
            raise self._stopped()
        wanted, asked_at = self._under_way[0]
        if self._greeted:  # who was asked ahead has its time from when the one before was answered
            self._deadline = max(asked_at, self._heard_at) + self._reply_deadline_s
        reply = self._parse(self._receive(self._client, self._child))
        self._under_way.popleft()
        self._heard_at = time.monotonic()
        name = self._path.name
        if self._inbox and not self._under_way:
            raise garbled(f"{name} answered more than it was asked")
        if reply.get("success") is False and reply.get("id", wanted) == wanted:
            raise ImpulseRefusedError(
                f"{name} refused a request ({str(reply.get('error'))[:300]})",
                means="There is no answer for this picture",
                do=_DO,
            )
        if reply.get("id") != wanted:
            raise garbled(f"{name} answered request {str(reply.get('id'))[:50]}, not {wanted}")
        if reply.get("success") is not True:
            raise garbled(f"{name} answered neither success nor failure")
        if not isinstance(reply.get("result", {}), dict):  # the SDK's classify() looks into it
            raise garbled(f"{name} gave the result {str(reply['result'])[:100]!r}")
        return {key: value for key, value in reply.items() if key not in ("id", "success")}

    def stop(self) -> None:
        """End the process and leave nothing of it. May be called at any time, any number of times.

        Replaces the SDK's, which never waits for the process, so that it stays a zombie, and unmaps memory
        that an array may still point to. Here the mapping goes when the last array on it goes.
        """
        client, self._client = self._client, None
        child, self._child = self._child, None
        segments, self._segments = self._segments, ()
        self._input_shm = None
        self._lane_pictures, self._lane_features = [], []
        self._under_way.clear()
        if client:
            client.close()
        if child:
            child.end()
        for segment in segments:  # it was killed and could not tidy up
            (SHARED_MEMORY / segment.name).unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        """Process id of the ``.eim``; 0 once it is stopped."""
        return self._child.pid if self._child else 0

    def _connect(self, path: Path) -> None:
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH_BYTES:
            raise ConfigError(
                f"The folder for temporary files, {path.parent.parent}, has too long a name",
                means="A Unix socket's path must be shorter than 108 bytes",
                do="Set TMPDIR to a shorter one",
            )
        child = self._child = Child(
            self._path, path, deadline=self._deadline, memory_bytes=self._memory_bytes, cell=self._cell
        )
        client = self._client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(self._left())  # so connect() never waits; it may say "try again" instead
        while True:
            try:
                return client.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError, BlockingIOError):  # no socket there yet
                child.drain()
                status = child.wait(_TICK_S)
            if status is not None:
                raise self._exited(status, "before it could be asked anything")
            if time.monotonic() >= self._deadline:
                raise self._silent("made no socket to talk to")

    def _attach(self, offer: SharedMemory) -> mmap.mmap:
        try:
            descriptor = os.open(SHARED_MEMORY / offer.name, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if os.fstat(descriptor).st_size < offer.size_bytes:  # writing past its end would end *us*, by SIGBUS
                    raise garbled(f"{self._path.name} offers shared memory that is too small")
                return mmap.mmap(descriptor, offer.size_bytes)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise garbled(f"{self._path.name} offers shared memory that can't be opened ({error.strerror})") from error

    def _send(self, client: socket.socket, data: bytes) -> None:
        client.settimeout(self._left())
        try:
            client.sendall(data)
        except TimeoutError:
            raise self._silent("took no request") from None
        except OSError as error:
            raise self._hung_up() from error

    def _receive(self, client: socket.socket, child: Child) -> bytes:
        """One reply, without the NUL that ends it; what came after it stays for the next."""
        line = client.fileno()
        poller = select.poll()
        poller.register(line, select.POLLIN)
        poller.register(child.output, select.POLLIN)
        while (end := self._inbox.find(b"\0")) < 0:
            if time.monotonic() >= self._deadline:
                raise self._silent("gave no whole answer" if self._inbox else "gave no answer")
            if len(self._inbox) > MAX_REPLY_BYTES:
                raise garbled(f"{self._path.name} answered without end")
            ready = [descriptor for descriptor, _ in poller.poll(self._left() * 1000)]
            if line in ready:
                try:
                    chunk = client.recv(65536)
                except OSError as error:
                    raise self._hung_up() from error
                if not chunk:
                    raise self._hung_up()
                self._inbox += chunk
            elif child.output in ready and not child.drain():
                poller.unregister(child.output)
        reply = bytes(self._inbox[:end])
        del self._inbox[: end + 1]
        return reply

    def _parse(self, data: bytes) -> dict[str, Any]:
        try:
            reply = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise garbled(f"{self._path.name} answered something that is not JSON ({error})") from error
        if not isinstance(reply, dict):
            raise garbled(f"{self._path.name} answered {str(reply)[:100]!r}, not an object")
        return reply

    def _left(self) -> float:
        return max(0.001, self._deadline - time.monotonic())

    def _silent(self, what: str) -> ImpulseSilentError:
        patience_s = self._reply_deadline_s if self._greeted else self._start_deadline_s
        return ImpulseSilentError(
            f"{self._path.name} {what} within {patience_s:g} s",
            means=self._with_last_words("It hangs or is far too slow, so it was ended"),
            do=_DO,
        )

    def _hung_up(self) -> ImpulseError:
        if self._child is None:
            return self._stopped()
        status = self._child.wait(_EXIT_GRACE_S)
        if status is None:
            return garbled(f"{self._path.name} closed its socket without an answer, and runs on")
        return self._exited(status, "while it was asked")

    def _exited(self, status: int, when: str) -> ImpulseExitedError:
        return ImpulseExitedError(
            f"{self._path.name} ended {when}, {describe(status)}",
            means=self._with_last_words("It can't answer any more"),
            do=_DO,
        )

    def _stopped(self) -> ImpulseExitedError:
        return ImpulseExitedError(f"{self._path.name} was stopped", do="Start it again")

    def _with_last_words(self, means: str) -> str:
        words = self._child.last_words() if self._child else ""
        return f"{means}. It last wrote: {words}" if words else means


class GuardedRunner(ImageImpulseRunner, _Guard):  # type: ignore[misc]  # the SDK has no types
    """The SDK's runner for pictures, guarded. Not thread-safe; appliance.eim.runner holds the lock."""

    def __init__(
        self, path: Path, *, start_deadline_s: float, reply_deadline_s: float, memory_bytes: int, cell: Cell | None
    ) -> None:
        """Prepare; ``init()`` starts it."""
        super().__init__(str(path))
        self._path = path
        self._start_deadline_s = start_deadline_s
        self._reply_deadline_s = reply_deadline_s
        self._memory_bytes = memory_bytes
        self._cell = cell
        self._under_way: deque[tuple[int, float]] = deque()  # id and time of every request not answered yet
        self._heard_at = 0.0
        self._inbox = bytearray()
        self._lane_pictures, self._lane_features = [], []
        self._slots: deque[int] = deque()  # of the fast lane, as they were asked about
        self._next_slot = 0

    @property
    def depth(self) -> int:
        """How many pictures may be under way at once."""
        return SLOTS if self.info.has_lane else 1

    def submit(self, image: Pixels) -> None:
        """Ask about a picture, uint8 [height, width, 3] RGB; :meth:`collect` gives the answer."""
        if self.info.has_lane:
            slot, self._next_slot = self._next_slot, (self._next_slot + 1) % SLOTS
            np.copyto(self._lane_pictures[slot], image)
            self._slots.append(slot)
            self.ask({"classify_lane": {"slot": slot}})
            return
        features = self.features(image)
        elements = {"elements": len(features)}
        self.ask({"classify_shm": elements} if self._input_shm else {"classify": features})

    def collect(self) -> tuple[dict[str, Any], npt.NDArray[np.float32] | None]:
        """The reply about the oldest picture under way, and its features, float32, where the lane carries them."""
        reply = self.hear()
        if not self._slots:
            return reply, None
        return reply, self._lane_features[self._slots.popleft()].copy()

    def features(self, image: Pixels) -> npt.NDArray[np.float32] | list[int]:
        """Pack uint8 [height, width, 3] RGB for the SDK's ``classify()``.

        Straight into the shared memory where there is some: the SDK then assigns that array to itself, which
        numpy skips. Else a list, which is what json.dumps takes.
        """
        if self.isGrayscale:
            image = _grey(image)
        if self._input_shm:
            return pack(image, self._input_shm["array"])
        numbers: list[int] = pack(image).astype(np.uint32).tolist()
        return numbers
