"""Near-identical pictures are found; different ones are kept apart."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from appliance.frame import Pixels
from appliance.vision import decode
from datasets.likeness import NEAR_BITS, Hashes, content_hash, distances, likeness, near, scenes, stacked
from tests.fakes import pictures


def hashes_of(*seen: Pixels) -> Hashes:
    return stacked([likeness(picture) for picture in seen])


@pytest.mark.parametrize(
    "again",
    [
        lambda picture: decode(pictures.encoded(picture, quality=50)),
        lambda picture: picture[::2, ::2],
        lambda picture: (picture * 0.8).astype(np.uint8),
        pictures.a_second_later,
    ],
    ids=["as a poor JPEG", "at half the size", "darker", "a second later"],
)
def test_the_same_picture_again_is_near(again) -> None:  # type: ignore[no-untyped-def]
    for seed in range(10):
        picture = pictures.scene(seed)
        assert distances(hashes_of(picture), likeness(again(picture)))[0] <= NEAR_BITS


def test_different_pictures_are_not_near() -> None:
    hashes = [likeness(pictures.scene(seed)) for seed in range(30)]
    assert all(distances(stacked([first]), second)[0] > NEAR_BITS for first, second in combinations(hashes, 2))


def test_a_distance_counts_differing_bits() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 256, (50, 32), dtype=np.uint8)
    expected = np.unpackbits(hashes ^ hashes[7], axis=1).sum(axis=1)
    assert distances(hashes, hashes[7].tobytes()).tolist() == expected.tolist()


def test_the_nearest_comes_first() -> None:
    one = np.zeros(32, np.uint8)
    hashes = stacked([bytes([255] * 32), bytes([7] + [0] * 31), bytes(32), bytes([1] + [0] * 31)])
    assert near(hashes, one.tobytes()).tolist() == [2, 3, 1]


def test_nothing_is_near_in_an_empty_store() -> None:
    assert near(stacked([]), bytes(32)).tolist() == []
    assert scenes(stacked([])).tolist() == []


def test_a_chain_of_near_pictures_is_one_scene() -> None:
    chain = [np.packbits(np.arange(256) < NEAR_BITS * step).tobytes() for step in range(4)]
    stranger = bytes([0b01010101] * 32)
    ends = distances(stacked(chain[:1]), chain[-1])[0]
    assert ends > NEAR_BITS
    assert all(distances(stacked([a]), b)[0] == NEAR_BITS for a, b in pairwise(chain))
    assert scenes(stacked([chain[0], stranger, chain[3], chain[1], chain[2]])).tolist() == [0, 1, 0, 0, 0]


def test_scenes_agree_with_comparing_every_pair() -> None:
    rng = np.random.default_rng(3)
    centres = rng.integers(0, 256, (40, 32), dtype=np.uint8)
    noise = np.packbits(rng.random((600, 256)) < 0.07, axis=1)
    hashes = centres[rng.integers(0, 40, 600)] ^ noise
    groups = scenes(hashes)
    for place, one in enumerate(hashes):
        assert len(set(groups[near(hashes, one.tobytes())])) == 1
        assert groups[groups[place]] == groups[place] <= place
    assert len(set(groups)) >= 40


def test_the_content_hash_knows_pixels_and_shape() -> None:
    picture = pictures.scene(1)
    changed = picture.copy()
    changed[3, 3, 0] ^= 1
    assert content_hash(picture) == content_hash(picture.copy())
    assert content_hash(picture) != content_hash(changed)
    assert content_hash(picture) != content_hash(picture.reshape(96, 72, 3))
    assert content_hash(picture[:, ::-1]) == content_hash(picture[:, ::-1].copy())
