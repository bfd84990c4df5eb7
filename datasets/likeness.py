"""Are two pictures the same scene? A 256-bit difference hash, and what lies near it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from appliance.frame import Pixels

HASH_BYTES = 32
NEAR_BITS = 40  # of 256
_MARGIN = 1.0  # grey levels: a flat wall's noise must not decide bits


def difference_hash(pixels: Pixels) -> bytes:
    """32 bytes for uint8 [height, width, 3]: is each cell of a 16 x 17 grid brighter than its left neighbour?"""
    grey = Image.fromarray(pixels).convert("L").convert("F").resize((17, 16), Image.Resampling.BOX)
    cells = np.asarray(grey)
    return np.packbits(cells[:, 1:] > cells[:, :-1] + _MARGIN).tobytes()


def near(wanted: bytes, hashes: Sequence[bytes], *, bits: int = NEAR_BITS) -> npt.NDArray[np.int64]:
    """Indices of the hashes that differ from ``wanted`` in at most ``bits`` bits, nearest first."""
    if not hashes:
        return np.zeros(0, np.int64)
    words = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_BYTES)
    differing = np.unpackbits(words ^ np.frombuffer(wanted, np.uint8), axis=1).sum(axis=1, dtype=np.int64)
    found = np.flatnonzero(differing <= bits)
    return found[np.argsort(differing[found], kind="stable")]
