"""The process of an .eim: started in a session of its own, its last words kept, always ended and reaped."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

from appliance.eim.cell import Cell, start_in_cell
from appliance.errors import NotAnImpulseError

logger = logging.getLogger(__name__)

TERM_GRACE_S = 2.0  # from SIGTERM to SIGKILL
_TOO_LITTLE = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)
_KEPT_BYTES = 4096
_TOLD_LINES = 3
_TOLD_CHARACTERS = 400
_TICK_S = 0.01


class Child:
    """One running ``.eim``.

    Attributes:
        output: Descriptor that becomes readable when it writes to stdout or stderr.
    """

    def __init__(
        self, path: Path, socket: Path, *, deadline: float, memory_bytes: int = 0, cell: Cell | None = None
    ) -> None:
        """Start it.

        Args:
            path: The executable.
            socket: What it is called with; it may write in the folder of that.
            deadline: On the monotonic clock: until when a file that is still being written is waited for.
            memory_bytes: So much memory of its own it may have; 0 for no limit.
            cell: What it must not see. Where the system allows no cell it runs without, which is logged.

        Raises:
            NotAnImpulseError: The system can't run the file.
            OSError: It lacks memory, processes or descriptors.
        """
        self._kept = b""
        # One pipe for both streams: Edge Impulse's own runners write their errors to stdout.
        self.output, writing = os.pipe()
        try:
            self._process = _start(path, socket, writing, deadline=deadline, memory_bytes=memory_bytes, cell=cell)
        except BaseException:
            os.close(self.output)
            raise
        finally:
            os.close(writing)
        os.set_blocking(self.output, False)

    @property
    def pid(self) -> int:
        """Process id; also that of its group and session."""
        return self._process.pid

    def drain(self) -> bool:
        """Take in what it has written, keep the end of it; False once it can write no more.

        It would block on a full pipe if nobody did.
        """
        while True:
            try:
                data = os.read(self.output, 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._kept = (self._kept + data)[-_KEPT_BYTES:]

    def status(self) -> int | None:
        """Exit status, negative for a signal's number; None while it runs. It stays to be reaped by end()."""
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def wait(self, seconds: float) -> int | None:
        """Wait that long at most for it to end; return :meth:`status`."""
        deadline = time.monotonic() + seconds
        while (status := self.status()) is None and time.monotonic() < deadline:
            time.sleep(_TICK_S)
        return status

    def last_words(self) -> str:
        """The last lines of what it wrote, as one line; empty if it wrote nothing."""
        self.drain()
        lines = self._kept.decode("utf-8", "replace").split("\n")
        told = " / ".join([line.strip() for line in lines if line.strip()][-_TOLD_LINES:])
        return told[-_TOLD_CHARACTERS:]

    def end(self) -> None:
        """End it and whatever it started: SIGTERM, a grace, SIGKILL. Harmless when it has ended."""
        if self._process.returncode is not None:
            return
        # Nobody else can have its id while it isn't reaped: so the group is signalled first, and whole.
        os.killpg(self.pid, signal.SIGTERM)
        self.wait(TERM_GRACE_S)
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self.output)


def _hold_back(pid: int, memory_bytes: int) -> None:
    """Should memory run out, it goes before the camera does; and it may not take all of it."""
    try:
        if memory_bytes:  # RLIMIT_DATA counts what is its own, not what it maps of files or shared memory
            resource.prlimit(pid, resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
        Path(f"/proc/{pid}/oom_score_adj").write_text("500", encoding="ascii")
    except OSError as error:  # it has ended already, which whoever waits for its socket will say
        logger.debug("The limits of process %d could not be set (%s)", pid, error)


def describe(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    more = "; the system may have run out of memory" if status == -signal.SIGKILL else ""
    return f"by {name}{more}"


def _start(
    path: Path, socket: Path, output: int, *, deadline: float, memory_bytes: int, cell: Cell | None
) -> subprocess.Popen[bytes]:
    while True:
        try:
            if cell and (
                process := start_in_cell(
                    cell,
                    path,
                    str(socket),
                    output=output,
                    share=socket.parent,
                    memory_bytes=memory_bytes,
                    deadline=deadline,
                )
            ):
                return process
            return _start_plainly([str(path.absolute()), str(socket)], output, memory_bytes)
        except OSError as error:
            # "Text file busy": another thread forked while the file was being written, and its child holds
            # the descriptor until it execs. That passes in milliseconds.
            if error.errno == errno.ETXTBSY and time.monotonic() < deadline:
                time.sleep(_TICK_S)
                continue
            if error.errno in _TOO_LITTLE:
                raise  # not the file's fault
            raise NotAnImpulseError(
                f"{path.name} can't be run ({os.strerror(error.errno or 0)})",
                means="It is damaged, was built for another processor, or needs a program that isn't here",
                do="Build the .eim again on or for this machine",
            ) from error


def _start_plainly(command: list[str], output: int, memory_bytes: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # Ctrl-C in a terminal is for the program that owns it
    )
    _hold_back(process.pid, memory_bytes)
    return process
