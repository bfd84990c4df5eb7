"""May this global model go out?"""

from __future__ import annotations

import numpy as np
import pytest

from appliance.models.head import Head
from server.gate import LabelScores, judge, score
from tests.fakes.parts import FEATURES, LABELS, tiny_head
from trainer.head import Examples


def scores(head: int = 0, hardhat: int = 0, *, of: tuple[int, int] = (10, 90)) -> LabelScores:
    return LabelScores({"head": head, "hardhat": hardhat}, {"head": of[0], "hardhat": of[1]})


NOBODY = LabelScores({"head": 0, "hardhat": 0}, {"head": 0, "hardhat": 0})


@pytest.mark.parametrize(
    ("before", "after", "own", "passed", "words"),
    [
        (scores(5, 80), scores(6, 85), (10, 8, 9), True, "head 6/10, hardhat 85/90 (was head 5/10, hardhat 80/90)"),
        (scores(5, 80), scores(5, 80), (10, 8, 8), True, "8 of 10 right (was 8)"),
        (scores(5, 80), scores(6, 78), (10, 8, 10), False, "worse on the server's test frames"),
        (scores(10, 80), scores(5, 90), (0, 0, 0), False, "worse on the server's test frames"),  # 90 % became 95 %
        (scores(5, 80), scores(9, 89), (10, 8, 7), False, "worse on the cameras' own test frames: 7 of 10"),
        (NOBODY, NOBODY, (10, 8, 9), True, "server has no frames"),
        (NOBODY, NOBODY, (10, 8, 7), False, "worse on the cameras' own"),
        (NOBODY, NOBODY, (0, 0, 0), False, "nobody can tell"),
        (scores(5, 80), scores(6, 85), (0, 0, 0), True, "server's frames"),
    ],
)
def test_a_model_goes_out_only_if_it_is_nowhere_worse(
    before: LabelScores, after: LabelScores, own: tuple[int, int, int], passed: bool, words: str
) -> None:
    verdict = judge(before, after, own_frames=own[0], own_before=own[1], own_after=own[2])
    assert verdict.passed is passed
    assert words in verdict.reason


def test_many_hats_do_not_hide_missed_heads() -> None:
    before, after = scores(10, 80), scores(5, 90)
    assert after.accuracy > before.accuracy
    assert after.mean_recall < before.mean_recall


def test_a_label_without_frames_weighs_nothing() -> None:
    only_hats = LabelScores({"head": 0, "hardhat": 9}, {"head": 0, "hardhat": 10})
    assert only_hats.mean_recall == 0.9
    assert only_hats.text() == "hardhat 9/10"
    assert (NOBODY.accuracy, NOBODY.mean_recall, NOBODY.text()) == (0, 0, "")


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_score_counts_by_label_what_the_live_head_says(hidden: int) -> None:
    head: Head = tiny_head(hidden_units=hidden)
    features = np.random.default_rng(2).normal(size=(60, 2, FEATURES)).astype(np.float32)
    labels = np.arange(60) % 3
    chosen = head.scores(features[:, 0]).argmax(axis=1)
    result = score(head, Examples(features, labels), LABELS)
    assert result.frames == dict.fromkeys(LABELS, 20)
    assert result.correct == {label: int((chosen[labels == i] == i).sum()) for i, label in enumerate(LABELS)}
    assert result.accuracy == (chosen == labels).mean()


def test_no_frames_give_an_empty_score() -> None:
    nothing = Examples(np.zeros((0, 1, FEATURES), np.float32), np.zeros(0, np.int64))
    result = score(tiny_head(), nothing, LABELS)
    assert (result.total, result.correct) == (0, dict.fromkeys(LABELS, 0))
