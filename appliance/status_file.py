"""The file in which a camera process tells other processes how it is, and how to read it.

The camera process replaces ``status.json`` every few seconds, so that ``sitecam status`` and the night process know
how it is without asking its page; they also know when it is dead, because the file names its process.

Where systemd gives a runtime folder (``RuntimeDirectory=``), which is memory, the file lies there and is replaced
every five seconds; a link in the state folder leads to it, so that readers need no environment. Without one it lies
in the state folder itself. There every replacement costs the card some 20 kB, so it is written every five minutes,
and at once when what is wrong changes: 6 MB a day instead of 350.
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.files import write_atomically
from appliance.status import ProcessState, Status, started_ticks

if TYPE_CHECKING:
    from pydantic import TypeAdapter

logger = logging.getLogger(__name__)

FILE = "status.json"

_MEMORY_EVERY_S = 5.0
_DISK_EVERY_S = 300.0


class StatusFile:
    """Where a camera process writes its status.

    Args:
        state_dir: The camera's state folder.
        environment: ``os.environ``, or a test's: systemd names the runtime folder in RUNTIME_DIRECTORY.
    """

    def __init__(self, state_dir: Path, environment: Mapping[str, str]) -> None:
        self._known = state_dir / FILE
        runtime = environment.get("RUNTIME_DIRECTORY", "").split(":")[0]
        self._path = Path(runtime) / FILE if runtime else self._known
        self.every_s = _MEMORY_EVERY_S if runtime else _DISK_EVERY_S

    def write(self, status: Status) -> None:
        """Replace the file.

        Raises:
            OSError: The disk refused; what was written before still stands.
        """
        if self._path != self._known and not _leads_to(self._known, self._path):
            link = self._known.with_name(f".{FILE}.{secrets.token_hex(4)}.tmp")
            link.symlink_to(self._path)
            link.replace(self._known)
        write_atomically(self._path, _adapter().dump_json(status, indent=1) + b"\n")


def read_status(state_dir: Path) -> Status | None:
    """What the camera process of a state folder wrote last; None where there is nothing that can be read.

    A damaged file, or one of another release, is logged and counts as none.
    """
    path = state_dir / FILE
    try:
        return _adapter().validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s can't be read (%s)", path, str(error).splitlines()[0])
        return None


def as_json(status: Status) -> bytes:
    """For programs: the file's own shape."""
    return _adapter().dump_json(status, indent=1)


def complaint(state_dir: Path, now: datetime | None = None) -> str:
    """What is wrong with a camera's live loop, in sentences; empty where nothing is.

    Args:
        state_dir: Its state folder.
        now: Timezone-aware; the clock's if left out.
    """
    return complaint_of(read_status(state_dir), now)


def complaint_of(status: Status | None, now: datetime | None = None) -> str:
    """The same, of a status that was read already."""
    if status is None:
        return "The camera process has not run here since the machine's start, or left no word."
    if status.ended_utc is not None:
        return f"The camera process ended in order at {_moment(status.ended_utc)}."
    if not status.alive:
        return f"The camera process is dead. It was last heard of at {_moment(status.written_utc)}."
    late_s = status.late_s(now or datetime.now(UTC))
    if late_s:
        return f"The camera process is there, but has said nothing for {late_s / 60:.0f} minutes."
    return " ".join(status.faults)


def own_process(release: str) -> ProcessState:
    """This process, started about now."""
    pid = os.getpid()
    return ProcessState(pid, started_ticks(pid) or 0, datetime.now(UTC), release)


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _leads_to(link: Path, path: Path) -> bool:
    return link.is_symlink() and link.readlink() == path


@functools.cache
def _adapter() -> TypeAdapter[Status]:
    """Imported where it is needed: the night process looks once."""
    from pydantic import TypeAdapter

    return TypeAdapter(Status)
