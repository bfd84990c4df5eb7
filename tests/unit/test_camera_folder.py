from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from appliance.camera.folder import FolderCamera
from appliance.errors import CameraError, CameraMissingError
from appliance.frame import Pixels
from appliance.vision import encode_jpeg, read_picture

FPS = 500.0


def write_grey(path: Path, level: int, *, size: tuple[int, int] = (32, 24)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_jpeg(np.full((size[1], size[0], 3), level, np.uint8)))


def levels(camera: FolderCamera, count: int) -> list[int]:
    """Grey level, to the nearest ten, of the next frames."""
    camera.open()
    return [round(float(camera.capture(5).pixels.mean()) / 10) * 10 for _ in range(count)]


def test_pictures_come_sorted_from_all_folders_below_and_go_round(tmp_path: Path) -> None:
    write_grey(tmp_path / "b" / "1.jpg", 200)
    write_grey(tmp_path / "a" / "deep" / "2.jpg", 100)
    write_grey(tmp_path / "a" / ".hidden.jpg", 50)
    assert levels(FolderCamera(tmp_path, rate_fps=FPS), 5) == [100, 200, 100, 200, 100]


def test_a_seed_shuffles_the_same_way_every_time(tmp_path: Path) -> None:
    for index in range(12):
        write_grey(tmp_path / f"{index:02}.jpg", 20 * index)
    plain = levels(FolderCamera(tmp_path, rate_fps=FPS), 12)
    shuffled = levels(FolderCamera(tmp_path, rate_fps=FPS, seed=1), 12)
    assert shuffled == levels(FolderCamera(tmp_path, rate_fps=FPS, seed=1), 12)
    assert shuffled != plain
    assert sorted(shuffled) == plain


def test_a_picture_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    Image.new("RGB", (32, 24), (120, 120, 120)).save(tmp_path / "really-a-png.jpg", "PNG")
    assert levels(FolderCamera(tmp_path, rate_fps=FPS), 1) == [120]


def test_a_cut_short_picture_is_named_once_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_grey(tmp_path / "1.jpg", 100)
    write_grey(tmp_path / "2.jpg", 150)
    cut = tmp_path / "2.jpg"
    cut.write_bytes(cut.read_bytes()[:200])
    (tmp_path / "3.txt").write_text("not a picture")
    write_grey(tmp_path / "4.jpg", 200)
    with caplog.at_level(logging.WARNING):
        assert levels(FolderCamera(tmp_path, rate_fps=FPS), 6) == [100, 200, 100, 200, 100, 200]
    assert [name for name in ("2.jpg", "3.txt") if caplog.text.count(name) == 1] == ["2.jpg", "3.txt"]


def test_a_folder_without_a_readable_picture_is_a_missing_camera(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(CameraMissingError, match="no picture"):
        FolderCamera(tmp_path, rate_fps=FPS).open()


def test_a_path_that_does_not_exist_is_a_missing_camera_that_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(CameraMissingError, match=r"gone.*\[camera\] path"):
        FolderCamera(tmp_path / "gone", rate_fps=FPS).open()


def test_a_file_that_is_not_a_video_is_a_missing_camera(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video at all" * 100)
    with pytest.raises(CameraMissingError, match="not a video"):
        FolderCamera(path, rate_fps=FPS).open()


def test_without_looping_the_end_is_an_error_after_every_picture_was_shown(tmp_path: Path) -> None:
    for index in range(3):
        write_grey(tmp_path / f"{index}.jpg", 100 + 20 * index)
    camera = FolderCamera(tmp_path, rate_fps=FPS, loop=False)
    assert levels(camera, 3) == [100, 120, 140]
    with pytest.raises(CameraError, match="at its end"):
        camera.capture(5)


def test_pictures_that_vanish_while_playing_end_in_an_error_not_in_a_busy_loop(tmp_path: Path) -> None:
    write_grey(tmp_path / "1.jpg", 100)
    camera = FolderCamera(tmp_path, rate_fps=FPS, cache_bytes=0)
    camera.open()
    camera.capture(5)
    (tmp_path / "1.jpg").unlink()
    with pytest.raises(CameraError, match="at its end"):
        camera.capture(5)


def test_a_size_fits_every_picture_in_with_black_bars(tmp_path: Path) -> None:
    write_grey(tmp_path / "wide.jpg", 200, size=(80, 20))
    camera = FolderCamera(tmp_path, rate_fps=FPS, size=(40, 40))
    camera.open()
    pixels = camera.capture(5).pixels
    assert pixels.shape == (40, 40, 3)
    assert pixels[0].max() == 0
    assert pixels[20].min() > 190


@pytest.mark.parametrize(("cache_bytes", "decoded"), [(10_000_000, 3), (32 * 24 * 3, 7), (0, 9)])
def test_pictures_are_decoded_again_only_beyond_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_bytes: int, decoded: int
) -> None:
    for index in range(3):
        write_grey(tmp_path / f"{index}.jpg", 100 + 20 * index)
    camera = FolderCamera(tmp_path, rate_fps=FPS, cache_bytes=cache_bytes)
    reads: list[Path] = []

    def counting(path: Path) -> Pixels:
        reads.append(path)
        return read_picture(path)

    monkeypatch.setattr("appliance.camera.folder.read_picture", counting)
    camera.open()
    opened = len(reads)  # opening looks whether there is a picture at all
    assert opened == 1
    for _ in range(9):
        camera.capture(5)
    kept_from_opening = 1 if cache_bytes else 0
    assert len(reads) - opened == decoded - kept_from_opening


def test_a_held_picture_stays_for_so_many_frames(tmp_path: Path) -> None:
    for number in range(2):
        Image.new("RGB", (8, 8), (number * 200, 0, 0)).save(tmp_path / f"{number}.png")
    camera = FolderCamera(tmp_path, rate_fps=200, hold_frames=3)
    camera.open()
    reds = [int(camera.capture(2).pixels[0, 0, 0]) for _ in range(8)]
    camera.close()
    assert reds == [0, 0, 0, 200, 200, 200, 0, 0]
