"""What a night adds to the camera's ledger: every reply before it leaves, and the bytes on the wire."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import RecordDict

from appliance.ledger import append

logger = logging.getLogger(__name__)


def note_reply(path: Path, night: str, kind: str, content: RecordDict) -> None:
    """Append what is in a reply before it is handed to Flower: names, shapes, bytes and hashes of arrays, and
    numbers and texts as they are.

    Args:
        path: The ledger.
        night: The night's name.
        kind: Flower's message type.
        content: What is about to leave.
    """
    arrays = [
        {
            "name": f"{record}/{name}",
            "shape": list(array.shape),
            "dtype": array.dtype,
            "size_bytes": len(array.data),
            "sha256": hashlib.sha256(array.data).hexdigest(),
        }
        for record, values in content.array_records.items()
        for name, array in values.items()
    ]
    values = {
        f"{record}/{name}": value
        for records in (content.metric_records, content.config_records)
        for record, entries in records.items()
        for name, value in entries.items()
    }
    line = {
        "at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "night": night,
        "kind": kind,
        "arrays": arrays,
        "values": values,
    }
    append(path, line)


def note_traffic(path: Path, night: str, up_bytes: int, down_bytes: int) -> None:
    """Append how many bytes crossed the wire in a night, Flower's envelopes and TLS included."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    append(
        path,
        {"at_utc": at, "night": night, "kind": "total", "up_bytes": up_bytes, "down_bytes": down_bytes},
    )
