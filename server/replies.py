"""Checks a camera's reply before any arithmetic: one broken camera costs itself, not the night."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import Message, MetricRecord, RecordDict

from appliance.errors import NightError, PartError
from appliance.models.head import Head
from trainer import messages

_HEADER_BYTES = 1024  # of the .npy form in which Flower carries an array; measured 128


@dataclass(frozen=True)
class TrainReply:
    """A camera's contribution to a round, checked.

    Attributes:
        examples: Frames that it learned from.
        loss: Mean loss of its last epoch.
    """

    examples: int
    loss: float


def check_train(reply: Message, like: Head, *, max_examples: int) -> TrainReply:
    """Check a training reply.

    Args:
        reply: From a camera.
        like: The head that was sent out: its shape is the only one taken.
        max_examples: More than this is not believed.

    Raises:
        NightError: With the reason, in a sentence that can be shown.
    """
    content = _content(reply)
    if set(content) != {messages.ARRAYS, messages.METRICS} or len(content.array_records) != 1:
        raise NightError("it sent other records than a head and its metrics")
    arrays = content.array_records[messages.ARRAYS]
    if list(arrays) != [str(index) for index in range(len(like.arrays))]:
        raise NightError(f"it sent arrays named {list(arrays)[:8]}")
    for name, array, expected in zip(arrays, arrays.values(), like.arrays, strict=True):
        if array.dtype != "float32" or tuple(array.shape) != expected.shape:
            raise NightError(f"array {name} is {array.dtype} {tuple(array.shape)}, not float32 {expected.shape}")
    try:
        head = messages.head_of(content)
    except (PartError, ValueError, TypeError) as error:
        raise NightError(f"its head can't be used: {error}") from error
    for array, decoded, expected in zip(arrays.values(), head.arrays, like.arrays, strict=True):
        # What an array says of itself and what lies in it are two things.
        if decoded.shape != expected.shape or len(array.data) > expected.nbytes + _HEADER_BYTES:
            raise NightError(f"its head holds {decoded.shape} in {len(array.data)} bytes, not {expected.shape}")
    metrics = content.metric_records[messages.METRICS]
    return TrainReply(_count(metrics, messages.EXAMPLES, max_examples), _number(metrics, "loss"))


@dataclass(frozen=True)
class TestReply:
    """How two heads do on a camera's own test frames.

    Attributes:
        frames: How many.
        correct: Named right by the candidate.
        correct_before: Named right by the head that the camera runs.
    """

    __test__ = False  # not a test case, whatever its name says to pytest

    frames: int
    correct: int
    correct_before: int


def check_test(reply: Message, *, max_examples: int) -> TestReply:
    """Check an evaluation reply.

    Raises:
        NightError: With the reason, in a sentence that can be shown.
    """
    content = _content(reply)
    if set(content) != {messages.METRICS} or not content.metric_records:
        raise NightError("it sent other records than metrics")
    metrics = content.metric_records[messages.METRICS]
    frames = _count(metrics, messages.EXAMPLES, max_examples, least=0)
    correct, before = (_count(metrics, name, frames, least=0) for name in ("correct", "correct_before"))
    return TestReply(frames, correct, before)


def _content(reply: Message) -> RecordDict:
    if reply.has_error():
        raise NightError(f"it reported: {reply.error.reason}")
    return reply.content


def _count(metrics: MetricRecord, name: str, most: int, *, least: int = 1) -> int:
    value = metrics.get(name)
    if type(value) is not int or not least <= value <= most:
        raise NightError(f"{name} is {value!r}, not a whole number from {least} to {most}")
    return value


def _number(metrics: MetricRecord, name: str) -> float:
    value = metrics.get(name)
    if not isinstance(value, float | int) or not np.isfinite(value):
        raise NightError(f"{name} is {value!r}, not a finite number")
    return float(value)
