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
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.eim.child import Child, describe
from appliance.eim.features import pack
from appliance.eim.replies import ImpulseInfo, SharedFeatures, garbled, read_hello, read_shared_features
from appliance.eim.sdk import ImageImpulseRunner, ImpulseRunner
from appliance.errors import (
    ConfigError,
    ImpulseError,
    ImpulseExitedError,
    ImpulseRefusedError,
    ImpulseSilentError,
)
from appliance.frame import Pixels

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where Linux keeps POSIX shared memory
MAX_REPLY_BYTES = 1024 * 1024
_LONGEST_SOCKET_PATH_BYTES = 107
_EXIT_GRACE_S = 1.0  # who closes its socket is usually about to exit, and then there is more to tell
_TICK_S = 0.01
_DO = "Start it again; if this goes on, go back to the previous version"


class _Guard(ImpulseRunner):  # type: ignore[misc]  # the SDK has no types
    """What the SDK does badly: starting, talking, stopping."""

    _ix: int
    _client: socket.socket | None
    _input_shm: dict[str, npt.NDArray[np.float32]] | None
    _path: Path
    _start_deadline_s: float
    _reply_deadline_s: float
    _greeted = False
    _deadline = 0.0  # of what is under way, on the monotonic clock
    _child: Child | None = None
    _segment: SharedFeatures | None = None
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
        self._segment = read_shared_features(self._hello_resp, self.info, self._path.name)
        if self._segment:
            self._input_shm = {"array": self._attach(self._segment)}
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
        if self._client is None or self._child is None:
            raise self._stopped()
        self._ix += 1
        if self._greeted:
            self._deadline = time.monotonic() + self._reply_deadline_s
        self._send(self._client, json.dumps(msg | {"id": self._ix}).encode())
        reply = self._parse(self._receive(self._client, self._child))
        name = self._path.name
        if reply.get("success") is False and reply.get("id", self._ix) == self._ix:
            raise ImpulseRefusedError(
                f"{name} refused a request ({str(reply.get('error'))[:300]})",
                means="There is no answer for this picture",
                do=_DO,
            )
        if reply.get("id") != self._ix:
            raise garbled(f"{name} answered request {str(reply.get('id'))[:50]}, not {self._ix}")
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
        segment, self._segment = self._segment, None
        self._input_shm = None
        if client:
            client.close()
        if child:
            child.end()
        if segment:  # it was killed and could not tidy up
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
        child = self._child = Child(self._path, str(path), deadline=self._deadline)
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

    def _attach(self, offer: SharedFeatures) -> npt.NDArray[np.float32]:
        size_bytes = offer.elements * np.dtype(np.float32).itemsize
        try:
            descriptor = os.open(SHARED_MEMORY / offer.name, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if os.fstat(descriptor).st_size < size_bytes:  # writing past its end would end *us*, by SIGBUS
                    raise garbled(f"{self._path.name} offers shared memory that is too small")
                memory = mmap.mmap(descriptor, size_bytes)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise garbled(f"{self._path.name} offers shared memory that can't be opened ({error.strerror})") from error
        return np.frombuffer(memory, np.float32)

    def _send(self, client: socket.socket, data: bytes) -> None:
        client.settimeout(self._left())
        try:
            client.sendall(data)
        except TimeoutError:
            raise self._silent("took no request") from None
        except OSError as error:
            raise self._hung_up() from error

    def _receive(self, client: socket.socket, child: Child) -> bytes:
        """One reply, without the NUL that ends it."""
        data = b""
        line = client.fileno()
        poller = select.poll()
        poller.register(line, select.POLLIN)
        poller.register(child.output, select.POLLIN)
        while not data.endswith(b"\0"):
            if time.monotonic() >= self._deadline:
                raise self._silent("gave no whole answer" if data else "gave no answer")
            if len(data) > MAX_REPLY_BYTES:
                raise garbled(f"{self._path.name} answered without end")
            ready = [descriptor for descriptor, _ in poller.poll(self._left() * 1000)]
            if line in ready:
                try:
                    chunk = client.recv(65536)
                except OSError as error:
                    raise self._hung_up() from error
                if not chunk:
                    raise self._hung_up()
                data += chunk
            elif child.output in ready and not child.drain():
                poller.unregister(child.output)
        return data[:-1]

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

    def __init__(self, path: Path, *, start_deadline_s: float, reply_deadline_s: float) -> None:
        """Prepare; ``init()`` starts it."""
        super().__init__(str(path))
        self._path = path
        self._start_deadline_s = start_deadline_s
        self._reply_deadline_s = reply_deadline_s

    def features(self, image: Pixels) -> npt.NDArray[np.float32] | list[int]:
        """Pack uint8 [height, width, 3] RGB for ``classify()``.

        Straight into the shared memory where there is some: the SDK then assigns that array to itself, which
        numpy skips. Else a list, which is what json.dumps takes.
        """
        if self.isGrayscale:
            image = _grey(image)
        if self._input_shm:
            return pack(image, self._input_shm["array"])
        numbers: list[int] = pack(image).astype(np.uint32).tolist()
        return numbers


def _grey(image: Pixels) -> Pixels:
    """Luma (ITU-R 601, as Edge Impulse's image block computes it) in all three channels."""
    luma = (image.astype(np.uint32) @ np.array([299, 587, 114], np.uint32) + 500) // 1000
    return np.repeat(luma.astype(np.uint8)[..., None], 3, axis=2)
