"""Reads the ledger from its end: it grows for years, and people ask about last night."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 65536
_LONGEST_LINE_BYTES = 4 * 2**20  # a line of ours has a few kilobytes; what is longer is damage


@dataclass(frozen=True)
class Line:
    """One line of the ledger.

    Attributes:
        offset: Where it begins, bytes; the ledger only grows, so this names it for ever.
        body: What it says; None where it can't be read.
        problem: Why, for a person; empty where it can.
    """

    offset: int
    body: Mapping[str, Any] | None
    problem: str = ""


def lines_backwards(path: Path, before: int | None = None) -> Iterator[Line]:
    """The ledger's lines, the newest first.

    Args:
        path: The ledger; one that isn't there has no lines.
        before: Only lines that begin before this offset; all of them where it is left out.

    Raises:
        OSError: The disk refused.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        end = file.seek(0, os.SEEK_END)
        at = end if before is None else max(0, min(before, end))
        rest = b""
        while at > 0:
            begin = max(0, at - _BLOCK_BYTES)
            file.seek(begin)
            pieces = (file.read(at - begin) + rest).split(b"\n")
            rest = pieces.pop(0) if begin > 0 else b""  # it may have begun in an earlier block
            offset = begin + len(rest) + bool(begin > 0) + sum(map(len, pieces)) + len(pieces)
            for piece in reversed(pieces):
                offset -= len(piece) + 1
                if piece.strip():
                    yield _line(offset, piece)
            if len(rest) > _LONGEST_LINE_BYTES:
                yield Line(begin, None, f"there is no end of line in {len(rest)} bytes; what is before is not shown")
                return
            at = begin


def last_traffic(path: Path) -> tuple[int, int]:
    """Bytes up and down in the last night that ended; (0, 0) where none has."""
    for line in lines_backwards(path):
        if line.body is not None and line.body.get("kind") == "total":
            return _whole(line.body.get("up_bytes")), _whole(line.body.get("down_bytes"))
    return 0, 0


def _line(offset: int, data: bytes) -> Line:
    try:
        body = json.loads(data)
        if not isinstance(body, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        start = data[:60].decode("utf-8", "replace").strip()
        return Line(offset, None, f"the line at byte {offset} can't be read ({error}): it begins with {start!r}")
    return Line(offset, body)


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
