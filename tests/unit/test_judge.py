import math
from collections.abc import Sequence

import pytest

from appliance.judge import Tally, judge, tail, upper_bound


@pytest.mark.parametrize(
    ("lost", "differing", "chance"),
    [
        (0, 0, 1.0),
        (0, 7, 1.0),
        (1, 1, 0.5),
        (5, 5, 1 / 32),
        (9, 10, 11 / 1024),
        (15, 20, 0.020694732666015625),  # scipy.stats.binomtest(15, 20, alternative="greater")
        (300, 300, 2.0**-300),
    ],
)
def test_the_tail_of_coin_tosses_has_its_known_values(lost: int, differing: int, chance: float) -> None:
    assert tail(lost, differing) == pytest.approx(chance, rel=1e-12)


@pytest.mark.parametrize(
    ("bad", "frames", "bound"),
    [
        (0, 1, 0.95),
        (0, 20, 1 - 0.05 ** (1 / 20)),  # the rule of three: about 3 / 20
        (0, 60, 1 - 0.05 ** (1 / 60)),
        (1, 10, 0.3941633),  # Clopper and Pearson, one-sided 95 %, from published tables
        (5, 10, 0.7775589),
        (10, 10, 1.0),
        (0, 0, 1.0),
    ],
)
def test_the_upper_bound_has_its_known_values(bad: int, frames: int, bound: float) -> None:
    assert upper_bound(bad, frames) == pytest.approx(bound, abs=1e-6)


def test_the_bound_keeps_its_promise_for_the_largest_set_that_is_asked() -> None:
    bound = upper_bound(7, 300)
    at_most = sum(math.comb(300, k) * bound**k * (1 - bound) ** (300 - k) for k in range(8))
    assert at_most == pytest.approx(0.05, abs=1e-9)


def answers(frames: int, wrong: Sequence[int] = (), *, label: str = "head") -> list[str]:
    return ["nobody" if index in wrong else label for index in range(frames)]


def test_a_tally_counts_what_was_lost_and_won() -> None:
    tally = Tally.of(answers(6), answers(6, [0, 1]), answers(6, [1, 2, 3]))
    assert tally == Tally(frames=6, before=4, after=3, lost=2, won=1)


def test_no_frames_are_not_enough() -> None:
    judgement = judge([], [], [], margin=0.05)
    assert judgement.outcome == "not enough frames"
    assert "server's verdict" in judgement.sentence


@pytest.mark.parametrize(
    ("frames", "outcome"), [(20, "not enough frames"), (58, "not enough frames"), (59, "not worse")]
)
def test_identical_answers_show_a_margin_of_five_per_cent_from_59_frames_on(frames: int, outcome: str) -> None:
    judgement = judge(answers(frames), answers(frames), answers(frames), margin=0.05)
    assert judgement.outcome == outcome
    assert f"{frames} of {frames} own test frames right" in judgement.sentence


def test_twenty_frames_cannot_show_two_per_cent() -> None:
    judgement = judge(answers(20), answers(20), answers(20), margin=0.02)
    assert judgement.outcome == "not enough frames"
    assert "up to 14% could have got worse unseen, the margin is 2%" in judgement.sentence


def test_six_frames_lost_and_none_won_are_worse() -> None:
    # One label: two questions, so the chance must be below 2.5 %. 1/32 is not, 1/64 is.
    assert judge(answers(9), answers(9), answers(9, range(5)), margin=0.05).outcome == "not enough frames"
    judgement = judge(answers(9), answers(9), answers(9, range(6)), margin=0.05)
    assert judgement.outcome == "worse"
    assert "3 of 9 right, 9 before" in judgement.sentence


def test_as_many_won_as_lost_are_not_worse_however_many_they_are() -> None:
    truth = answers(40)
    assert judge(truth, answers(40, range(20)), answers(40, range(20, 40)), margin=0.6).outcome != "worse"


def test_a_label_that_suffers_is_named_though_all_in_all_it_is_better() -> None:
    truth = answers(30) + answers(30, label="hardhat")
    before = answers(30) + answers(30, range(30), label="hardhat")
    after = answers(30, range(12)) + answers(30, label="hardhat")
    judgement = judge(truth, before, after, margin=0.05)
    assert judgement.outcome == "worse"
    assert "own test frames of head: 18 of 30 right, 30 before" in judgement.sentence


def test_a_version_that_is_better_by_more_than_chance_needs_no_bound() -> None:
    judgement = judge(answers(10), answers(10, range(5)), answers(10), margin=0.05)
    assert judgement.outcome == "not worse"
    assert judgement.sentence == "10 of 10 own test frames right, 5 before: better, and not by chance"


def test_a_version_that_may_be_better_by_chance_is_left_to_the_server() -> None:
    judgement = judge(answers(10), answers(10, range(4)), answers(10), margin=0.05)
    assert judgement.outcome == "not enough frames"
    assert judgement.sentence.startswith("10 of 10 own test frames right, 6 before")


def test_the_false_alarm_rate_of_equally_good_versions_stays_below_five_per_cent() -> None:
    # Exactly, not by drawing: the chance that any of two questions says "worse" where 12 frames differ by tosses.
    allowed = 0.05 / 2
    worse = [lost for lost in range(13) if tail(lost, 12) < allowed]
    assert sum(math.comb(12, lost) for lost in worse) / 2**12 < 0.05
