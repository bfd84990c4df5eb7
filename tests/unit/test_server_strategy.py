"""How replies become one head: Flower's strategies, from how many cameras each means anything, and noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.errors import NightError
from appliance.models.head import Head
from server.config import FleetSettings, NightSettings, PrivacySettings, ServerSettings
from server.privacy import epsilon
from server.replies import TrainReply, distance
from server.strategy import Aggregator
from tests.fakes.parts import tiny_head

START = tiny_head()
STRATEGIES = ["fedavg", "fedprox", "fedadam", "fedmedian", "fedtrimmedavg", "krum"]


def settings(strategy: str = "fedavg", *, privacy: PrivacySettings | None = None, **night: Any) -> ServerSettings:
    night_settings = dataclasses.replace(NightSettings(exact_start=False), strategy=strategy, **night)  # type: ignore[arg-type]  # one of the six names
    return ServerSettings(
        Path("x"), FleetSettings("x"), night=night_settings, privacy=privacy or PrivacySettings(noise_multiplier=0)
    )


def moved(by: float, *, examples: int = 10) -> TrainReply:
    """A reply whose every number is so much larger than START's."""
    head = Head.from_arrays([array + np.float32(by) for array in START.arrays])
    return TrainReply(examples, 0.1, head, distance(head, START))


def replies(*steps: float, examples: Mapping[int, int] | None = None) -> dict[str, TrainReply]:
    weights = examples or {}
    return {f"camera {i}": moved(by, examples=weights.get(i, 10)) for i, by in enumerate(steps)}


def step_of(head: Head) -> float:
    """By how much every number moved; fails where not all moved alike."""
    steps = np.concatenate([(a - b).ravel() for a, b in zip(head.arrays, START.arrays, strict=True)])
    np.testing.assert_allclose(steps, steps[0], atol=1e-5)
    return float(steps[0])


def aggregate(strategy: str, given: Mapping[str, TrainReply], **night: Any) -> Head:
    return Aggregator(settings(strategy, **night)).aggregate(1, START, given)


def test_fedavg_weighs_by_frames() -> None:
    head = aggregate("fedavg", replies(0, 1, examples={0: 30, 1: 10}))
    assert step_of(head) == pytest.approx(0.25, abs=1e-6)
    assert [array.dtype for array in head.arrays] == [np.float32, np.float32]


def test_fedprox_aggregates_like_fedavg_and_tells_cameras_its_mu() -> None:
    assert step_of(aggregate("fedprox", replies(0, 1), proximal=0.5)) == pytest.approx(0.5, abs=1e-6)
    assert Aggregator(settings("fedprox", proximal=0.5)).train_config() == {"proximal": 0.5}


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "fedprox"])
def test_no_other_strategy_holds_cameras_back(strategy: str) -> None:
    assert Aggregator(settings(strategy, proximal=0.5)).train_config() == {"proximal": 0.0}


def test_the_median_is_not_moved_by_one_that_lies_far_off() -> None:
    assert step_of(aggregate("fedmedian", replies(0.1, 0.2, 1000))) == pytest.approx(0.2, abs=1e-6)


def test_a_trimmed_mean_leaves_out_the_largest_and_the_smallest() -> None:
    given = replies(-1000, 0.1, 0.2, 0.3, 1000)
    assert step_of(aggregate("fedtrimmedavg", given, trim=0.2)) == pytest.approx(0.2, abs=1e-6)


def test_krum_takes_the_reply_that_lies_nearest_to_the_others() -> None:
    assert step_of(aggregate("krum", replies(0.1, 0.19, 0.2, 0.21, 50))) == pytest.approx(0.2, abs=1e-6)


def test_krum_tells_replies_apart_that_lie_close_together_on_large_numbers() -> None:
    far = Head.from_arrays([array + np.float32(3000) for array in START.arrays])

    def near(by: float) -> TrainReply:
        head = Head.from_arrays([array + np.float32(by) for array in far.arrays])
        return TrainReply(10, 0.1, head, distance(head, START))

    given = {str(i): near(by) for i, by in enumerate((0.0, 0.008, 0.01, 0.012, 5.0))}
    made = Aggregator(settings("krum")).aggregate(1, START, given)  # squares of 3000 leave float32 no such digits
    assert made.to_bytes() == given["2"].head.to_bytes()


def test_fedadam_steps_by_its_own_rate_and_remembers_where_it_was_going() -> None:
    adam = Aggregator(settings("fedadam", server_rate=0.01))
    first = adam.aggregate(1, START, replies(0.5, 0.5))
    rate = 0.01 * np.sqrt(1 - 0.99**2) / (1 - 0.9**2)  # as Flower corrects it
    assert step_of(first) == pytest.approx(rate * 0.05 / (np.sqrt(0.01 * 0.25) + 1e-3), rel=1e-3)
    standing = adam.aggregate(2, START, replies(0, 0))  # no camera moved: only the momentum is left
    assert step_of(standing) > 0


def test_fedadam_starts_from_the_head_that_was_sent_out_in_each_round() -> None:
    adam = Aggregator(settings("fedadam", server_rate=0.01))
    head = adam.aggregate(1, START, replies(1, 1))
    same = {"a": TrainReply(10, 0.1, head, 0.0), "b": TrainReply(10, 0.1, head, 0.0)}
    second = adam.aggregate(2, head, same)
    assert distance(second, head) < distance(head, START)


def test_a_night_that_is_resumed_starts_its_moments_as_a_first_round_does() -> None:
    given = replies(0.5, 0.3)
    fresh = Aggregator(settings("fedadam")).aggregate(1, START, given)
    resumed = Aggregator(settings("fedadam")).aggregate(3, START, given)
    assert resumed.to_bytes() == fresh.to_bytes()


