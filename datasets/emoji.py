"""Reads the pictures out of a colour emoji font.

Pillow can draw a single emoji by itself, but joins sequences (person + skin tone + "woman" or "curly hair") into
one picture only with its complex layout, which loads the system's libfribidi; a fresh machine has none. So this
reads the font's own tables with fontTools: the ligatures in GSUB and the PNG files in CBDT.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fontTools.ttLib import TTFont, TTLibError
from PIL import Image

from appliance.errors import ConfigError

FONT_VARIABLE = "SITECAM_EMOJI_FONT"
FONT_NAME = "NotoColorEmoji.ttf"
SYSTEM_FONT = Path("/usr/share/fonts/truetype/noto") / FONT_NAME
PROJECT_FONTS = Path(__file__).resolve().parents[1] / ".sitecam" / "fonts"

_VARIATION_SELECTOR = 0xFE0F  # "draw it as a picture": these fonts hold nothing else
_LIGATURES = 4  # GSUB's number for this kind of lookup


def find_font() -> Path | None:
    """The emoji font to use: named by SITECAM_EMOJI_FONT, else the system's, else the project's own copy.

    Returns:
        The font file, or None where this machine has none.

    Raises:
        ConfigError: SITECAM_EMOJI_FONT names a file that isn't there.
    """
    named = os.environ.get(FONT_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise ConfigError(
                f"{FONT_VARIABLE} names {named}, which is not a file",
                do=f"Set it to the path of a {FONT_NAME}, or unset it",
            )
        return Path(named)
    if SYSTEM_FONT.is_file():
        return SYSTEM_FONT
    return min(PROJECT_FONTS.rglob(FONT_NAME), default=None)


class EmojiFont:
    """A colour emoji font that holds PNG pictures (CBDT), as Debian's fonts-noto-color-emoji does.

    Attributes:
        sha256: Lower-case hex digest of the file: another font draws other pictures.
    """

    def __init__(self, path: Path) -> None:
        """Read the font's tables.

        Raises:
            ConfigError: The file can't be read, or isn't such a font.
        """
        try:
            data = path.read_bytes()
            font = TTFont(io.BytesIO(data), lazy=True)
            self._glyph_of: Mapping[int, str] = font.getBestCmap()
            self._pictures: Mapping[str, Any] = font["CBDT"].strikeData[0]
            self._ligatures = list(_ligature_tables(font["GSUB"].table))
        except (OSError, TTLibError, KeyError, IndexError) as error:
            raise ConfigError(
                f"{path} can't be used as an emoji font ({error})",
                means="The sample frames are drawn from it",
                do=f"Name Debian's {FONT_NAME} (package fonts-noto-color-emoji)",
            ) from error
        self._path = path
        self._drawn: dict[str, Image.Image] = {}
        self.sha256 = hashlib.sha256(data).hexdigest()

    def glyph(self, sequence: str) -> Image.Image:
        """The picture of one emoji, given as its code points.

        Returns:
            An RGBA image (136 x 128 pixels in Noto's), shared between calls: don't draw on it.

        Raises:
            ConfigError: The font has no single picture for this sequence.
        """
        if sequence not in self._drawn:
            names = self._joined([ord(char) for char in sequence if ord(char) != _VARIATION_SELECTOR])
            picture = self._pictures.get(names[0]) if len(names) == 1 else None
            if picture is None:
                raise ConfigError(
                    f"{self._path} has no picture of {sequence} ({sequence.encode('unicode_escape').decode()})",
                    do=f"Use a newer {FONT_NAME}",
                )
            self._drawn[sequence] = Image.open(io.BytesIO(picture.imageData)).convert("RGBA")
        return self._drawn[sequence]

    def _joined(self, code_points: Sequence[int]) -> list[str]:
        names = [self._glyph_of.get(code_point, ".notdef") for code_point in code_points]
        for table in self._ligatures:
            names = _apply(table, names)
        return names


def _ligature_tables(gsub: Any) -> Iterator[dict[str, list[Any]]]:
    """First glyph -> its ligatures, longest first; one dictionary per lookup, in the font's order."""
    for lookup in gsub.LookupList.Lookup:
        for subtable in lookup.SubTable:
            plain = getattr(subtable, "ExtSubTable", subtable)
            if plain.LookupType == _LIGATURES:
                yield {
                    first: sorted(ligatures, key=lambda ligature: -len(ligature.Component))
                    for first, ligatures in plain.ligatures.items()
                }


def _apply(table: Mapping[str, Sequence[Any]], names: Sequence[str]) -> list[str]:
    joined: list[str] = []
    position = 0
    while position < len(names):
        name, length = names[position], 1
        for ligature in table.get(names[position], ()):
            rest = names[position + 1 : position + 1 + len(ligature.Component)]
            if list(rest) == list(ligature.Component):
                name, length = ligature.LigGlyph, 1 + len(ligature.Component)
                break
        joined.append(name)
        position += length
    return joined
