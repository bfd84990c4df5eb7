"""Tells whether two pictures are the same, or show the same scene: content hashes and perceptual hashes."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from appliance.frame import Pixels

Hashes = npt.NDArray[np.uint8]  # [pictures, 32]

LIKENESS_BYTES = 32

# Pictures whose hashes differ in this many of the 256 bits or fewer are near-identical. Measured on the 423 pictures
# of the tutorial's hardhat set (89,253 pairs, the nearest ones looked at by eye):
#   the same picture again: JPEG quality 92 up to 11 bits, half the size 14, JPEG quality 50 26, strong noise 38;
#   the same scene a second apart: 99 pairs within 44 bits, every one of them the same person in the same place;
#   different pictures: 58 (two portraits on white walls) and more; the median of all pairs is 127.
# A hat on or off in one room comes to 62, so a scene never mixes the two labels here.
# Areas are averaged in floating point: rounded averages bring different portraits as near as 50, and a margin of
# one or two steps, which would make flat walls quieter, as near as 38.
NEAR_BITS = 44

_SIDE = 16
_CHUNK = 256  # rows compared with all others at once: 20 MB of float32 for 20,000 hashes
_BITS_SET = np.array([number.bit_count() for number in range(1 << 16)], np.uint8)


def content_hash(pixels: Pixels) -> str:
    """SHA-256 of a picture's shape and pixels, 64 lower-case hex digits: equal for exactly equal pictures."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.tobytes())
    return digest.hexdigest()


def likeness(pixels: Pixels) -> bytes:
    """A picture's perceptual hash: which of 16 x 16 areas is darker than its right neighbour.

    The difference hash (dHash) of N. Krawetz, "Kind of Like That", hackerfactor.com, 2013, at 16 x 16.

    Args:
        pixels: uint8 [height, width, 3], RGB, any size and shape.

    Returns:
        32 bytes; pictures that look alike differ in few of their bits.
    """
    grey = Image.fromarray(pixels).convert("L").convert("F")
    areas = np.asarray(grey.resize((_SIDE + 1, _SIDE), Image.Resampling.BOX))
    return np.packbits(areas[:, 1:] > areas[:, :-1]).tobytes()


def stacked(hashes: list[bytes]) -> Hashes:
    """The hashes as one array, uint8 [len(hashes), 32]."""
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, LIKENESS_BYTES)


def distances(hashes: Hashes, one: bytes) -> npt.NDArray[np.uint16]:
    """In how many bits each of ``hashes``, uint8 [N, 32], differs from ``one``: uint16 [N], 0 to 256."""
    differing = hashes.view(np.uint16) ^ np.frombuffer(one, np.uint16)
    return np.asarray(_BITS_SET[differing].sum(axis=1, dtype=np.uint16))


def near(hashes: Hashes, one: bytes, bits: int = NEAR_BITS) -> npt.NDArray[np.intp]:
    """The places of those ``hashes`` that differ from ``one`` in at most ``bits`` bits, the nearest first."""
    apart = distances(hashes, one)
    places = np.flatnonzero(apart <= bits)
    return places[np.argsort(apart[places], kind="stable")]


def scenes(hashes: Hashes, bits: int = NEAR_BITS) -> npt.NDArray[np.intp]:
    """Group a batch: two pictures share a scene if a chain of near-identical ones joins them.

    Args:
        hashes: uint8 [N, 32].
        bits: How far apart two hashes may be.

    Returns:
        intp [N]: for each picture the place of the first picture of its scene.
    """
    group = np.arange(len(hashes))
    # With bits as +1 and -1 the product of two hashes is 256 - 2 * distance, and matrix products are fast.
    signs = np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
    for start in range(0, len(hashes), _CHUNK):
        products = signs[start : start + _CHUNK] @ signs[start:].T
        for row in products >= 8 * LIKENESS_BYTES - 2 * bits:
            joined = group[start:][row]
            if (joined != joined[0]).any():
                group[np.isin(group, joined)] = joined.min()
    return group
