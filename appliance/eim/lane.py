"""The fast lane: how our live loop and our own .eim pass pictures and features, beside Edge Impulse's protocol.

An addition that other clients never see: ``hello`` also offers ``sitecam_lane``, a second piece of shared memory with
several slots, each for one picture (RGB bytes, not packed numbers) and for what the backbone made of it. The loop
fills one slot while the model works on the other, and asks ahead: ``{"classify_lane": {"slot": k}, "id": n}``,
answered as ``classify`` is. So the model never waits for a picture, and features come at no cost.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SLOTS = 2


@dataclass(frozen=True)
class Lane:
    """What lies where: all pictures, then all features.

    Attributes:
        width: Pixels of the model's input.
        height: Pixels of the model's input.
        features: Numbers that the backbone gives per picture.
    """

    width: int
    height: int
    features: int

    @property
    def size_bytes(self) -> int:
        """Of the shared memory."""
        return self._features_at + SLOTS * self.features * 4

    @property
    def _features_at(self) -> int:
        return -(-SLOTS * self.width * self.height * 3 // 64) * 64  # aligned, as vector units like it

    def pictures(self, memory: mmap.mmap) -> list[npt.NDArray[np.uint8]]:
        """uint8 [height, width, 3] RGB per slot, in the shared memory itself."""
        count = SLOTS * self.height * self.width * 3
        return list(np.frombuffer(memory, np.uint8, count).reshape(SLOTS, self.height, self.width, 3))

    def feature_rows(self, memory: mmap.mmap) -> list[npt.NDArray[np.float32]]:
        """float32 [features] per slot, in the shared memory itself."""
        rows = np.frombuffer(memory, np.float32, SLOTS * self.features, self._features_at)
        return list(rows.reshape(SLOTS, self.features))
