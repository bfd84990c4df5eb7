"""Small versions of pictures, for grids."""

from __future__ import annotations

import io

from PIL import Image, ImageOps, UnidentifiedImageError

from appliance.errors import PictureError

WIDTH = 320
_END = b"\xff\xd9"  # of a JPEG
_TALLEST = 4  # times as high as wide; a strip of a picture must not become a tower on a page


def small_jpeg(data: bytes, *, name: str) -> bytes:
    """A JPEG of a JPEG, upright, 320 pixels wide or as wide as it is.

    Raises:
        PictureError: It can't be decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (WIDTH * 2, WIDTH * 2))  # decodes at an eighth to a half: several times quicker
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(f"{name} can't be read as a picture ({error})", do="Delete it") from error
    upright.thumbnail((WIDTH, WIDTH * _TALLEST), Image.Resampling.BOX)
    buffer = io.BytesIO()
    upright.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def whole(data: bytes) -> bool:
    """Is a thumbnail's file as it was written? It is never synced, so a power cut may leave it empty or cut."""
    return data.endswith(_END)
