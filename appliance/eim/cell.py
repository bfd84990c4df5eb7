"""What an .eim must not see, and whether this system lets it be kept from it. The work is cell_launcher.py's."""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from appliance.paths import CameraPaths

if TYPE_CHECKING:
    from appliance.config import Settings

logger = logging.getLogger(__name__)

LAUNCHER = Path(__file__).with_name("cell_launcher.py")
# Homes, sticks and cards, sockets and status files of this and other services, settings. What holds the Python that
# runs us is left alone: the .eim needs that.
ELSEWHERE = tuple(map(Path, ("/home", "/root", "/media", "/mnt", "/run", "/etc/sitecam")))
_PROBE_S = 20.0
_MOST_TOLD_BYTES = 4096


@dataclass(frozen=True)
class Cell:
    """What an ``.eim`` runs without, besides a network and devices.

    Attributes:
        hide: Files and folders that it finds empty. Those that aren't there are no matter.
        keep: Files and folders that it can read and not write, also inside hidden ones.
    """

    hide: tuple[Path, ...]
    keep: tuple[Path, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """A camera's: nothing of its state but the models, no secrets, no other place where pictures may lie."""
        paths = CameraPaths(settings.state_dir)
        named = (settings.camera.path, settings.mqtt.password_file, settings.webhook.secret_file)
        given = [path for path in named if path != Path()]
        return cls(hide=(paths.root, *_not_needed([*given, *ELSEWHERE])), keep=(paths.models,))

    def command(self, report: int, memory_bytes: int, program: Path | None, *arguments: str, share: Path) -> list[str]:
        """The command line that starts a program in this cell.

        Args:
            report: A descriptor that the launcher inherits; the launcher says there how it goes.
            memory_bytes: So much memory of its own it may have; 0 for no limit.
            program: The executable; None to make the cell and end.
            arguments: What it is called with.
            share: A folder that it reads and writes.
        """
        hidden = [path.resolve() for path in self.hide]
        kept = [path.resolve() for path in self.keep if path.exists()]
        program = program and program.resolve()  # a link to it may lie in what is hidden
        if program and _is_within(program, hidden) and not _is_within(program, kept):
            kept.append(program)
        shared = [path for path in (share.resolve(),) if _is_within(path, hidden)]
        return [
            *(sys.executable, "-I", "-S", "-E", str(LAUNCHER)),
            *(str(report), str(os.getpid()), str(memory_bytes)),
            *(f"hide={path}" for path in hidden),
            *(f"keep={path}" for path in kept),
            *(f"share={path}" for path in shared),
            *("--", *([str(program)] if program else []), *arguments),
        ]


@dataclass(frozen=True)
class CellState:
    """Whether an ``.eim`` runs in a cell here.

    Attributes:
        works: It does.
        why: A sentence for a person.
    """

    works: bool
    why: str


_state: CellState | None = None
_probing = threading.Lock()


def cell_state() -> CellState:
    """What the last start of an ``.eim`` in this process showed; before there was one, it is tried out, once."""
    with _probing:
        if _state is None:
            _try_out()
        return _state or CellState(False, "Whether a model can run in a cell could not be tried out in time")


def start_in_cell(
    cell: Cell, program: Path | None, *arguments: str, output: int, share: Path, memory_bytes: int, deadline: float
) -> subprocess.Popen[bytes] | None:
    """Start a program in a cell and wait until it is about to run; it leads a session of its own.

    Args:
        cell: What it must not see.
        program: The executable; None to make the cell and end.
        arguments: What it is called with.
        output: The descriptor for stdout and stderr.
        share: A folder that it reads and writes.
        memory_bytes: So much memory of its own it may have; 0 for no limit.
        deadline: On the monotonic clock: how long to wait. After that the process is given back as it is.

    Returns:
        The process; None where no cell could be made, and :func:`cell_state` says why.

    Raises:
        OSError: The cell stands, and the program can't be run.
    """
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            cell.command(writing, memory_bytes, program, *arguments, share=share),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C in a terminal is for the program that owns it
            pass_fds=(writing,),
        )
    except OSError as error:
        os.close(reading)
        _note(f"its launcher can't be run: {error}")
        return None
    finally:
        os.close(writing)
    try:
        told = _read_until(reading, deadline)
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        os.close(reading)
    if told is None:
        return process
    in_cell, _, failure = told.rpartition("\n")
    if in_cell:
        _note("")
    if in_cell and not failure:
        return process
    status = process.wait()
    number, _, words = failure.partition(" ")
    if in_cell:
        raise OSError(int(number), words)
    _note(words or f"its launcher ended with status {status}")
    return None


def _read_until(descriptor: int, deadline: float) -> str | None:
    """What was written until the other side closed; None if it didn't before the deadline."""
    told = b""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
        data = os.read(descriptor, _MOST_TOLD_BYTES)
        if not data:
            return told.decode("utf-8", "replace")
        told += data
    return None


def _note(failure: str) -> None:
    """Remember how a start went, and log it where it is news; no failure: in a cell."""
    global _state  # what is true of this system, as this process finds it
    before = _state
    if failure:
        _state = CellState(False, f"A model runs without a cell: this system doesn't allow one ({failure})")
    else:
        _state = CellState(
            True, "A model runs in a cell: without network and devices, and without what the camera keeps"
        )
    if failure and (before is None or before.works):
        logger.warning("%s. It can reach the network and read what this user can read", _state.why)
    elif before and not before.works and not failure:
        logger.info("%s", _state.why)


def _try_out() -> None:
    with tempfile.TemporaryDirectory(prefix="sitecam-") as folder, Path(os.devnull).open("wb") as output:
        process = start_in_cell(
            Cell(hide=tuple(_not_needed(ELSEWHERE))),
            None,
            output=output.fileno(),
            share=Path(folder),
            memory_bytes=0,
            deadline=time.monotonic() + _PROBE_S,
        )
    if process:
        process.kill()  # it has ended, or takes far too long
        process.wait()


def _not_needed(places: Iterable[Path]) -> list[Path]:
    needed = [Path(path) for path in (sys.prefix, sys.base_prefix, sys.executable)]
    needed += [path.resolve() for path in needed]
    return [place for place in places if not any(_is_within(path, [place.resolve()]) for path in needed)]


def _is_within(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
