"""Pictures become the model's input the same way everywhere; areas are averaged, nothing else is lost."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from appliance.errors import ConfigError, PictureError
from appliance.vision import RESIZE_MODES, InputSpec, ResizeMode, decode, encode_jpeg, grey, prepare

NOISE = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (240, 320), (100, 70), (161, 163), (160, 40)])
def test_any_shape_becomes_the_size_that_the_model_wants(mode: ResizeMode, shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), (200, 100, 50), np.uint8)
    prepared = prepare(pixels, InputSpec(160, 160, mode))
    assert prepared.shape == (160, 160, 3)
    assert prepared.dtype == np.uint8
    assert np.abs(prepared[80, 80].astype(int) - (200, 100, 50)).max() <= 1


def test_a_picture_of_the_right_size_is_taken_as_it_is() -> None:
    pixels = np.ascontiguousarray(NOISE[:160, :160])
    assert prepare(pixels, InputSpec(160, 160, "squash")) is pixels


def test_whole_factors_average_exactly_the_pixels_of_the_centre_square() -> None:
    prepared = prepare(NOISE, InputSpec(160, 160, "fit-shortest"))
    blocks = NOISE[:, 80:560].reshape(160, 3, 160, 3, 3).mean(axis=(1, 3))
    assert np.abs(prepared - blocks).max() < 0.6  # rounded once, in fixed-point numbers


def test_whole_factors_and_the_general_way_differ_by_rounding_only() -> None:
    quick = prepare(NOISE, InputSpec(160, 160, "squash"))
    box = Image.fromarray(NOISE).resize((160, 160), Image.Resampling.BOX)
    assert np.abs(quick.astype(int) - np.asarray(box)).max() <= 1


def test_fit_shortest_cuts_the_sides_off_and_fit_longest_adds_black_bars() -> None:
    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, 100:200] = 255
    assert prepare(pixels, InputSpec(50, 50, "fit-shortest")).min() == 255
    barred = prepare(pixels, InputSpec(60, 60, "fit-longest"))
    assert barred[:20].max() == barred[40:].max() == 0
    assert barred[30, 30].tolist() == [255, 255, 255]


def test_an_unknown_resize_mode_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="fit-shortest, fit-longest, squash"):
        InputSpec(160, 160, "stretch")  # type: ignore[arg-type]


def test_what_is_no_picture_is_named() -> None:
    with pytest.raises(PictureError, match=r"yard\.jpg can't be read"):
        decode(encode_jpeg(NOISE)[:500], name="yard.jpg")


@pytest.mark.parametrize("mode", RESIZE_MODES)
@pytest.mark.parametrize("size", [(96, 96), (160, 120), (120, 160), (320, 320), (37, 53)])
@pytest.mark.parametrize("shape", [(480, 640), (241, 319), (97, 61), (96, 400), (20, 30)])
def test_every_mode_is_edge_impulse_s_own_pixel_for_pixel(
    mode: ResizeMode, size: tuple[int, int], shape: tuple[int, int]
) -> None:
    pytest.importorskip("cv2")
    from appliance.eim import sdk  # noqa: F401  # first: it stands in for PyAudio

    image = pytest.importorskip("edge_impulse_linux.image")
    pixels = np.ascontiguousarray(NOISE[: shape[0], : shape[1]])
    _, theirs = image.get_features_from_image_with_studio_mode(pixels, mode, *size, False)
    ours = prepare(pixels, InputSpec(*size, mode))
    assert np.abs(ours.astype(int) - theirs).max() <= 1  # each rounds its fixed-point numbers its own way


def test_grey_is_luma_in_all_three_channels() -> None:
    picture = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 10, 10]]], np.uint8)
    assert grey(picture).tolist() == [[[76] * 3, [150] * 3, [29] * 3, [10] * 3]]
