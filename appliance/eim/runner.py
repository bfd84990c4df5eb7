"""Drives an .eim through Edge Impulse's SDK: starts it, asks it about pictures, closes it on any fault."""

from __future__ import annotations

import getpass
import os
import platform
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import numpy.typing as npt

from appliance.eim.cell import Cell
from appliance.eim.label_map import LabelMap, read_label_map
from appliance.eim.replies import ImpulseInfo, read_scores
from appliance.errors import ImpulseExitedError, NotAnImpulseError
from appliance.frame import Pixels

if TYPE_CHECKING:
    from appliance.eim.guarded import GuardedRunner

__all__ = ["Answer", "Impulse", "ImpulseInfo", "RunningImpulse", "start_impulse"]

# What people give by mistake, by the first bytes of the file.
_OTHER_FILES = (
    (b"\xff\xd8\xff", 0, "a JPEG picture"),
    (b"\x89PNG", 0, "a PNG picture"),
    (b"TFL3", 4, "a bare .tflite model"),
    (b"PK\x03\x04", 0, "a zip archive"),
    (b"\x89HDF", 0, "a Keras weights file"),
    (b"\x1f\x8b", 0, "a gzip archive"),
)
_ELF_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64"}


@dataclass(frozen=True, eq=False)
class Answer:
    """What an impulse says of one picture.

    Attributes:
        scores: Probability per label, in the order of the impulse's labels.
        elapsed_ms: Wall time from asking, or from the answer before where it was asked ahead, to the checked
            answer, milliseconds.
        features: float32 [features], what the backbone made of the picture; None where the ``.eim`` doesn't tell.
    """

    scores: Mapping[str, float]
    elapsed_ms: float
    features: npt.NDArray[np.float32] | None = None


class Impulse(Protocol):
    """A running model."""

    @property
    def info(self) -> ImpulseInfo:
        """What it says of itself."""

    @property
    def depth(self) -> int:
        """How many pictures may be under way at once, at least 1."""

    def submit(self, image: Pixels) -> None:
        """Ask it about uint8 [height, width, 3] RGB of exactly ``info.input``'s size; don't wait.

        Raises:
            ImpulseError: It can't answer any more.
            ValueError: The picture has another size or type, or ``depth`` are under way; nothing was asked.
        """

    def collect(self) -> Answer:
        """Wait for the answer about the oldest picture under way.

        Raises:
            ImpulseError: It can't answer any more.
            ValueError: Nothing is under way.
        """

    def classify(self, image: Pixels) -> Answer:
        """Submit and collect, while nothing else is under way.

        Raises:
            ImpulseError: It can't answer any more.
            ValueError: The picture has another size or type, or others are under way; nothing was asked.
        """

    def close(self) -> None:
        """End it; harmless when it has ended."""


