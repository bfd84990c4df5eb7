"""May this global model go out?"""

from __future__ import annotations

import numpy as np
import pytest

from appliance.judge import Tally
from appliance.models.head import Head
from server.gate import LabelScores, judge, score
from tests.fakes.parts import FEATURES, LABELS, tiny_head
from trainer.head import Examples

TWO = ("head", "hardhat")
NOBODY = LabelScores(TWO, (), (), 0.0)


def scores(head: int, hardhat: int, *, of: tuple[int, int] = (50, 100)) -> LabelScores:
    """So many of each named right; those named wrong come last, so that two heads differ as little as can be."""
    truth = (0,) * of[0] + (1,) * of[1]
    chosen = (0,) * head + (1,) * (of[0] - head) + (1,) * hardhat + (0,) * (of[1] - hardhat)
    return LabelScores(TWO, truth, chosen, 0.1)


def own(frames: int, before: int, after: int) -> Tally:
    return Tally(frames, before, after, max(0, before - after), max(0, after - before))


@pytest.mark.parametrize(
    ("before", "after", "own_frames", "outcome", "passed", "words"),
    [
        (scores(20, 20), scores(48, 97), [], "better", True, "better, and not by chance"),
        (scores(48, 97), scores(48, 97), [], "not worse", True, "at most 2% of frames got worse"),
        (scores(48, 97), scores(40, 97), [], "worse", False, "worse on the server's test frames: 137 of 150 right"),
        (scores(40, 80), scores(32, 95), [], "worse", False, "worse on the server's test frames of head: 32 of 50"),
        (scores(9, 18, of=(9, 18)), scores(9, 18, of=(9, 18)), [], "cannot tell", True, "27 frames can't tell"),
        (scores(9, 18, of=(9, 18)), scores(9, 16, of=(9, 18)), [], "cannot tell", False, "named fewer frames right"),
        (NOBODY, NOBODY, [own(10, 8, 9), own(70, 60, 60)], "not worse", True, "cameras' own: 69 of 80, before 68"),
        (NOBODY, NOBODY, [own(20, 18, 9)], "worse", False, "worse on the own test frames of 1 of 1 cameras: 9 of 20"),
        (NOBODY, NOBODY, [], "cannot tell", False, "nobody can tell"),
        (NOBODY, NOBODY, [own(0, 0, 0)], "cannot tell", False, "nobody can tell"),
    ],
)
def test_a_model_goes_out_unless_it_is_worse_somewhere(
    before: LabelScores, after: LabelScores, own_frames: list[Tally], outcome: str, passed: bool, words: str
) -> None:
    verdict = judge(before, after, own_frames, margin=0.05)
    assert (verdict.outcome, verdict.passed) == (outcome, passed)
    assert words in verdict.reason


def test_many_hats_do_not_hide_missed_heads() -> None:
    before, after = scores(50, 60), scores(35, 100)
    assert after.accuracy > before.accuracy
    verdict = judge(before, after, [], margin=0.05)
    assert not verdict.passed
    assert "of head" in verdict.reason


def test_every_label_has_its_interval() -> None:
    verdict = judge(scores(48, 97), scores(48, 97), [], margin=0.05)
    head, hardhat = verdict.labels
    assert (head.label, head.frames, head.before, head.after) == ("head", 50, 48, 48)
    # Clopper and Pearson's interval for 48 of 50: 86.3 to 99.5 %
    assert (round(head.low, 3), round(head.high, 3)) == (0.863, 0.995)
    assert head.text() == "head 48 of 50 (86 to 100 %)"
    assert hardhat.low < 0.97 < hardhat.high
    assert verdict.figures()["labels"][0]["low"] == head.low


def test_a_camera_that_is_outvoted_neither_keeps_a_model_in_nor_lets_one_out() -> None:
    honest = [own(30, 27, 28) for _ in range(3)]
    liar = own(100_000, 100_000, 0)
    assert judge(NOBODY, NOBODY, [*honest, liar], margin=0.05).passed
    worse = [own(30, 28, 15) for _ in range(3)]
    flatterer = own(100_000, 0, 100_000)
    assert not judge(NOBODY, NOBODY, [*worse, flatterer], margin=0.05).passed


def test_one_of_two_cameras_is_not_outvoted() -> None:
    assert not judge(NOBODY, NOBODY, [own(9, 8, 2), own(9, 8, 8)], margin=0.05).passed


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_score_says_what_the_live_head_says(hidden: int) -> None:
    head: Head = tiny_head(hidden_units=hidden)
    features = np.random.default_rng(2).normal(size=(60, 2, FEATURES)).astype(np.float32)
    labels = np.arange(60) % 3
    said = head.scores(features[:, 0])
    chosen = said.argmax(axis=1)
    result = score(head, Examples(features, labels), LABELS)
    assert [result.of_label(i) for i in range(3)] == [(int((chosen[labels == i] == i).sum()), 20) for i in range(3)]
    assert result.accuracy == (chosen == labels).mean()
    likelihood = np.maximum(said[np.arange(60), labels], 1e-12)
    assert result.loss == pytest.approx(float(-np.log(likelihood).mean()), rel=1e-5)


def test_no_frames_give_an_empty_score() -> None:
    nothing = Examples(np.zeros((0, 1, FEATURES), np.float32), np.zeros(0, np.int64))
    result = score(tiny_head(), nothing, LABELS)
    assert (result.total, result.correct, result.accuracy, result.loss, result.text()) == (0, 0, 0, 0, "")
