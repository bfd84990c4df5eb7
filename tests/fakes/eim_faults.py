"""Writes .eim files that go wrong, each in its own way; see eim_program.py for what each does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.fakes.eim_shaped import write_shaped
from tests.fakes.parts import LABELS

# What start_impulse() must answer, by fault.
AT_START = {
    "exits-at-once": "ImpulseExitedError",
    "no-socket": "ImpulseSilentError",
    "silent-at-hello": "ImpulseSilentError",
    "memory-too-small": "ImpulseGarbledError",
    "memory-elsewhere": "ImpulseGarbledError",
    "memory-missing": "ImpulseGarbledError",
    "memory-of-another-size": "ImpulseGarbledError",
}
# What classify() must answer, by fault, at the latest with the third frame.
AT_CLASSIFY = {
    "silent": "ImpulseSilentError",
    "silent-with-a-child": "ImpulseSilentError",
    "silent-and-deaf": "ImpulseSilentError",
    "trickles": "ImpulseSilentError",
    "exits-mid-reply": "ImpulseExitedError",
    "killed-later": "ImpulseExitedError",
    "closes-mid-reply": "ImpulseGarbledError",
    "rubbish": "ImpulseGarbledError",
    "not-an-object": "ImpulseGarbledError",
    "other-id": "ImpulseGarbledError",
    "no-id": "ImpulseGarbledError",
    "neither-success-nor-failure": "ImpulseGarbledError",
    "two-replies": "ImpulseGarbledError",
    "endless": "ImpulseGarbledError",
    "score-not-a-number": "ImpulseGarbledError",
    "score-null": "ImpulseGarbledError",
    "score-out-of-range": "ImpulseGarbledError",
    "score-missing": "ImpulseGarbledError",
    "result-not-an-object": "ImpulseGarbledError",
    "refuses": "ImpulseRefusedError",
}
# Odd, but within the protocol: everything must go on.
BEARABLE = ("single-bytes", "chatty")


def write_version(
    path: Path, version: int, *, labels: Sequence[str] = LABELS, fault: str = "none", at_frame: int = 1
) -> Path:
    """Write an executable that passes for an ``.eim`` of that version until its fault strikes; return its path."""
    return write_shaped(path, f"ours:{version}:{','.join(labels)}", fault=f"{fault}@{at_frame}")


def write_faulty(path: Path, fault: str) -> Path:
    """Write an executable with that fault; return its path."""
    if fault not in {*AT_START, *AT_CLASSIFY, *BEARABLE}:
        raise ValueError(fault)
    return write_shaped(path, "shared-memory", fault=fault)
