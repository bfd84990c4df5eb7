"""The poison table: what one of five cameras can send, what it does to plain FedAvg, and what becomes of it here.

Five cameras train a real head on small features by the real training graph. One reply is then poisoned. Flower's own
FedAvg gets the very same messages: it must come to harm, else the row would prove nothing. Here the reply is dropped
with its reason, and the round's head is the one of the four honest cameras, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.exception import InconsistentMessageReplies
from flwr.serverapp.strategy import FedAvg

from appliance.errors import NightError, PartError
from appliance.models.head import Head
from server.config import FleetSettings, NightSettings, PrivacySettings, ServerSettings, StrategyName
from server.replies import TrainReply, check_train, distance, too_large
from server.strategy import Aggregator
from tests.fakes.grid import question
from tests.fakes.parts import FEATURES
from tests.fakes.site import tiny_trainer
from trainer import messages
from trainer.head import Examples, Recipe, evaluate, train

LIAR = "camera 0"
CAMERAS = (LIAR, "camera 1", "camera 2", "camera 3", "camera 4")
START = Head.untrained(FEATURES, 3, 0, seed=1)
FRAMES = 24
RULES = NightSettings(strategy="fedavg", exact_start=False)

Harm = Literal["nobody gets a head", "not finite", "no head of ours", "chance", "far off"]


@dataclass(frozen=True)
class Poison:
    """One row.

    Attributes:
        harm: What it does to plain FedAvg.
        reason: Why it is dropped here: words of the sentence.
        turn: The liar's head goes so many times its honest way, and backwards where this is negative.
        spoil: Changes the liar's records.
        alone: The harm is done when no other camera answers.
    """

    harm: Harm
    reason: str
    turn: float = 1.0
    spoil: Callable[[dict[str, Array], dict[str, Any]], None] = field(default=lambda _, __: None)
    alone: bool = False


def counts(value: float) -> Callable[[dict[str, Array], dict[str, Any]], None]:
    def spoil(_: dict[str, Array], metrics: dict[str, Any]) -> None:
        metrics["num-examples"] = value

    return spoil


def kernel(change: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]) -> Callable[..., None]:
    def spoil(arrays: dict[str, Array], _: dict[str, Any]) -> None:
        arrays["0"] = Array(change(arrays["0"].numpy().copy()))

    return spoil


def one(value: float) -> Callable[..., None]:
    def change(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        array[3, 1] = value
        return array

    return kernel(change)


def without_bias(arrays: dict[str, Array], _: dict[str, Any]) -> None:
    del arrays["1"]


def with_more(arrays: dict[str, Array], _: dict[str, Any]) -> None:
    arrays["2"] = Array(np.zeros(3, np.float32))


def with_a_metric(_: dict[str, Array], metrics: dict[str, Any]) -> None:
    metrics["pixels"] = [0.5] * 100


POISON: Mapping[str, Poison] = {
    "10^9 examples": Poison("chance", "num-examples is 1000000000, not a whole number", -1, counts(10**9)),
    "negative examples": Poison("chance", "num-examples is -95", 2, counts(-4 * FRAMES + 1)),
    "negative examples that cancel all others": Poison("nobody gets a head", "num-examples is -96", 1, counts(-96)),
    "zero examples": Poison("nobody gets a head", "num-examples is 0", 1, counts(0), alone=True),
    "examples that are no whole number": Poison("chance", "num-examples is 1e+30", -1, counts(1e30)),
    "NaN as weight": Poison("not finite", "num-examples is nan", 1, counts(float("nan"))),
    "infinite weight": Poison("not finite", "num-examples is inf", 1, counts(float("inf"))),
    "NaN": Poison("not finite", "not finite", 1, one(np.nan)),
    "inf": Poison("not finite", "not finite", 1, one(np.inf)),
    "int64": Poison("no head of ours", "is int64", 1, kernel(lambda array: array.astype(np.int64))),
    "float64": Poison("no head of ours", "is float64", 1, kernel(lambda array: array.astype(np.float64))),
    "a shape that broadcasts": Poison(
        "chance",
        "is float32 (1, 3), not float32 (8, 3)",
        1,
        kernel(lambda _: np.array([[500, 0, 0]], np.float32)),
    ),
    "a missing key": Poison("nobody gets a head", "arrays named ['0']", 1, without_bias),
    "an extra key": Poison("nobody gets a head", "arrays named ['0', '1', '2']", 1, with_more),
    "an extra metric": Poison("nobody gets a head", "metrics named", 1, with_a_metric),
    "sign-flipped and scaled": Poison("chance", "times the round's median", -100),
    "scaled": Poison("far off", "times the round's median", 100),
}


def frames(seed: int, each: int = FRAMES // 3) -> Examples:
    """Three kinds that a linear head tells apart, but the one that nobody trained does not."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), each)
    centres = np.eye(3, FEATURES) * 3
    return Examples(
        (centres[labels] + generator.normal(0, 0.5, (len(labels), FEATURES)))[:, np.newaxis].astype(np.float32), labels
    )


