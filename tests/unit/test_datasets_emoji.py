"""Emoji pictures come out of the font's own tables, sequences joined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from appliance.errors import ConfigError
from datasets import emoji
from datasets.cast import BUSTS, BUSY, FACES, HATS, THINGS, WORKERS, YELLOW_THINGS
from datasets.emoji import EmojiFont, find_font

FONT = find_font()
needs_font = pytest.mark.skipif(
    FONT is None, reason="no NotoColorEmoji.ttf here: install fonts-noto-color-emoji or set SITECAM_EMOJI_FONT"
)


@pytest.fixture(scope="module")
def font() -> EmojiFont:
    assert FONT is not None
    return EmojiFont(FONT)


@needs_font
@pytest.mark.parametrize("group", [WORKERS, FACES, BUSTS, BUSY, THINGS, YELLOW_THINGS, HATS])
def test_everybody_and_everything_in_the_cast_has_a_picture(font: EmojiFont, group: tuple[str, ...]) -> None:
    pictures = [np.asarray(font.glyph(sequence)) for sequence in group]
    assert all(picture.shape == (128, 136, 4) and picture[..., 3].max() == 255 for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == len(group)


@needs_font
def test_skin_tone_and_gender_change_the_picture(font: EmojiFont) -> None:
    worker, dark, woman = "👷", "👷🏿", "👷🏿\u200d♀\ufe0f"
    assert len({font.glyph(sequence).tobytes() for sequence in (worker, dark, woman)}) == 3


@needs_font
def test_a_variation_selector_changes_nothing(font: EmojiFont) -> None:
    assert font.glyph("⚙\ufe0f").tobytes() == font.glyph("⚙").tobytes()


@needs_font
@pytest.mark.parametrize("sequence", ["ab", "👷👷", "", "\ue000"])
def test_a_sequence_without_one_picture_is_an_error(font: EmojiFont, sequence: str) -> None:
    with pytest.raises(ConfigError, match="has no picture"):
        font.glyph(sequence)


@pytest.mark.parametrize("content", [b"", b"not a font at all", b"\0\1\0\0\0\5" + bytes(200)])
def test_a_file_that_is_no_emoji_font_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.ttf"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"some\.ttf can't be used as an emoji font"):
        EmojiFont(path)


def test_a_missing_font_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be used as an emoji font"):
        EmojiFont(tmp_path / "none.ttf")


def test_the_named_font_comes_first_then_the_systems_then_the_projects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, system, project = (tmp_path / name for name in ("named.ttf", "system.ttf", "fonts"))
    copied = project / "package" / "usr" / emoji.FONT_NAME
    copied.parent.mkdir(parents=True)
    for path in (named, system, copied):
        path.touch()
    monkeypatch.setattr(emoji, "SYSTEM_FONT", system)
    monkeypatch.setattr(emoji, "PROJECT_FONTS", project)
    monkeypatch.setenv("SITECAM_EMOJI_FONT", str(named))
    assert find_font() == named
    monkeypatch.delenv("SITECAM_EMOJI_FONT")
    assert find_font() == system
    system.unlink()
    assert find_font() == copied
    copied.unlink()
    assert find_font() is None


def test_a_named_font_that_is_missing_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITECAM_EMOJI_FONT", str(tmp_path / "gone.ttf"))
    with pytest.raises(ConfigError, match=r"SITECAM_EMOJI_FONT names .*gone\.ttf"):
        find_font()
