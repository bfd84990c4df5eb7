"""Who and what appears in a sample frame: workers in hard hats, bare-headed people, and things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from datasets.emoji import EmojiFont

T = TypeVar("T")

_MAN, _WOMAN = "\u200d\u2642", "\u200d\u2640"
_TONES = ("", *(chr(code) for code in range(0x1F3FB, 0x1F400)))
_DARKEST = _TONES[-1]
_HAIR = tuple(f"\u200d{chr(code)}" for code in range(0x1F9B0, 0x1F9B4))  # red, curly, bald, white

WORKERS = tuple(f"👷{tone}{gender}" for tone in _TONES for gender in ("", _MAN, _WOMAN))
FACES = tuple(f"{person}{tone}" for person in "🧑👨👩🧔🧓👴👵👦👧🧒👶" for tone in _TONES)
BUSTS = (
    *(f"{person}{tone}{hair}" for person in "🧑👨👩" for tone in _TONES for hair in _HAIR),
    *(f"👱{tone}{gender}" for tone in _TONES for gender in ("", _MAN, _WOMAN)),
)
BUSY = (
    *(f"{person}{tone}{gender}" for person in "💁🙋🤷🙆🙍🙎" for tone in _TONES for gender in (_MAN, _WOMAN)),
    # Doctor, teacher, judge, office worker, singer: occupations with nothing on the head.
    *(f"{person}{tone}\u200d{job}" for person in "👨👩" for tone in _TONES for job in "⚕🏫⚖💼🎤"),
)

# Yellow and orange things stand in every kind of frame, so a patch of a hard hat's colour proves nothing;
# so do hats that nobody wears.
THINGS = tuple("🔨🪓⛏🔧🪛🔩⚙🧱⛓🪝🧰🧲🪜🚥🚦🛑🚗🚙🚌🚚🚛🏍🚲🏠🏢🏭🏬🌲🌳🌴🌵🌾☂📦🛢🪣🧯🔦🐕🐈🪑🚪🛒")
YELLOW_THINGS = tuple("🚧🚕🚜🏗🟡🟨🟠🟧🍋🌻🌼💡🧀🌽🏆🔶⭐🌕")
HATS = tuple("🎩🧢👒🪖🎓⛑")

_HAT_COLOURS = (
    *[(255, 214, 0)] * 3, (250, 250, 245), (235, 240, 245), (255, 128, 10), (220, 40, 30), (40, 110, 220),
    (30, 150, 70),
)  # fmt: skip
_FOREHEAD, _CHIN = 0.49, 0.75  # shares of a glyph's height, the same for all of Noto's workers


class Cast:
    """Draws people and things from one font; every choice comes from the generator it is given."""

    def __init__(self, font: EmojiFont) -> None:
        """Cut the hat and the clothes, which all workers share, out of one of them.

        Raises:
            ConfigError: The font has no construction worker.
        """
        self._font = font
        # In the darkest skin tone nothing but hat, shirt and vest has strong colours.
        worker = font.glyph(f"👷{_DARKEST}{_MAN}")
        colours = np.asarray(worker).astype(np.int16)
        strong = _closed(colours[..., :3].max(axis=-1) - colours[..., :3].min(axis=-1) > 60)
        rows = np.arange(worker.height)[:, None] / worker.height
        self._hat = strong & (rows < _FOREHEAD)
        clothes = np.asarray(worker).copy()
        clothes[..., 3] *= strong & (rows > _CHIN)
        self._clothes = clothes

    def worker(self, rng: np.random.Generator) -> Image.Image:
        """Somebody in a hard hat of any colour, in any clothes, sometimes seen to the chin only; RGBA."""
        sprite = self._hatted(_pick(rng, WORKERS), _pick(rng, _HAT_COLOURS))
        if rng.random() < 0.35:
            return sprite.crop((0, 0, sprite.width, round(sprite.height * _CHIN)))
        return self._dressed(rng, sprite)

    def bare_headed(self, rng: np.random.Generator) -> Image.Image:
        """Somebody with nothing on the head, in clothes as workers have or seen to the chin only; RGBA."""
        dice = rng.random()
        if dice < 0.35:
            return self._font.glyph(_pick(rng, FACES))
        if dice < 0.5:
            return self._font.glyph(_pick(rng, BUSY))
        return self._dressed(rng, self._font.glyph(_pick(rng, BUSTS)))

    def thing(self, rng: np.random.Generator) -> Image.Image:
        """A tool, a vehicle, a plant, a building, something yellow, or a hat that nobody wears; RGBA."""
        dice = rng.random()
        return self._font.glyph(_pick(rng, YELLOW_THINGS if dice < 0.4 else HATS if dice < 0.46 else THINGS))

    def _hatted(self, sequence: str, colour: tuple[int, int, int]) -> Image.Image:
        pixels = np.asarray(self._font.glyph(sequence)).copy()
        shine = pixels[..., 1:2] / np.float32(225)  # the yellow hat's shading is all in its green
        painted = np.clip(shine * np.array(colour, np.float32), 0, 255).astype(np.uint8)
        pixels[..., :3] = np.where(self._hat[..., None], painted, pixels[..., :3])
        return Image.fromarray(pixels)

    def _dressed(self, rng: np.random.Generator, person: Image.Image) -> Image.Image:
        """The person in a worker's high-visibility vest or in a plain shirt."""
        clothes = self._clothes
        if rng.random() < 0.6:
            clothes = clothes.copy()
            clothes[..., :3] = rng.integers(10, 250, 3)
        dressed = person.copy()
        dressed.alpha_composite(Image.fromarray(clothes))
        return dressed


def _closed(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The mask without its cracks: where blue meets yellow, the drawing's edge is grey."""
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(image.filter(ImageFilter.MaxFilter(5)).filter(ImageFilter.MinFilter(5))) > 0


def _pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]