UNSEEN = frames(99, each=100)


@pytest.fixture(scope="module")
def trained() -> dict[str, Head]:
    """What each camera honestly learned."""
    recipe = Recipe(epochs=40, rate=0.05)
    return {name: train(tiny_trainer(), START, frames(seed), recipe)[0] for seed, name in enumerate(CAMERAS)}


def turned(head: Head, times: float) -> Head:
    pairs = zip(head.arrays, START.arrays, strict=True)
    return Head.from_arrays([np.asarray(start + np.float32(times) * (array - start)) for array, start in pairs])


def sent(trained: Mapping[str, Head], poison: Poison | None = None) -> dict[str, Message]:
    """The replies of a round, fresh: Flower's strategies take them apart."""
    replies = {}
    for name, head in trained.items():
        is_liar = poison is not None and name == LIAR
        arrays = dict(messages.head_record(turned(head, poison.turn) if poison and is_liar else head))
        metrics: dict[str, Any] = {"num-examples": FRAMES, "loss": 0.1}
        if poison and is_liar:
            poison.spoil(arrays, metrics)
        content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord(metrics)})
        replies[name] = Message(content, reply_to=question(RecordDict(), 7, "train"))
    return replies


def plain_fedavg(replies: Mapping[str, Message]) -> list[np.ndarray[Any, Any]]:
    arrays, _ = FedAvg(weighted_by_key="num-examples").aggregate_train(1, list(replies.values()))
    assert arrays is not None
    return arrays.to_numpy_ndarrays()


def check(replies: Mapping[str, Message]) -> tuple[dict[str, TrainReply], dict[str, str]]:
    """As a round does: every reply by itself, then all by their norms."""
    good: dict[str, TrainReply] = {}
    dropped: dict[str, str] = {}
    for name, reply in replies.items():
        try:
            good[name] = check_train(reply, START, max_examples=RULES.max_examples)
        except NightError as error:
            dropped[name] = str(error)
    large = too_large({name: reply.norm for name, reply in good.items()}, RULES.norm_multiple)
    return {name: reply for name, reply in good.items() if name not in large}, dropped | large


def aggregate(replies: Mapping[str, TrainReply], strategy: StrategyName = "fedavg") -> Head:
    night = NightSettings(strategy=strategy, exact_start=False, malicious=1, trim=0.2)
    settings = ServerSettings(Path("x"), FleetSettings("x"), night=night, privacy=PrivacySettings(noise_multiplier=0))
    return Aggregator(settings).aggregate(1, START, replies)


def accuracy(head: Head) -> float:
    return evaluate(head, UNSEEN).accuracy


