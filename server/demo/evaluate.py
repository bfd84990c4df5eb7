"""Tests a published .eim on labelled pictures, through the SDK, exactly as a camera would ask it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appliance.eim.runner import start_impulse
from appliance.errors import DatasetError, PictureError
from appliance.vision import prepare, read_picture
from datasets.folders import read_folders


@dataclass(frozen=True)
class LabelResult:
    """One label's pictures.

    Attributes:
        frames: How many.
        correct: Named right.
    """

    frames: int
    correct: int

    @property
    def accuracy(self) -> float:
        """Share named right, 0 to 1."""
        return self.correct / self.frames if self.frames else 0.0


@dataclass(frozen=True)
class Evaluation:
    """All pictures of a folder.

    Attributes:
        per_label: By label.
        unreadable: Files that could not be read.
    """

    per_label: dict[str, LabelResult]
    unreadable: tuple[Path, ...]

    @property
    def frames(self) -> int:
        """All pictures that were tested."""
        return sum(result.frames for result in self.per_label.values())

    @property
    def accuracy(self) -> float:
        """Share named right, 0 to 1."""
        return sum(result.correct for result in self.per_label.values()) / self.frames if self.frames else 0.0


def evaluate_impulse(impulse: Path, folder: Path) -> Evaluation:
    """Ask an ``.eim`` about every picture in class folders.

    Args:
        impulse: The file.
        folder: A folder per label.

    Raises:
        ImpulseError: The file doesn't answer.
        DatasetError: No class folders, a label that the model doesn't know, or nothing readable.
    """
    counts: dict[str, list[int]] = {}
    unreadable: list[Path] = []
    running = start_impulse(impulse, start_deadline_s=60)
    try:
        for file in read_folders(folder, fewest_labels=1):
            if file.label not in running.info.labels:
                raise DatasetError(
                    f"{folder} has pictures of {file.label!r}, the model knows {', '.join(running.info.labels)}",
                    do="Rename or remove that folder",
                )
            try:
                picture = prepare(read_picture(file.path), running.info.input)
            except PictureError:
                unreadable.append(file.path)
                continue
            scores = running.classify(picture).scores
            count = counts.setdefault(file.label, [0, 0])
            count[0] += 1
            count[1] += max(scores, key=lambda label: scores[label]) == file.label
    finally:
        running.close()
    if not counts:
        raise DatasetError(f"No picture in {folder} could be read", do="Check the folder")
    per_label = {label: LabelResult(*count) for label, count in sorted(counts.items())}
    return Evaluation(per_label, tuple(unreadable))
