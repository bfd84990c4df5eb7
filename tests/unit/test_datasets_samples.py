"""Sample frames: the same seed gives the same bytes, and colours alone don't give the labels away."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from appliance.errors import ConfigError, DatasetError
from appliance.vision import read_picture
from datasets import samples
from datasets.cast import Cast
from datasets.emoji import EmojiFont, find_font
from datasets.folders import labels_in, read_folders
from datasets.likeness import likeness, scenes, stacked
from datasets.samples import HALL, LABELS, YARD, SampleCounts, make_frame, make_site

FONT = find_font()
pytestmark = pytest.mark.skipif(
    FONT is None, reason="no NotoColorEmoji.ttf here: install fonts-noto-color-emoji or set SITECAM_EMOJI_FONT"
)
FEW = SampleCounts(train=2, test=1, server=2, evaluate=1)


def font() -> Path:
    assert FONT is not None
    return FONT


def content(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("samples") / "site"
    make_site(font(), root, per_class=FEW)
    return root


def test_a_site_has_the_tutorials_layout(site: Path) -> None:
    files = read_folders(site)
    assert labels_in(files) == LABELS
    assert len(files) == 3 * (2 * (2 + 1) + 2)
    assert len(read_folders(site / "evaluate")) == 3
    assert all(read_picture(file.path).shape == (480, 640, 3) for file in files)


def test_the_same_seed_draws_the_same_bytes_and_another_seed_others(site: Path, tmp_path: Path) -> None:
    make_site(font(), tmp_path / "again", per_class=FEW)
    make_site(font(), tmp_path / "other", per_class=FEW, seed=2)
    first, again, other = content(site), content(tmp_path / "again"), content(tmp_path / "other")
    assert first == again
    assert first.keys() == other.keys()
    assert not any(first[name] == other[name] for name in first)


def test_more_frames_leave_the_first_ones_as_they_were(site: Path, tmp_path: Path) -> None:
    make_site(font(), tmp_path / "more", per_class=SampleCounts(train=3, test=1, server=2, evaluate=1))
    more = content(tmp_path / "more")
    assert all(more[name] == digest for name, digest in content(site).items() if name != samples.STAMP)


def test_no_two_frames_are_near_identical(site: Path) -> None:
    hashes = stacked([likeness(read_picture(path)) for path in sorted(site.rglob("*.jpg"))])
    assert scenes(hashes).tolist() == list(range(len(hashes)))


def test_a_site_that_stands_is_left_alone(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        pytest.fail("it was drawn again")

    monkeypatch.setattr(samples, "make_frame", never)
    make_site(font(), site, per_class=FEW)


def test_a_cut_short_run_leaves_nothing_that_looks_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def breaks(*_: object) -> npt.NDArray[np.uint8]:
        drawn.append(1)
        if len(drawn) == 5:
            raise KeyboardInterrupt
        return np.zeros((480, 640, 3), np.uint8)

    monkeypatch.setattr(samples, "make_frame", breaks)
    with pytest.raises(KeyboardInterrupt):
        make_site(font(), tmp_path / "site", per_class=FEW)
    assert list(tmp_path.iterdir()) == []


def test_an_older_site_is_replaced(tmp_path: Path) -> None:
    one = SampleCounts(1, 1, 1, 1)
    make_site(font(), tmp_path / "site", per_class=SampleCounts(train=2, test=1, server=1, evaluate=1))
    make_site(font(), tmp_path / "site", per_class=one, seed=3)
    make_site(font(), tmp_path / "fresh", per_class=one, seed=3)
    assert content(tmp_path / "site") == content(tmp_path / "fresh")


def test_a_folder_of_somebody_elses_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"dear to somebody")
    with pytest.raises(DatasetError, match="holds no sample frames"):
        make_site(font(), tmp_path, per_class=FEW)
    assert (tmp_path / "holiday.jpg").read_bytes() == b"dear to somebody"


def test_a_font_that_is_none_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        make_site(tmp_path / "none.ttf", tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_people_stand_inside_the_square_that_the_model_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    people: list[tuple[float, float, float, float]] = []

    def place(_: Image.Image, sprite: Image.Image, x: float, y: float) -> None:
        people.append((x - sprite.width / 2, y - sprite.height / 2, x + sprite.width / 2, y + sprite.height / 2))

    monkeypatch.setattr(samples, "put", place)
    monkeypatch.setattr(samples, "_put_thing", lambda *_, **__: None)
    cast = Cast(EmojiFont(font()))
    for index in range(30):
        make_frame(cast, YARD, LABELS[index % 2], np.random.default_rng(index))
    assert len(people) >= 30
    for left, top, right, bottom in people:
        assert bottom - top >= 180
        overhang = 30  # a rotated sprite's corners are empty
        assert left >= 80 - overhang
        assert right <= 560 + overhang
        assert top >= -overhang
        assert bottom <= 480 + overhang


def test_colours_alone_do_not_tell_the_labels_apart() -> None:
    cast = Cast(EmojiFont(font()))

    def colours(first: int, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        rows, labels = [], []
        for number, label in enumerate(LABELS):
            for index in range(first, first + count):
                rng = np.random.default_rng([number, index])
                pixels = make_frame(cast, (YARD, HALL)[index % 2], label, rng)[:, 80:560]
                rows.append(np.concatenate([np.histogram(pixels[..., c], 8, (0, 256))[0] for c in range(3)]))
                labels.append(number)
        return np.array(rows) / 480**2, np.array(labels)

    seen, seen_labels = colours(0, 20)
    unseen, unseen_labels = colours(100, 10)
    gram = seen.T @ seen + 1e-3 * np.eye(seen.shape[1])
    weights = np.linalg.solve(gram, seen.T @ (np.eye(3)[seen_labels] - 1 / 3))
    right = ((unseen @ weights).argmax(axis=1) == unseen_labels).mean()
    assert right < 0.65
