"""Makes a frame of a picture that somebody uploads: checked before it is decoded, upright, and nothing but pixels."""

from __future__ import annotations

import io
import threading
from datetime import UTC, datetime

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from appliance.errors import PictureError, StoreError
from appliance.frame import Pixels
from appliance.store.frames import Added, FrameStore, NewFrame
from appliance.vision import MAX_PICTURE_PIXELS, encode_jpeg

UPLOAD = "upload"
MOST_BYTES = 20_000_000
LONGEST_SIDE = 1920  # pixels kept: more than this camera's own frames have

_DECODED_WHOLE = 16_000_000  # pixels of a PNG, WebP or BMP, 48 MB: a JPEG is shrunk while it is decoded
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # by content, never by what the sender says
_ONE_AT_A_TIME = threading.Lock()  # a small Pi has no memory for two


def store_upload(store: FrameStore, data: bytes) -> Added:
    """Store an uploaded picture, unlabelled. Its EXIF data, place and time among it, do not reach the disk.

    Args:
        store: The camera's.
        data: The whole file.

    Raises:
        PictureError: Not a picture that can be read, or too large.
        StoreFullError: There is no room.
        StoreError: The store or the disk refused.
    """
    with _ONE_AT_A_TIME:
        jpeg = encode_jpeg(upright(data))
    try:
        return store.add_all([NewFrame(jpeg, datetime.now(UTC), UPLOAD, reason=UPLOAD)])[0]
    except OSError as error:
        raise StoreError(
            f"The disk refused ({error.strerror})", means="Nothing was stored", do="Look at the room on the data page"
        ) from error


def upright(data: bytes) -> Pixels:
    """The picture in a file, uint8 [height, width, 3], turned as its EXIF says, LONGEST_SIDE or smaller.

    Raises:
        PictureError: See :func:`store_upload`. Sizes are checked from the header, before anything is decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            most = MAX_PICTURE_PIXELS if image.format == "JPEG" else _DECODED_WHOLE
            if image.width * image.height > most:
                raise PictureError(
                    f"The picture has {image.width} x {image.height} pixels",
                    means=f"A {image.format} file over {most // 1_000_000} megapixels is refused unread",
                    do="Make it smaller, or send a JPEG",
                )
            image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))  # decodes a JPEG at an eighth to a half, where that does
            image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.BOX)
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(
            f"The upload can't be read as a picture ({error})",
            means="It is damaged, cut short, or not JPEG, PNG, WebP or BMP; nothing was stored",
            do="Send it again; have the phone take JPEG pictures (on an iPhone: Camera, Formats, Most Compatible)",
        ) from error
