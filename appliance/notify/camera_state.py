"""How a camera is, in the few words that neighbours get."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CameraState:
    """A camera at one moment.

    Attributes:
        label: What the newest decision says; None for unsure, or where no model answers.
        confidence: Of the best label, 0 to 1.
        version: The model version that answers; None where none does.
        decisions_per_s: Over the last seconds.
        temperature_c: Of the processor; None where the machine doesn't tell.
        problem: What is wrong with camera or model, for a person; empty while all is well.
    """

    label: str | None = None
    confidence: float = 0.0
    version: int | None = None
    decisions_per_s: float = 0.0
    temperature_c: float | None = None
    problem: str = ""