@pytest.mark.parametrize(
    ("strategy", "night", "least"),
    [
        ("fedavg", {}, 1),
        ("fedprox", {}, 1),
        ("fedadam", {}, 2),
        ("fedmedian", {}, 3),
        ("fedtrimmedavg", {"trim": 0.2}, 5),
        ("fedtrimmedavg", {"trim": 0.1}, 10),
        ("fedtrimmedavg", {"trim": 0.45}, 3),
        ("fedtrimmedavg", {"trim": 0.3}, 4),
        ("krum", {"malicious": 1}, 5),
        ("krum", {"malicious": 3}, 9),
    ],
)
def test_a_strategy_refuses_to_run_where_it_means_nothing(strategy: str, night: dict[str, Any], least: int) -> None:
    aggregator = Aggregator(settings(strategy, **night))
    assert aggregator.minimum == least
    aggregator.check(least)
    assert len(aggregator.aggregate(1, START, replies(*[0.1] * least)).arrays) == 2
    with pytest.raises(NightError, match=f"{strategy} needs {least} cameras, and there are {least - 1}: .*") as caught:
        aggregator.aggregate(1, START, replies(*[0.1] * (least - 1)))
    assert "night.strategy" in caught.value.do


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_cameras_that_agree_are_believed_and_their_replies_left_as_they_are(strategy: str) -> None:
    given = replies(*[0.25] * 7)
    before = {name: reply.head.to_bytes() for name, reply in given.items()}
    made = aggregate(strategy, given)
    if strategy != "fedadam":  # it goes its own step in the same direction
        assert step_of(made) == pytest.approx(0.25, abs=1e-6)
    assert step_of(made) > 0
    assert {name: reply.head.to_bytes() for name, reply in given.items()} == before


def test_what_is_no_head_ends_the_night_with_a_reason() -> None:
    given = replies(3e38, -3e38, examples={0: 1, 1: 1})
    adam = Aggregator(settings("fedadam", server_rate=1e39))
    with (
        pytest.raises(NightError, match="fedadam made nothing usable of round 4's replies"),
        np.errstate(over="ignore", invalid="ignore"),
    ):
        adam.aggregate(4, START, given)


NOISE = PrivacySettings(noise_multiplier=0.5, clipping_norm=2.0, delta=1e-5)
LITTLE = dataclasses.replace(NOISE, noise_multiplier=1e-9)


def noisy(given: Mapping[str, TrainReply], privacy: PrivacySettings, strategy: str = "fedavg") -> Head:
    return Aggregator(settings(strategy, privacy=privacy)).aggregate(1, START, given)


def test_updates_are_clipped_and_those_within_the_norm_left_whole() -> None:
    large, small = moved(100), moved(0.01)
    made = noisy({"a": large}, LITTLE)
    assert distance(made, START) == pytest.approx(2, rel=1e-5)
    assert step_of(made) > 0  # in its own direction
    assert step_of(noisy({"a": small}, LITTLE)) == pytest.approx(0.01, abs=1e-6)


def test_with_noise_every_camera_weighs_the_same() -> None:
    made = noisy(replies(0.1, -0.2, examples={0: 99_999, 1: 1}), LITTLE)
    assert step_of(made) == pytest.approx(-0.05, abs=1e-6)


def test_no_camera_alone_moves_the_head_further_than_its_share_of_the_clipping_norm() -> None:
    without = noisy(replies(0.1, 0.1, 0.1, 0), LITTLE)
    for lie in (1e6, -1e6, 3e38):
        assert distance(noisy(replies(0.1, 0.1, 0.1, lie), LITTLE), without) == pytest.approx(2 / 4, rel=1e-4)


@pytest.mark.parametrize("cameras", [1, 4])
def test_the_noise_has_the_size_that_epsilon_counts_on(cameras: int) -> None:
    np.random.seed(7)  # noqa: NPY002  # Flower draws from NumPy's global generator
    steps = []
    for _ in range(60):
        made = noisy(replies(*[0.0] * cameras), NOISE)
        steps += [(a - b).ravel() for a, b in zip(made.arrays, START.arrays, strict=True)]
    drawn = np.concatenate(steps)
    assert drawn.std() == pytest.approx(0.5 * 2 / cameras, rel=0.1)
    assert drawn.mean() == pytest.approx(0, abs=0.1 / cameras)


def test_a_camera_that_sends_back_the_head_it_got_does_not_end_the_round() -> None:
    assert step_of(noisy(replies(0, 0.2), LITTLE)) == pytest.approx(0.1, abs=1e-6)


def test_epsilon_is_that_of_the_rounds_so_far() -> None:
    aggregator = Aggregator(settings(privacy=NOISE))
    assert aggregator.noisy
    assert aggregator.name == "fedavg with noise"
    assert aggregator.epsilon(9) == epsilon(0.5, 9, 1e-5)
    plain = Aggregator(settings())
    assert (plain.noisy, plain.name, plain.epsilon(9)) == (False, "fedavg", None)


@pytest.mark.parametrize("strategy", ["fedadam", "fedmedian", "fedtrimmedavg", "krum"])
def test_noise_is_refused_where_a_cameras_share_is_not_known(strategy: str) -> None:
    with pytest.raises(NightError, match=f"night.strategy is {strategy}") as caught:
        noisy(replies(*[0.1] * 9), NOISE, strategy)
    assert "promise too much" in caught.value.means


def test_noise_is_refused_beside_class_means_that_have_none() -> None:
    with pytest.raises(NightError, match=r"night\.exact_start is on"):
        Aggregator(settings(privacy=NOISE, exact_start=True)).check(5)