class RunningImpulse:
    """An ``.eim`` that runs. Safe to use from several threads. After any fault it is closed, for good."""

    def __init__(self, runner: GuardedRunner, name: str, label_map: LabelMap | None = None) -> None:
        """Take over a runner that was started; :func:`start_impulse` does both."""
        self._runner = runner
        self._name = name
        self._lock = threading.RLock()  # re-entrant: a signal's handler may close it in the middle of classify()
        self._closed_because = ""
        self._submitted_at: deque[float] = deque()  # time.perf_counter()
        self._answered_at = 0.0
        self._told: ImpulseInfo = runner.info
        self._label_map = label_map
        self._info = label_map.info(self._told, name) if label_map else self._told

    @property
    def info(self) -> ImpulseInfo:
        """What it says of itself."""
        return self._info

    @property
    def pid(self) -> int:
        """Its process id; 0 once it is closed."""
        return self._runner.pid

    @property
    def depth(self) -> int:
        """How many pictures may be under way at once."""
        return self._runner.depth

    def submit(self, image: Pixels) -> None:
        """Ask it about uint8 [height, width, 3] RGB of exactly ``info.input``'s size; don't wait.

        Raises:
            ImpulseExitedError: The process ended, or this object was closed.
            ImpulseSilentError: It takes no request.
            ValueError: The picture has another size or type, or enough are under way; nothing was asked.
        """
        wanted = (self._info.input.height, self._info.input.width, 3)
        if image.shape != wanted or image.dtype != "uint8":
            raise ValueError(f"{self._name} takes uint8 {wanted}, not {image.dtype} {image.shape}")
        with self._answering():
            if len(self._submitted_at) >= self._runner.depth:
                raise ValueError(f"{self._name} works on {len(self._submitted_at)} pictures already")
            with self._closed_on_any_fault():
                self._runner.submit(image)
            self._submitted_at.append(time.perf_counter())

    def collect(self) -> Answer:
        """Wait for the answer about the oldest picture under way.

        Raises:
            ImpulseExitedError: The process ended, or this object was closed.
            ImpulseSilentError: No answer before the deadline.
            ImpulseGarbledError: An answer that isn't the protocol's, or a score that is not one.
            ImpulseRefusedError: It answered ``success: false``.
            ValueError: Nothing is under way.
        """
        with self._answering():
            if not self._submitted_at:
                raise ValueError(f"{self._name} was not asked anything")
            with self._closed_on_any_fault():
                reply, features = self._runner.collect()
                scores = read_scores(reply, self._told.labels, self._name)
            now = time.perf_counter()
            begun = max(self._submitted_at.popleft(), self._answered_at)
            self._answered_at = now
            if self._label_map:  # and its features, if any, are of a backbone that nobody here knows
                return Answer(self._label_map.scores(scores), (now - begun) * 1000)
            return Answer(scores, (now - begun) * 1000, features)

    def classify(self, image: Pixels) -> Answer:
        """Submit and collect; raises what they raise. Several threads take turns."""
        with self._answering():
            if self._submitted_at:
                raise ValueError(f"{self._name} works on {len(self._submitted_at)} pictures already")
            self.submit(image)
            return self.collect()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        with self._lock:
            if self._closed_because:
                raise ImpulseExitedError(
                    f"{self._name} is closed", means=self._closed_because, do="Start the .eim again"
                )
            yield

    @contextmanager
    def _closed_on_any_fault(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            # Whatever it was, the next reply could belong to this request: no way back to being in step.
            self._close(f"It failed before: {error or type(error).__name__}")
            raise

    def close(self) -> None:
        """End the process and everything of it; harmless when it has ended.

        Waits for a classify() under way, which has a deadline.
        """
        with self._lock:
            self._close("It was asked to stop")

    def _close(self, because: str) -> None:
        self._closed_because = self._closed_because or because
        self._runner.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def start_impulse(
    path: Path,
    *,
    start_deadline_s: float = 20,
    reply_deadline_s: float = 5,
    memory_bytes: int = 0,
    cell: Cell | None = None,
) -> RunningImpulse:
    """Start an ``.eim`` and greet it. One with a label map beside it answers in our words.

    Args:
        path: The file.
        start_deadline_s: From start to the answer to ``hello``, seconds.
        reply_deadline_s: For every answer after that, seconds.
        memory_bytes: So much memory of its own it may have; 0 for no limit.
        cell: What it must not see; None for an ``.eim`` that runs with all rights of this process. Where the system
            allows no cell it runs without, and :func:`appliance.eim.cell.cell_state` says why.

    Raises:
        NotAnImpulseError: The file isn't a runnable .eim, or one that doesn't classify pictures.
        ImpulseExitedError: The process ended before it could be asked.
        ImpulseSilentError: It made no socket, or gave no answer, before the deadline.
        ImpulseGarbledError: What it says of itself isn't the protocol's.
        ImpulseRefusedError: It refused ``hello``.
        ConfigError: The SDK or OpenCV is not installed, or TMPDIR is too long.
    """
    check_file(path)
    label_map = read_label_map(path)
    # Here, not above: it imports OpenCV, which those who only want the types above needn't pay for.
    from appliance.eim.guarded import GuardedRunner

    runner = GuardedRunner(
        path,
        start_deadline_s=start_deadline_s,
        reply_deadline_s=reply_deadline_s,
        memory_bytes=memory_bytes,
        cell=cell,
    )
    try:
        runner.init()
        return RunningImpulse(runner, path.name, label_map)
    except BaseException:
        runner.stop()
        raise


def check_file(path: Path, *, executable: bool = True) -> None:
    """Look at a file's first bytes for what people give by mistake.

    Args:
        path: The file.
        executable: Whether it must have its executable bit already; a download has none.

    Raises:
        NotAnImpulseError: It can't be an ``.eim`` for this machine, with what it is instead.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except PermissionError as error:
        do = "Copy it to where this user may read it, such as /tmp, and name that"
        raise _not_an_impulse(f"{path} can't be read by user {getpass.getuser()}", do) from error
    except OSError as error:
        raise _not_an_impulse(f"{path} can't be read ({error.strerror})", "Check the path") from error
    if not head:
        raise _not_an_impulse(f"{path} is empty", "Build or fetch it again")
    for magic, offset, what in _OTHER_FILES:
        if head[offset:].startswith(magic):
            raise _not_an_impulse(f"{path} is {what}, not an .eim", "Give the .eim that was built from it")
    machine = elf_machine(head)
    if machine and machine != platform.machine():
        raise _not_an_impulse(
            f"{path} was built for {machine}, this machine is {platform.machine()}",
            "Fetch the .eim that Edge Impulse builds for this machine",
        )
    if not machine and not head.startswith(b"#!"):
        raise _not_an_impulse(f"{path} is not a program", "Give an .eim")
    if executable and not os.access(path, os.X_OK):
        raise _not_an_impulse(f"{path} is not executable", f"Run: chmod +x {path}")


def elf_machine(head: bytes) -> str:
    """The processor an ELF file was built for; empty for other files."""
    if not head.startswith(b"\x7fELF"):
        return ""
    number = int.from_bytes(head[18:20], "little" if head[5:6] == b"\x01" else "big")
    return _ELF_MACHINES.get(number, f"processor {number}")


def _not_an_impulse(what: str, do: str) -> NotAnImpulseError:
    return NotAnImpulseError(what, means="It can't be run, so nothing is classified by it", do=do)
