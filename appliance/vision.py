"""THE preprocessing: from a picture to the model's input. Training and inference call the same function.

The resize modes are those of Edge Impulse's Linux SDK (``get_features_from_image_with_studio_mode``), box for box and
pixel for pixel, without OpenCV, which not every environment on a Pi has: areas are averaged as its INTER_AREA does, and
where a picture grows it interpolates instead, and so do we. (Pillow's box filter counts a pixel wholly or not at all,
which is another picture wherever the factor is not a whole number.)
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from appliance.errors import ConfigError, PictureError
from appliance.frame import Pixels

ResizeMode = Literal["fit-shortest", "fit-longest", "squash"]
RESIZE_MODES: tuple[ResizeMode, ...] = get_args(ResizeMode)

MAX_PICTURE_PIXELS = 50_000_000  # larger than any Pi sensor; a bomb is refused before it is decoded
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # by content, never by the file's name


@dataclass(frozen=True)
class InputSpec:
    """The picture a model wants.

    Attributes:
        width: Pixels.
        height: Pixels.
        resize_mode: How another shape becomes this one, in Edge Impulse's words: ``fit-shortest`` cuts the
            centre out, ``fit-longest`` adds black bars, ``squash`` distorts.
    """

    width: int
    height: int
    resize_mode: ResizeMode

    def __post_init__(self) -> None:
        if self.resize_mode not in RESIZE_MODES:
            raise ConfigError(f"Unknown resize mode {self.resize_mode!r}", do=f"Use one of: {', '.join(RESIZE_MODES)}")


def prepare(pixels: Pixels, spec: InputSpec) -> Pixels:
    """Resize a picture to what the model wants.

    Args:
        pixels: uint8 [height, width, 3], RGB, any size.
        spec: Size and resize mode.

    Returns:
        uint8 [spec.height, spec.width, 3], RGB. The very array where it has that size already.
    """
    height, width = pixels.shape[:2]
    if (height, width) == (spec.height, spec.width):
        return pixels
    image = Image.fromarray(pixels)
    size = (spec.width, spec.height)
    if spec.resize_mode == "squash":
        return _resized(image, size, (0, 0, width, height))
    if spec.resize_mode == "fit-shortest":
        return _resized(image, size, _centre_box(width, height, spec.width / spec.height))
    scale = min(spec.width / width, spec.height / height)
    inner = (max(1, int(width * scale)), max(1, int(height * scale)))
    canvas = np.zeros((spec.height, spec.width, 3), np.uint8)
    left, above = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas[above : above + inner[1], left : left + inner[0]] = _resized(image, inner, (0, 0, width, height))
    return canvas


def grey(pixels: Pixels) -> Pixels:
    """A picture for a model that wants one channel: luma, ITU-R 601, in all three.

    As Edge Impulse's image block computes it, in Studio and in an ``.eim``. (Its Python SDK gives red and blue each
    other's weight.)

    Args:
        pixels: uint8 [height, width, 3], RGB.

    Returns:
        uint8 [height, width, 3].
    """
    luma = (pixels.astype(np.uint32) @ np.array([299, 587, 114], np.uint32) + 500) // 1000
    return np.repeat(luma.astype(np.uint8)[..., None], 3, axis=2)


def decode(data: bytes, *, name: str = "the picture") -> Pixels:
    """Decode a picture by its content, upright.

    Args:
        data: A whole JPEG, PNG, WebP or BMP file.
        name: What to call it in an error.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        PictureError: Not a picture, cut short, or larger than MAX_PICTURE_PIXELS.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PICTURE_PIXELS:
                raise PictureError(
                    f"{name} has {image.width} x {image.height} pixels",
                    means=f"Pictures over {MAX_PICTURE_PIXELS // 1_000_000} megapixels are refused unread",
                    do="Make it smaller",
                )
            upright = ImageOps.exif_transpose(image).convert("RGB")
            return np.asarray(upright)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(
            f"{name} can't be read as a picture ({error})",
            means="It is damaged, cut short, or not JPEG, PNG, WebP or BMP",
            do="Look at the file; a fresh copy may help",
        ) from error


def read_picture(path: Path) -> Pixels:
    """Read a picture file; see :func:`decode`.

    Raises:
        PictureError: The file can't be opened, or isn't a picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PictureError(f"{path} can't be opened ({error.strerror})", do="Check the path") from error
    return decode(data, name=str(path))


def encode_jpeg(pixels: Pixels, *, quality: int = 90) -> bytes:
    """Encode uint8 [height, width, 3] RGB as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _resized(image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]) -> Pixels:
    """A box of a picture at another size, by averaging areas; three times quicker where whole pixels are averaged."""
    (columns, left), (rows, above) = divmod(box[2] - box[0], size[0]), divmod(box[3] - box[1], size[1])
    if not columns or not rows:
        return _enlarged(np.asarray(image.crop(box)), size)
    if not left and not above:
        return np.asarray(image.reduce((columns, rows), box=box))
    pixels = np.asarray(image.crop(box))
    upright = np.ascontiguousarray(_averaged(pixels, size[1]).swapaxes(0, 1))
    return np.ascontiguousarray(np.rint(_averaged(upright, size[0])).swapaxes(0, 1), np.uint8)


def _averaged(values: npt.NDArray[np.uint8] | npt.NDArray[np.float32], wanted: int) -> npt.NDArray[np.float32]:
    """Means over equal shares of the first axis, float32 [wanted, ...]; what lies in two counts for both in part."""
    found = len(values)
    edges = np.arange(wanted + 1) * found / wanted
    first = edges[:-1].astype(np.intp)
    sums = np.zeros((wanted, *values.shape[1:]), np.float32)
    for step in range(-(-found // wanted) + 1):
        lines = first + step
        share = np.maximum(np.minimum(lines + 1, edges[1:]) - np.maximum(lines, edges[:-1]), 0)
        sums += values[np.minimum(lines, found - 1)] * np.asarray(share, np.float32)[:, None, None]
    return sums * np.float32(wanted / found)


def _enlarged(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """What OpenCV's INTER_AREA gives where a side grows: linear interpolation, within the borders of source pixels."""
    columns, across = _neighbours(pixels.shape[1], size[0])
    rows, down = _neighbours(pixels.shape[0], size[1])
    wide = np.take(pixels, columns, axis=1).astype(np.float32)  # [height, 2, width, 3]
    wide = wide[:, 0] + (wide[:, 1] - wide[:, 0]) * across[:, None]
    tall = np.take(wide, rows, axis=0)  # [2, height, width, 3]
    return np.asarray(np.rint(tall[0] + (tall[1] - tall[0]) * down[:, None, None]), np.uint8)


def _neighbours(found: int, wanted: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """For each of the wanted pixels the two found ones that it lies between, [2, wanted], and the second's weight."""
    growth = wanted / found
    first = np.floor(np.arange(wanted) * (1 / growth)).astype(np.intp)  # its rounding, too
    weight = np.asarray(np.arange(1, wanted + 1) - (first + 1) * growth, np.float32)
    weight = np.where((weight <= 0) | (first >= found - 1), 0, weight - np.floor(weight))
    return np.stack([first, np.minimum(first + 1, found - 1)]), weight.astype(np.float32)


def _centre_box(width: int, height: int, aspect: float) -> tuple[int, int, int, int]:
    """The largest centred box of that aspect, rounded as Edge Impulse's SDK rounds it."""
    if width / height > aspect:
        inner = int(height * aspect)
        left = (width - inner) // 2
        return left, 0, left + inner, height
    inner = int(width / aspect)
    top = (height - inner) // 2
    return 0, top, width, top + inner
