"""How a picture travels to an .eim: one float32 per pixel, red, green and blue packed into 24 bits.

Protocol: Edge Impulse's Linux runner, "classify" (the SDK's ``get_features_from_image``).
24 bits are exact in a float32.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def pack(image: npt.NDArray[np.uint8], out: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
    """Pack uint8 [height, width, 3] RGB into float32 [height * width], into ``out`` where one is given."""
    bytes_of_pixel = np.zeros((*image.shape[:2], 4), np.uint8)  # blue, green, red, nothing: a little-endian 24 bits
    bytes_of_pixel[..., 2::-1] = image  # ten times cheaper than shifting wide numbers about
    packed = bytes_of_pixel.view("<u4").reshape(-1)
    if out is None:
        return packed.astype(np.float32)
    out[:] = packed
    return out


def unpack(features: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
    """Unpack float32 [height * width] into ``out``, float32 [height, width, 3], values 0 to 255."""
    packed = features.astype(np.uint32).reshape(out.shape[:2])
    out[..., 0] = (packed >> 16) & 0xFF
    out[..., 1] = (packed >> 8) & 0xFF
    out[..., 2] = packed & 0xFF
