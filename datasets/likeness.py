"""Tells whether two pictures are the same, or of the same scene: content hashes and perceptual hashes."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from appliance.frame import Pixels

LIKENESS_BYTES = 32

# Pictures that differ in this many of the 256 bits or fewer are near-identical. Measured on the 423 pictures of the
# tutorial's hardhat set (89,253 pairs):
#   the same picture again: as JPEG at quality 92 at most 11 bits, at quality 50 at most 26, at half the size 14,
#     15 % darker 8, with sensor noise of 6 steps 38 (all of these below 27 for 99 of 100 pictures);
#   the same scene a second apart (same person, room and camera): pairs up to 44;
#   different pictures: from 58 up (two portraits on white walls); the median is 120.
# Comparing areas averaged in floating point matters: with rounded averages different portraits come as near as 50,
# and a margin of one or two steps, which makes flat walls quieter, brings them to 40.
NEAR_BITS = 44

Hashes = npt.NDArray[np.uint8]  # [N, 32]

_SIDE = 16
_CHUNK = 2048  # hashes per matrix product: bounds memory at 20,000 hashes to about 200 MB
_BITS_SET = np.array([bin(number).count("1") for number in range(65536)], np.uint8)


def content_hash(pixels: Pixels) -> str:
    """SHA-256 of a picture's shape and pixels, 64 lower-case hex digits: equal for exactly equal pictures."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.tobytes())
    return digest.hexdigest()


def likeness(pixels: Pixels) -> bytes:
    """A picture's perceptual hash: which of 16 x 16 areas is darker than its right neighbour.

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
