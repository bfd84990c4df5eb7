"""THE preprocessing: from a picture to the model's input. Training and inference call the same function.

Pillow does the resizing because both environments on a Pi have it; its box filter averages areas as OpenCV's
INTER_AREA does, which is what Edge Impulse's own clients use for the modes named here.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
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
        return np.asarray(_shrunk(image, size, (0, 0, width, height)))
    if spec.resize_mode == "fit-shortest":
        return np.asarray(_shrunk(image, size, _centre_box(width, height, spec.width / spec.height)))
    scale = min(spec.width / width, spec.height / height)
    inner = (max(1, int(width * scale)), max(1, int(height * scale)))
    canvas = Image.new("RGB", size)
    canvas.paste(image.resize(inner, Image.Resampling.BOX), ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2))
    return np.asarray(canvas)


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


def _shrunk(image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """A box of a picture at another size, by averaging areas; three times quicker where whole pixels are averaged."""
    (columns, left), (rows, above) = divmod(box[2] - box[0], size[0]), divmod(box[3] - box[1], size[1])
    if columns and rows and not left and not above:
        return image.reduce((columns, rows), box=box)
    return image.resize(size, Image.Resampling.BOX, box=box)


def _centre_box(width: int, height: int, aspect: float) -> tuple[int, int, int, int]:
    """The largest centred box of that aspect, rounded as Edge Impulse's SDK rounds it."""
    if width / height > aspect:
        inner = int(height * aspect)
        left = (width - inner) // 2
        return left, 0, left + inner, height
    inner = int(width / aspect)
    top = (height - inner) // 2
    return 0, top, width, top + inner
