"""Everything the registry knows as CSV, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of one table, RFC 4180, with a header; empty for none.

    A text that a spreadsheet would run as a formula gets an apostrophe before it, as OWASP advises against CSV
    injection: cameras choose their own names and reasons. Numbers stay as they are.
    """
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(rows[0].keys())
    for row in rows:
        writer.writerow([_harmless(value) for value in row.values()])
    return text.getvalue()


def _harmless(value: object) -> object:
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return value
