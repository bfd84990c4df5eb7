"""What flows through the live loop: a frame, what the model says of it, what we make of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]  # [height, width, 3], RGB


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture from a camera.

    Attributes:
        pixels: uint8 [height, width, 3], RGB: the picture for people and for the store.
        taken_utc: When the sensor took it, timezone-aware UTC.
        sequence: Counts up by one per captured frame; a gap means frames were dropped.
        small: uint8 [h, w, 3], RGB: the same moment from the ISP's small stream, for the model;
            None where the source has one stream only.
    """

    pixels: Pixels
    taken_utc: datetime
    sequence: int
    small: Pixels | None = None


@dataclass(frozen=True, eq=False)
class Prediction:
    """A model's answer for one frame.

    Attributes:
        scores: Probability per label, summing to 1.
        version: The model version that answered.
        classify_ms: Wall time of the ``.eim``'s answer as this process saw it, milliseconds.
        features: float32 [features], what the backbone made of the frame; None where the ``.eim`` doesn't tell.
    """

    scores: Mapping[str, float]
    version: int
    classify_ms: float
    features: npt.NDArray[np.float32] | None = None


class Doubt(StrEnum):
    """Why a decision names no label."""

    NONE = ""
    LOW_SCORE = "low score"
    UNFAMILIAR = "unlike anything this camera was taught"


@dataclass(frozen=True, eq=False)
class Decision:
    """What we make of a prediction.

    Attributes:
        label: The label, or None where the model isn't sure enough to say.
        confidence: The best label's probability, 0 to 1.
        prediction: What it was made from.
        doubt: Why there is no label.
        familiarity: Cosine to the most alike frame that this camera was taught, -1 to 1; None where none are known.
    """

    label: str | None
    confidence: float
    prediction: Prediction
    doubt: Doubt = Doubt.NONE
    familiarity: float | None = None
