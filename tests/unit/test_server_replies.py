"""Replies that must not get as far as arithmetic, each with a reason that can be shown."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from appliance.errors import NightError
from server.replies import TestReply, TrainReply, check_test, check_train
from tests.fakes.grid import failure, question
from tests.fakes.parts import tiny_head
from trainer import messages

LIKE = tiny_head()  # [8, 3] and [3]
MOST = 1000


def reply(content: RecordDict) -> Message:
    return Message(content, reply_to=question(RecordDict(), 7, "train"))


def trained(arrays: ArrayRecord | None = None, **more: Any) -> Message:
    """A training reply that is good but for what is given; None takes a metric away."""
    metrics = {"num-examples": 24, "loss": 0.25} | more
    kept = {name: value for name, value in metrics.items() if value is not None}
    return reply(
        RecordDict({"arrays": messages.head_record(LIKE) if arrays is None else arrays, "metrics": MetricRecord(kept)})
    )


def arrays(*changed: np.ndarray[Any, Any]) -> ArrayRecord:
    return ArrayRecord(list(changed))


def f32(*shape: int, value: float = 0.5) -> np.ndarray[Any, Any]:
    return np.full(shape, value, np.float32)


def lying(claimed: tuple[int, ...], real: np.ndarray[Any, Any]) -> Array:
    """An array whose content is another than its own description says."""
    buffer = io.BytesIO()
    np.save(buffer, real, allow_pickle=False)
    return Array("float32", claimed, "numpy.ndarray", buffer.getvalue())


def named(**entries: Array) -> ArrayRecord:
    return ArrayRecord({name.removeprefix("_"): array for name, array in entries.items()})


def test_a_good_reply_is_taken() -> None:
    assert check_train(trained(), LIKE, max_examples=MOST) == TrainReply(24, 0.25)
    assert check_train(trained(loss=0), LIKE, max_examples=MOST).loss == 0
    most: Any = {"num-examples": MOST}
    assert check_train(trained(**most), LIKE, max_examples=MOST).examples == MOST


good_kernel, good_bias = Array(f32(8, 3)), Array(f32(3))

BAD_ARRAYS = {
    "one missing": (arrays(f32(8, 3)), "arrays named ['0']"),
    "one too many": (arrays(f32(8, 3), f32(3), f32(3)), "arrays named"),
    "none": (ArrayRecord(), "arrays named []"),
    "other names": (named(kernel=good_kernel, bias=good_bias), "arrays named ['kernel', 'bias']"),
    "another order": (named(_1=good_bias, _0=good_kernel), "arrays named ['1', '0']"),
    "int64": (arrays(np.ones((8, 3), np.int64), f32(3)), "array 0 is int64 (8, 3), not float32 (8, 3)"),
    "float64": (arrays(f32(8, 3), np.ones(3)), "array 1 is float64"),
    "transposed": (arrays(f32(3, 8), f32(3)), "array 0 is float32 (3, 8)"),
    "a shape that broadcasts": (arrays(f32(8, 1), f32(3)), "array 0 is float32 (8, 1), not float32 (8, 3)"),
    "a scalar": (arrays(f32(8, 3), f32()), "array 1 is float32 (), not float32 (3,)"),
    "NaN": (arrays(f32(8, 3, value=np.nan), f32(3)), "not finite"),
    "infinite": (arrays(f32(8, 3), f32(3, value=np.inf)), "not finite"),
    "bytes that are no array": (
        named(_0=Array("float32", (8, 3), "numpy.ndarray", b"rubbish"), _1=good_bias),
        "head can't be used",
    ),
    "content of another shape than it says": (named(_0=lying((8, 3), f32(8, 1)), _1=lying((3,), f32(1))), "head"),
    "content of another type than it says": (named(_0=lying((8, 3), np.ones((8, 3))), _1=good_bias), "head"),
    "more content than it says": (named(_0=lying((8, 3), f32(80, 3)), _1=good_bias), "head"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_a_head_that_does_not_fit_is_refused(name: str) -> None:
    record, words = BAD_ARRAYS[name]
    with pytest.raises(NightError) as caught:
        check_train(trained(record), LIKE, max_examples=MOST)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("count", [None, 0, -5, MOST + 1, 10**9, 24.0, 0.5, [1, 2]])
def test_a_number_of_examples_that_is_not_believed_is_refused(count: Any) -> None:
    with pytest.raises(NightError, match=r"num-examples is .*, not a whole number from 1 to 1000"):
        check_train(trained(**{"num-examples": count}), LIKE, max_examples=MOST)


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf"), -float("inf"), [0.5]])
def test_a_loss_that_is_no_number_is_refused(loss: Any) -> None:
    with pytest.raises(NightError, match=r"loss is .*, not a finite number"):
        check_train(trained(loss=loss), LIKE, max_examples=MOST)


HEAD, METRICS = messages.head_record(LIKE), MetricRecord({"num-examples": 24, "loss": 0.25})


@pytest.mark.parametrize(
    "records",
    [
        {},
        {"arrays": HEAD},
        {"metrics": METRICS},
        {"arrays": HEAD, "metrics": METRICS, "more": HEAD},
        {"arrays": HEAD, "metrics": METRICS, "more": METRICS},
        {"weights": HEAD, "metrics": METRICS},
        {"arrays": HEAD, "metrics": METRICS, "config": ConfigRecord({"x": b"a picture"})},
    ],
)
def test_other_records_than_a_head_and_its_metrics_are_refused(records: Mapping[str, Any]) -> None:
    with pytest.raises(NightError, match="other records"):
        check_train(reply(RecordDict(dict(records))), LIKE, max_examples=MOST)


@pytest.mark.parametrize(
    "check", [lambda r: check_train(r, LIKE, max_examples=9), lambda r: check_test(r, max_examples=9)]
)
def test_what_went_wrong_on_the_camera_is_told(check: Any) -> None:
    broken = failure(question(RecordDict(), 7, "train"), "the store is on fire")
    with pytest.raises(NightError, match="it reported: the store is on fire"):
        check(broken)


def scored(**values: Any) -> Message:
    metrics = {"num-examples": 15, "correct": 14, "correct_before": 5, "loss": 0.1} | values
    kept = {name: value for name, value in metrics.items() if value is not None}
    return reply(RecordDict({"metrics": MetricRecord(kept)}))


def test_a_good_test_is_taken() -> None:
    assert check_test(scored(), max_examples=MOST) == TestReply(15, 14, 5)
    nothing = {"num-examples": 0, "correct": 0, "correct_before": 0}
    assert check_test(scored(**nothing), max_examples=MOST) == TestReply(0, 0, 0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"num-examples": MOST + 1}, "num-examples is 1001"),
        ({"num-examples": -1}, "num-examples is -1"),
        ({"num-examples": None}, "num-examples is None"),
        ({"correct": 16}, "correct is 16, not a whole number from 0 to 15"),
        ({"correct": -1}, "correct is -1"),
        ({"correct_before": 16}, "correct_before is 16"),
        ({"correct_before": None}, "correct_before is None"),
        ({"correct": 14.0}, "correct is 14.0"),
    ],
)
def test_a_test_that_cannot_be_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(NightError) as caught:
        check_test(scored(**values), max_examples=MOST)
    assert words in str(caught.value)


@pytest.mark.parametrize("extra", [{"arrays": HEAD}, {"more": METRICS}, {"config": ConfigRecord({})}])
def test_a_test_with_other_records_is_refused(extra: dict[str, Any]) -> None:
    content = RecordDict({"metrics": MetricRecord({"num-examples": 1, "correct": 1, "correct_before": 1}), **extra})
    with pytest.raises(NightError, match="other records"):
        check_test(reply(content), max_examples=MOST)
