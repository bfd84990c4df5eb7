"""A label is said only where the model may be believed, and a version is judged by its own rules."""

from __future__ import annotations

import math
import threading

import numpy as np

from appliance.decide import Decider, Rules, decide
from appliance.familiarity import Familiarity
from appliance.frame import Doubt, Prediction
from appliance.models.head import Array

_EAST, _NORTH = np.eye(2, dtype=np.float32)


def _prediction(head: float, *, version: int = 1, features: Array | None = None) -> Prediction:
    return Prediction({"head": head, "hardhat": 1 - head}, version, 1.0, features)


def _rules(**others: object) -> Rules:
    return Rules(0.6, **others)  # type: ignore[arg-type]


def test_a_score_above_the_threshold_is_said() -> None:
    decision = decide(_prediction(0.7), _rules())
    assert (decision.label, decision.confidence, decision.doubt) == ("head", 0.7, Doubt.NONE)
    assert decision.familiarity is None


def test_a_score_at_the_threshold_is_not_said_and_the_reason_is_given() -> None:
    decision = decide(_prediction(0.6), _rules())
    assert (decision.label, decision.doubt) == (None, Doubt.LOW_SCORE)


def test_a_score_that_is_no_number_is_not_said() -> None:
    assert decide(Prediction({"head": math.nan, "hardhat": math.nan}, 1, 1.0), _rules()).label is None


def test_a_label_may_ask_for_more_than_the_floor_and_never_for_less() -> None:
    rules = _rules(thresholds={"head": 0.9, "hardhat": 0.1})
    assert decide(_prediction(0.85), rules).doubt is Doubt.LOW_SCORE
    assert decide(_prediction(0.95), rules).label == "head"
    assert decide(_prediction(0.45), rules).doubt is Doubt.LOW_SCORE
    assert decide(_prediction(0.2), rules).label == "hardhat"


def test_a_frame_like_nothing_that_was_taught_is_unsure_however_high_its_score() -> None:
    rules = _rules(familiarity=Familiarity(_EAST[None], 0.8))
    near, far = (decide(_prediction(0.99, features=features), rules) for features in (3 * _EAST, _NORTH))
    assert (near.label, near.familiarity) == ("head", 1.0)
    assert (far.label, far.doubt, far.familiarity) == (None, Doubt.UNFAMILIAR, 0.0)


def test_features_that_cannot_be_compared_are_unfamiliar() -> None:
    rules = _rules(familiarity=Familiarity(_EAST[None], -1.0))
    for features in (np.zeros(2, np.float32), np.ones(3, np.float32), np.full(2, np.nan, np.float32)):
        assert decide(_prediction(0.99, features=features), rules).doubt is Doubt.UNFAMILIAR


def test_without_features_the_score_alone_decides() -> None:
    rules = _rules(familiarity=Familiarity(_EAST[None], 0.8))
    decision = decide(_prediction(0.99), rules)
    assert (decision.label, decision.familiarity) == ("head", None)


def test_a_version_is_judged_by_its_own_rules_and_an_unknown_one_by_the_floor() -> None:
    decider = Decider(0.6)
    assert decider(_prediction(0.7)).label == "head"
    decider.use(2, Rules(0.95))
    assert decider(_prediction(0.7, version=1)).label == "head"
    assert decider(_prediction(0.7, version=2)).label is None
    assert decider.rules(2).sure_above == 0.95


def test_versions_long_gone_are_forgotten_but_not_the_last_ones() -> None:
    decider = Decider(0.6)
    for version in range(1, 50):
        decider.use(version, Rules(0.95))
    assert decider.rules(49).sure_above == decider.rules(48).sure_above == 0.95
    assert decider.rules(1).sure_above == 0.6


def test_rules_replaced_while_the_loop_decides_are_the_old_ones_or_the_new() -> None:
    decider = Decider(0.6)
    decider.use(1, Rules(0.6))
    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            decider.use(1, Rules(0.6))
            decider.use(1, Rules(0.99))

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        doubts = {decider(_prediction(0.7)).doubt for _ in range(5000)}
    finally:
        stop.set()
        thread.join()
    assert doubts <= {Doubt.NONE, Doubt.LOW_SCORE}
