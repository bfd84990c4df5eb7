"""The closing table: what the night did, for people and as JSON (its schema is in the README)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from appliance.models.verdict import SwapFigures
from server.demo.evaluate import Evaluation


@dataclass(frozen=True)
class CameraRow:
    """One camera; accuracies are shares of its own test frames, 0 to 1, None where it did not test."""

    name: str
    version_before: int
    version_after: int
    accuracy_before: float | None
    accuracy_after: float | None
    bytes_up_per_round: int
    bytes_down_per_round: int
    swap: SwapFigures | None
    verdict: str


@dataclass(frozen=True)
class Table:
    """Everything that the demo has to show."""

    cameras: tuple[CameraRow, ...]
    server: dict[str, Any]
    evaluate: Evaluation | None
    seconds: dict[str, float]
    outcome: str

    def shortcomings(self) -> list[str]:
        """What did not happen as it should; empty for a good night."""
        wrong = [] if self.outcome == "published" else [f"the night's outcome is {self.outcome!r}"]
        if not _rose(self.server.get("accuracy_before"), self.server.get("accuracy_after")):
            wrong.append("accuracy did not rise on the server's frames")
        for camera in self.cameras:
            if camera.version_after <= camera.version_before:
                wrong.append(f"{camera.name} still runs version {camera.version_after}: {camera.verdict}")
            if not _rose(camera.accuracy_before, camera.accuracy_after):
                wrong.append(f"accuracy did not rise on {camera.name}'s own test frames")
            if camera.swap is None or camera.swap.frames_lost:
                lost = camera.swap.frames_lost if camera.swap else "?"
                wrong.append(f"{camera.name} lost {lost} frame{'s' * (lost != 1)} to the swap")
        return wrong

    def as_json(self) -> dict[str, Any]:
        """The stable schema."""
        evaluation = self.evaluate
        return {
            "cameras": [asdict(camera) for camera in self.cameras],
            "server": self.server,
            "evaluate": evaluation
            and {
                "frames": evaluation.frames,
                "accuracy": round(evaluation.accuracy, 4),
                "per_label": {
                    label: {"frames": result.frames, "accuracy": round(result.accuracy, 4)}
                    for label, result in evaluation.per_label.items()
                },
            },
            "seconds": self.seconds,
        }

    def text(self) -> str:
        """For a terminal."""
        head = (
            f"{'camera':<10} {'version':>9} {'accuracy':>18} {'bytes/round up':>15} {'down':>9} {'lost':>5}"
            f" {'gap ms':>7} {'p99':>7}"
        )
        lines = [head, "-" * len(head)]
        for row in self.cameras:
            swap = row.swap
            costs = (
                f"{swap.frames_lost:>5} {swap.longest_gap_ms:>7.0f} {swap.steady_p99_ms:>7.0f}"
                if swap
                else f"{'-':>5} {'-':>7} {'-':>7}"
            )
            lines.append(
                f"{row.name:<10} {f'{row.version_before} -> {row.version_after}':>9}"
                f" {_change(row.accuracy_before, row.accuracy_after):>18} {row.bytes_up_per_round:>15,}"
                f" {row.bytes_down_per_round:>9,} {costs}"
            )
        server = self.server
        lines.append(
            f"{'server':<10} {'':>9} {_change(server.get('accuracy_before'), server.get('accuracy_after')):>18}"
            f"   on its own {server.get('frames', 0)} test frames, {server.get('rounds', 0)} rounds"
        )
        if self.evaluate:
            parts = ", ".join(f"{k} {v.correct}/{v.frames}" for k, v in self.evaluate.per_label.items())
            lines.append(
                f"the published .eim on {self.evaluate.frames} frames never trained on: "
                f"{self.evaluate.accuracy:.1%} ({parts})"
            )
        lines.append("seconds: " + ", ".join(f"{part} {value:.0f}" for part, value in self.seconds.items()))
        return "\n".join(lines)


def _rose(before: float | None, after: float | None) -> bool:
    return before is not None and after is not None and after > before


def _change(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return "not tested"
    return f"{before:.1%} -> {after:.1%}"
