"""What the doctor says of one thing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["ok", "warning", "fault"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: Which thing; programs may rely on these names.
        state: How it is.
        text: What was found, and what to do where it isn't ok.
    """

    what: str
    state: State
    text: str

    def line(self) -> str:
        """For a terminal."""
        return f"{self.state:<8} {self.what:<12} {self.text}"


def ok(what: str, text: str) -> Finding:
    """All is well."""
    return Finding(what, "ok", text)


def warning(what: str, text: str) -> Finding:
    """It works, and somebody should do something."""
    return Finding(what, "warning", text)


def fault(what: str, text: str) -> Finding:
    """It doesn't work."""
    return Finding(what, "fault", text)


def as_json(findings: Iterable[Finding]) -> str:
    """For programs."""
    return json.dumps([asdict(finding) for finding in findings], indent=1)
