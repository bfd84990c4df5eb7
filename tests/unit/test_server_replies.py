"""Replies that must not get as far as arithmetic, each with a reason that can be shown."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from appliance.errors import NightError
from appliance.judge import Tally
from appliance.models.head import Head
from server.replies import TestReply, check_means, check_test, check_train, too_large
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
    taken = check_train(trained(), LIKE, max_examples=MOST)
    assert (taken.examples, taken.loss, taken.norm) == (24, 0.25, 0)
    assert taken.head.to_bytes() == LIKE.to_bytes()
    assert check_train(trained(loss=0), LIKE, max_examples=MOST).loss == 0
    most: Any = {"num-examples": MOST}
    assert check_train(trained(**most), LIKE, max_examples=MOST).examples == MOST


def test_the_norm_is_of_the_change_over_all_arrays() -> None:
    moved = messages.head_record(Head.from_arrays([LIKE.arrays[0] + np.float32(0.5), LIKE.arrays[1] - np.float32(2)]))
    assert check_train(trained(moved), LIKE, max_examples=MOST).norm == pytest.approx((24 * 0.25 + 3 * 4) ** 0.5)


def test_a_change_too_large_for_float32_still_has_a_norm() -> None:
    far = messages.head_record(Head.from_arrays([f32(8, 3, value=3e38), f32(3, value=-3e38)]))
    assert check_train(trained(far), LIKE, max_examples=MOST).norm == pytest.approx(27**0.5 * 3e38)


def test_a_camera_with_fewer_frames_than_the_fleet_asks_for_is_refused() -> None:
    assert check_train(trained(), LIKE, max_examples=MOST, min_examples=24).examples == 24
    with pytest.raises(NightError, match="num-examples is 24, not a whole number from 25 to 1000"):
        check_train(trained(), LIKE, max_examples=MOST, min_examples=25)


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
        "array 0 can't be read",
    ),
    "content of another shape than it says": (
        named(_0=lying((8, 3), f32(8, 1)), _1=lying((3,), f32(1))),
        "array 0 holds float32 (8, 1), not float32 (8, 3)",
    ),
    "content of another type than it says": (
        named(_0=lying((8, 3), np.ones((8, 3))), _1=good_bias),
        "array 0 holds float64 (8, 3)",
    ),
    "more content than it says": (named(_0=lying((8, 3), f32(800, 3)), _1=good_bias), "too many for float32 (8, 3)"),
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


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf"), -float("inf"), [0.5], [0.1] * 10**5])
def test_a_loss_that_is_no_number_is_refused(loss: Any) -> None:
    with pytest.raises(NightError, match=r"loss is .*, not a finite number"):
        check_train(trained(loss=loss), LIKE, max_examples=MOST)


def test_a_metric_that_nobody_asked_for_is_refused() -> None:
    with pytest.raises(NightError, match=r"it sent metrics named .*'pixels'") as caught:
        check_train(trained(pixels=[0.5] * 1000), LIKE, max_examples=MOST)
    assert len(str(caught.value)) < 400


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
        {"arrays": METRICS, "metrics": HEAD},
        {"arrays": HEAD, "metrics": METRICS, "config": ConfigRecord({"x": b"a picture"})},
    ],
)
def test_other_records_than_a_head_and_its_metrics_are_refused(records: Mapping[str, Any]) -> None:
    with pytest.raises(NightError, match="other records"):
        check_train(reply(RecordDict(dict(records))), LIKE, max_examples=MOST)


@pytest.mark.parametrize(
    "check",
    [
        lambda r: check_train(r, LIKE, max_examples=9),
        lambda r: check_test(r, max_examples=9),
        lambda r: check_means(r, 3, 8, max_examples=9),
    ],
)
def test_what_went_wrong_on_the_camera_is_told(check: Any) -> None:
    broken = failure(question(RecordDict(), 7, "train"), "the store is on fire")
    with pytest.raises(NightError, match="it reported: the store is on fire"):
        check(broken)


def scored(**values: Any) -> Message:
    metrics = {"num-examples": 15, "correct": 14, "correct_before": 5, "lost": 1, "loss": 0.1} | values
    kept = {name: value for name, value in metrics.items() if value is not None}
    return reply(RecordDict({"metrics": MetricRecord(kept)}))


def test_a_good_test_is_taken() -> None:
    assert check_test(scored(), max_examples=MOST) == TestReply(15, 14, 5, 1)
    nothing = {"num-examples": 0, "correct": 0, "correct_before": 0, "lost": 0}
    assert check_test(scored(**nothing), max_examples=MOST) == TestReply(0, 0, 0, 0)


def test_the_gate_is_told_how_many_frames_were_lost_and_won() -> None:
    assert check_test(scored(), max_examples=MOST).tally == Tally(frames=15, before=5, after=14, lost=1, won=10)


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
        ({"lost": None}, "lost is None"),
        ({"lost": 2}, "lost is 2, not a whole number from 0 to 1"),  # one frame is wrong now
        ({"correct": 3, "lost": 1}, "lost is 1, not a whole number from 2 to 5"),  # 5 were right before
        ({"loss": float("nan")}, "loss is nan"),
        ({"pixels": 3}, "it sent metrics named"),
    ],
)
def test_a_test_that_cannot_be_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(NightError) as caught:
        check_test(scored(**values), max_examples=MOST)
    assert words in str(caught.value)


@pytest.mark.parametrize("extra", [{"arrays": HEAD}, {"more": METRICS}, {"config": ConfigRecord({})}])
def test_a_test_with_other_records_is_refused(extra: dict[str, Any]) -> None:
    counts: dict[str, Any] = {"num-examples": 1, "correct": 1, "correct_before": 1, "lost": 0, "loss": 0.1}
    content = RecordDict({"metrics": MetricRecord(counts), **extra})
    with pytest.raises(NightError, match="other records"):
        check_test(reply(content), max_examples=MOST)


@pytest.mark.parametrize(
    ("norms", "large"),
    [
        ({}, ""),
        ({"a": 1e9}, ""),  # nothing to compare it with
        ({"a": 1, "b": 10}, ""),
        ({"a": 1, "b": 10.1}, "b"),  # of two the smaller counts: their mean would let 1000 through
        ({"a": 1000, "b": 1}, "a"),
        ({"a": 1, "b": 2, "c": 21}, "c"),
        ({"a": 1, "b": 2, "c": 3, "d": 19}, ""),
        ({"a": 1, "b": 2, "c": 300, "d": 400}, "cd"),  # half of them lie high and don't move the lower median
        ({"a": 0.001, "b": 2, "c": 3}, ""),  # one that lies low doesn't either
        ({"a": 0, "b": 5}, ""),  # who did not move says nothing of how far one moves
        ({"a": 0, "b": 0, "c": 0, "d": 1, "e": 11}, "e"),
        ({"a": 0, "b": 0}, ""),
        ({"a": 1, "b": 1, "c": float("inf")}, "c"),
    ],
)
def test_an_update_far_beyond_the_lower_median_is_named(norms: dict[str, float], large: str) -> None:
    assert set(too_large(norms, 10)) == set(large)


def test_an_update_that_is_too_large_is_told_with_its_norm_and_the_median() -> None:
    reasons = too_large({"a": 1.5, "b": 200, "c": 2}, 10)
    assert reasons == {"b": "its update has norm 200, more than 10 times the round's median of 2"}


SUMS = np.array([[3.0, 4.0], [0.0, 0.0], [6.0, 0.0]], np.float32)  # means of length 1, none and 1
COUNTS = np.array([5, 0, 6], np.int64)


def means(sums: Any = SUMS, counts: Any = COUNTS, *, squares: Any = 12.0, **more: Any) -> Message:
    record = ArrayRecord({"sums": Array(sums), "counts": Array(counts)})
    return reply(RecordDict({"arrays": record, "metrics": MetricRecord({"squares": squares, **more})}))


def changed(array: np.ndarray[Any, Any], index: Any, value: float) -> np.ndarray[Any, Any]:
    other = array.copy()
    other[index] = value
    return other


def test_good_class_means_are_taken() -> None:
    taken = check_means(means(), 3, 2, max_examples=MOST)
    np.testing.assert_array_equal(taken.sums, SUMS)
    np.testing.assert_array_equal(taken.counts, COUNTS)
    assert taken.squares == 12
    assert check_means(means(squares=11), 3, 2, max_examples=11).squares == 11  # no frame lies off its mean


BAD_MEANS = {
    "other labels": (means(SUMS[:2], COUNTS[:2]), "array sums is float32 (2, 2), not float32 (3, 2)"),
    "other features": (means(np.zeros((3, 1), np.float32)), "array sums is float32 (3, 1)"),
    "float counts": (means(counts=COUNTS.astype(np.float32)), "array counts is float32"),
    "a negative count": (means(counts=np.array([-5, 0, 6])), "its counts [-5, 0, 6]"),
    "no frames": (means(np.zeros_like(SUMS), np.zeros(3, np.int64)), "its counts [0, 0, 0]"),
    "too many frames": (means(counts=np.array([5, 0, MOST])), "are not 1 to 1000 frames"),
    "counts whose sum wraps round": (means(counts=np.array([2**62, 2**62, 2**63 - 1])), "are not 1 to 1000 frames"),
    "NaN": (means(changed(SUMS, (0, 0), np.nan)), "its sums are not finite"),
    "sums without frames": (means(changed(SUMS, (1, 0), 1)), "for a label without frames"),
    "squares that no frames can have": (means(squares=10.9), "which no frames with these sums can have"),
    "squares that are not finite": (means(squares=float("inf")), "squares is inf"),
    "another metric": (means(more=1.0), "it sent metrics named"),
    "other arrays": (reply(RecordDict({"arrays": HEAD, "metrics": METRICS})), "it sent arrays named ['0', '1']"),
    "another record": (reply(RecordDict({"metrics": METRICS})), "it sent other records than class means"),
}


@pytest.mark.parametrize("name", BAD_MEANS)
def test_class_means_that_cannot_be_are_refused(name: str) -> None:
    message, words = BAD_MEANS[name]
    with pytest.raises(NightError) as caught:
        check_means(message, 3, 2, max_examples=MOST)
    assert words in str(caught.value)
