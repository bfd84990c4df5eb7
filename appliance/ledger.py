"""The camera's own account of what left it: one JSON line per message, for its owner to read."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path


def append(path: Path, line: Mapping[str, object]) -> None:
    """Add a line; the camera and the night process may do so at once.

    A line that a power cut left unfinished is ended first, so that it costs only itself.

    Args:
        path: The ledger, made where it is missing.
        line: What JSON can hold.

    Raises:
        OSError: The disk refused.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # closing lets go of it
        end = file.seek(0, os.SEEK_END)
        whole = end == 0 or os.pread(file.fileno(), 1, end - 1) == b"\n"
        data = (b"" if whole else b"\n") + json.dumps(line, sort_keys=True).encode() + b"\n"
        while data:
            data = data[file.write(data) :]


def note_page_request(path: Path, *, to: str, size_bytes: int, names: Sequence[str]) -> None:
    """Append that a request for the page's certificate is about to leave.

    Args:
        path: The ledger.
        to: The server, ``host:port``.
        size_bytes: Of the message, without HTTP and TLS around it.
        names: Those it asks for.

    Raises:
        OSError: The disk refused.
    """
    append(
        path,
        {
            "at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "kind": "page certificate",
            "to": to,
            "up_bytes": size_bytes,
            "names": list(names),
        },
    )