def test_without_poison_the_cameras_learn_to_tell_the_frames_apart(trained: dict[str, Head]) -> None:
    assert accuracy(START) < 0.5
    good, dropped = check(sent(trained))
    assert not dropped
    assert accuracy(aggregate(good)) > 0.98
    assert accuracy(Head.from_arrays(plain_fedavg(sent(trained)))) > 0.98


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NaN and inf are what it is about
@pytest.mark.parametrize("name", POISON)
def test_it_does_harm_to_plain_fedavg(name: str, trained: dict[str, Head]) -> None:
    poison = POISON[name]
    replies = sent(trained, poison)
    if poison.alone:
        replies = {LIAR: replies[LIAR]}
    elif poison.harm != "no head of ours":
        replies = {camera: replies[camera] for camera in reversed(CAMERAS)}  # the liar answers last
    if poison.harm == "nobody gets a head":
        with pytest.raises((InconsistentMessageReplies, ZeroDivisionError)):
            plain_fedavg(replies)
        return
    arrays = plain_fedavg(replies)
    if poison.harm == "not finite":
        assert not all(np.isfinite(array).all() for array in arrays)
    elif poison.harm == "no head of ours":
        with pytest.raises(PartError, match="don't fit together"):
            Head.from_arrays(arrays)
    elif poison.harm == "chance":
        assert accuracy(Head.from_arrays(arrays)) < 0.5
    else:
        honest = aggregate(check(sent(trained))[0])
        assert distance(Head.from_arrays(arrays), START) > 10 * distance(honest, START)


@pytest.mark.parametrize("name", POISON)
def test_it_is_dropped_with_its_reason_and_costs_nobody_else(name: str, trained: dict[str, Head]) -> None:
    poison = POISON[name]
    good, dropped = check(sent(trained, poison))
    assert set(dropped) == {LIAR}
    assert poison.reason in dropped[LIAR]
    honest, nobody = check({camera: reply for camera, reply in sent(trained).items() if camera != LIAR})
    assert not nobody
    made = aggregate(good)
    assert made.to_bytes() == aggregate(honest).to_bytes()
    assert accuracy(made) > 0.98


FLIPPED = Poison("far off", "nothing", -1)  # as long as an honest update, and exactly backwards


def test_a_sign_flipped_update_of_honest_length_passes_every_check_of_a_reply(trained: dict[str, Head]) -> None:
    good, dropped = check(sent(trained, FLIPPED))
    assert not dropped
    assert set(good) == set(CAMERAS)


@pytest.mark.parametrize("strategy", ["fedavg", "fedmedian", "fedtrimmedavg", "krum"])
def test_what_a_sign_flipped_update_of_honest_length_does_to_each_strategy(
    strategy: StrategyName, trained: dict[str, Head]
) -> None:
    """FedAvg goes only three fifths of the way. The others stay among the honest heads."""
    made = aggregate(check(sent(trained, FLIPPED))[0], strategy)
    honest = [trained[camera] for camera in CAMERAS[1:]]
    mean = Head.from_arrays([np.mean(arrays, axis=0) for arrays in zip(*(h.arrays for h in honest), strict=True)])
    lost = distance(made, mean) / distance(mean, START)
    if strategy == "fedavg":
        assert 0.35 < lost < 0.45  # 4/5 of the honest mean, and -1/5 of the liar's: two fifths are gone
    elif strategy == "krum":
        assert made.to_bytes() in [head.to_bytes() for head in honest]
    else:
        assert lost < 0.3
        lowest, highest = (
            [pick(arrays, axis=0) for arrays in zip(*(head.arrays for head in honest), strict=True)]
            for pick in (np.min, np.max)
        )
        for array, low, high in zip(made.arrays, lowest, highest, strict=True):
            assert ((array >= low - 1e-6) & (array <= high + 1e-6)).all()


def test_a_liar_within_the_cap_on_examples_outweighs_all_others_in_fedavg_but_not_in_the_median(
    trained: dict[str, Head],
) -> None:
    """The cap bounds what one camera can claim, not what it is worth: set it near what your cameras have."""
    heavy = Poison("chance", "nothing", -1, counts(RULES.max_examples))
    good, dropped = check(sent(trained, heavy))
    assert not dropped
    assert accuracy(aggregate(good, "fedavg")) < 0.5
    assert accuracy(aggregate(good, "fedmedian")) > 0.95
