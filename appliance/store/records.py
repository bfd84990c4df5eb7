"""What flows into the frame store and out of it: frames, labels, and what a model said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Split = Literal["train", "test"]
Row = tuple[Any, ...]

IMPORTED = "import"
COLUMNS = (
    "frames.id, taken_utc, source, width, height, content_hash, likeness, scene, split,"
    " label, labelled_utc, labelled_by, reason, size_bytes, version, guess, score, unclear, skipped"
)


@dataclass(frozen=True)
class FrameRecord:
    """A stored frame.

    Attributes:
        id: 128 random bits, 32 hex digits.
        taken_utc: Timezone-aware UTC.
        source: "live", "import", ...
        width: Pixels.
        height: Pixels.
        content_hash: SHA-256 of its pixels, hex.
        likeness: See :mod:`datasets.likeness`.
        scene: The scene that it belongs to.
        split: "train" or "test", its scene's.
        label: None until somebody has labelled it.
        labelled_utc: When.
        labelled_by: Who.
        reason: Why it was kept: "random", "uncertain", "scene", "event", "burst", "upload", "false alarm"; empty for
            imported ones.
        size_bytes: Of its file.
        version: The model version that looked at it last; None where none has.
        guess: The label that it thought best.
        score: How sure it was, 0 to 1.
        unclear: A person looked and could not tell; who and when as for a label.
        skipped: How often a person put it off.
    """

    id: str
    taken_utc: datetime
    source: str
    width: int
    height: int
    content_hash: str
    likeness: bytes
    scene: str
    split: Split
    label: str | None
    labelled_utc: datetime | None
    labelled_by: str | None
    reason: str = ""
    size_bytes: int = 0
    version: int | None = None
    guess: str | None = None
    score: float | None = None
    unclear: bool = False
    skipped: int = 0


@dataclass(frozen=True)
class Said:
    """What a model said of a frame.

    Attributes:
        version: Which.
        guess: Its best label.
        score: That label's probability, 0 to 1.
    """

    version: int
    guess: str
    score: float


@dataclass(frozen=True)
class Past:
    """What is known of a frame that was in a store before: kept where it comes back.

    Attributes:
        scene: The scene that it belonged to, 32 hex digits.
        labelled_utc: When it was labelled, or called unclear.
        unclear: See :class:`FrameRecord`.
        skipped: Likewise.
        nights: That learned from it.
    """

    scene: str
    labelled_utc: datetime | None = None
    unclear: bool = False
    skipped: int = 0
    nights: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewFrame:
    """A frame to be stored.

    Attributes:
        jpeg: The file's content, or a file in :meth:`FrameStore.incoming`, which becomes the store's own.
        taken_utc: Timezone-aware UTC.
        source: Where it comes from.
        label: Where it is known already.
        by: Who says so.
        split: A wish for its scene, where the scene is new.
        reason: See :class:`FrameRecord`.
        said: What the model said of it.
        features: float32 [features], what the live model's backbone made of the frame as it is.
        recipe: How those were computed: :func:`appliance.store.recipe.recipe_name` with one variant.
        past: Where it comes out of an export.
    """

    jpeg: bytes | Path
    taken_utc: datetime
    source: str
    label: str | None = None
    by: str | None = None
    split: Split | None = None
    reason: str = ""
    said: Said | None = None
    features: npt.NDArray[np.float32] | None = field(default=None, compare=False)
    recipe: str = ""
    past: Past | None = None


@dataclass(frozen=True)
class Added:
    """What became of a new frame.

    Attributes:
        frame: As it is stored.
        new: False where the same picture was there already.
        labelled: Whether it got its label now. A picture that was there keeps the label it had.
    """

    frame: FrameRecord
    new: bool
    labelled: bool


def record_of(row: Sequence[Any]) -> FrameRecord:
    """A row of ``COLUMNS`` as a record."""
    values = list(row)
    values[1] = datetime.fromisoformat(values[1])
    values[10] = None if values[10] is None else datetime.fromisoformat(values[10])
    values[17] = bool(values[17])
    return FrameRecord(*values)


def as_text(moment: datetime) -> str:
    """A time as the store writes it: UTC, milliseconds; texts sort as the times do."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
