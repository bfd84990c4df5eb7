"""Packing pictures for the wire and unpacking them for the model."""

from __future__ import annotations

import numpy as np

from appliance.eim.features import pack, unpack


def test_what_is_packed_unpacks_to_the_same_picture() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    out = np.empty((5, 7, 3), np.float32)
    unpack(pack(picture), out)
    assert (out == picture).all()


def test_a_pixel_is_red_green_blue_from_the_high_byte_down() -> None:
    picture = np.array([[[1, 2, 3], [255, 255, 255]]], np.uint8)
    assert pack(picture).tolist() == [0x010203, 0xFFFFFF]


def test_packing_goes_straight_into_what_is_given() -> None:
    shared = np.zeros(2, np.float32)
    assert pack(np.full((1, 2, 3), 9, np.uint8), shared) is shared
    assert shared.tolist() == [0x090909] * 2
