"""Checks a camera's reply before any arithmetic: one broken camera costs itself, not the night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

from appliance.errors import NightError, PartError
from appliance.judge import Tally
from appliance.models.head import Head
from trainer import messages
from trainer.means import ClassMeans

_HEADER_BYTES = 1024  # of the .npy form in which Flower carries an array; measured 128
_SHOWN = 8  # of the names that a camera sends, in a sentence about them
_ROUNDING = 1e-3  # relative; float32 sums of some hundred thousand frames


@dataclass(frozen=True, eq=False)
class TrainReply:
    """A camera's contribution to a round, checked.

    Attributes:
        examples: Frames that it learned from.
        loss: Mean loss of its last epoch, nats.
        head: What it learned.
        norm: Euclidean norm of the change to the head that was sent out, over all arrays.
    """

    examples: int
    loss: float
    head: Head
    norm: float


def check_train(reply: Message, like: Head, *, max_examples: int, min_examples: int = 1) -> TrainReply:
    """Check a training reply.

    Args:
        reply: From a camera.
        like: The head that was sent out: its shape is the only one taken.
        max_examples: More than this is not believed.
        min_examples: Fewer than this are not used.

    Raises:
        NightError: With the reason, in a sentence that can be shown.
    """
    content = _content(reply)
    expected = {str(index): (array.shape, "float32") for index, array in enumerate(like.arrays)}
    arrays = _arrays(content, expected, "a head")
    try:
        head = Head.from_arrays(arrays)
    except PartError as error:
        raise NightError(f"its head can't be used: {error}") from error
    metrics = _metrics(content, (messages.EXAMPLES, "loss"))
    examples = _count(metrics, messages.EXAMPLES, max_examples, least=max(1, min_examples))
    return TrainReply(examples, _number(metrics, "loss"), head, distance(head, like))


def distance(head: Head, other: Head) -> float:
    """Euclidean distance over all arrays, computed in float64."""
    pairs = zip(head.arrays, other.arrays, strict=True)
    return float(np.sqrt(sum(np.square(np.subtract(a, b, dtype=np.float64)).sum() for a, b in pairs)))


def too_large(norms: Mapping[str, float], multiple: float) -> dict[str, str]:
    """Which updates are too large to be honest, judged by the round itself.

    An update counts as too large beyond ``multiple`` times the lower median of all: the middle one, and the smaller
    of the two in the middle where their number is even. The usual median would let one of two cameras decide alone:
    with norms of 1 and 1000 it is 500.5, which 1000 does not exceed ten times. With the lower median the smaller one
    counts, so cameras that lie high don't move it unless they are more than half. (Of two, one that lies low makes
    the other look large; that costs a round, not the model.) Who sends back the head as it was, norm 0, says nothing
    of how large updates are and is left out; with one norm left there is nothing to compare.

    Args:
        norms: Euclidean norm of each camera's update.
        multiple: So many medians are allowed.

    Returns:
        The reason by camera, for those that must not be used.
    """
    moved = sorted(norm for norm in norms.values() if norm)
    if not moved:
        return {}
    median = moved[(len(moved) - 1) // 2]
    return {
        camera: f"its update has norm {norm:.3g}, more than {multiple:g} times the round's median of {median:.3g}"
        for camera, norm in norms.items()
        if norm > multiple * median
    }


@dataclass(frozen=True)
class TestReply:
    """How two heads do on a camera's own test frames.

    Attributes:
        frames: How many.
        correct: Named right by the candidate.
        correct_before: Named right by the head that the camera runs.
        lost: Named right by the running head and wrong by the candidate.
    """

    __test__ = False  # not a test case, whatever its name says to pytest

    frames: int
    correct: int
    correct_before: int
    lost: int

    @property
    def tally(self) -> Tally:
        """The same, as the gate wants it."""
        won = self.correct - self.correct_before + self.lost
        return Tally(self.frames, self.correct_before, self.correct, self.lost, won)


def check_test(reply: Message, *, max_examples: int) -> TestReply:
    """Check an evaluation reply.

    Raises:
        NightError: With the reason, in a sentence that can be shown.
    """
    content = _content(reply)
    if set(content) != {messages.METRICS}:
        raise NightError("it sent other records than metrics")
    metrics = _metrics(content, (messages.EXAMPLES, "loss", "correct", "correct_before", "lost"))
    _number(metrics, "loss")
    frames = _count(metrics, messages.EXAMPLES, max_examples, least=0)
    correct, before = (_count(metrics, name, frames, least=0) for name in ("correct", "correct_before"))
    # Of those that were right before, `lost` are wrong now; and not more were won than were wrong before.
    lost = _count(metrics, "lost", min(before, frames - correct), least=max(0, before - correct))
    return TestReply(frames, correct, before, lost)


def check_means(reply: Message, label_count: int, feature_count: int, *, max_examples: int) -> ClassMeans:
    """Check a camera's class means.

    Args:
        reply: From a camera.
        label_count: Of the fleet.
        feature_count: Of its backbone.
        max_examples: More frames than this are not believed.

    Raises:
        NightError: With the reason, in a sentence that can be shown.
    """
    content = _content(reply)
    expected = {"sums": ((label_count, feature_count), "float32"), "counts": ((label_count,), "int64")}
    sums, counts = _arrays(content, expected, "class means")
    squares = _number(_metrics(content, ("squares",)), "squares")
    if (counts < 0).any() or not 1 <= sum(map(int, counts)) <= max_examples:  # int64 would overflow
        raise NightError(f"its counts {counts.tolist()[:_SHOWN]} are not 1 to {max_examples} frames")
    if not np.isfinite(sums).all() or sums[counts == 0].any():
        raise NightError("its sums are not finite, or are there for a label without frames")
    # Cauchy and Schwarz: frames can't be shorter, all together, than their means are.
    present = counts > 0
    wide = sums[present].astype(np.float64)
    least = float((np.square(wide).sum(axis=1) / counts[present]).sum())
    if not squares >= least * (1 - _ROUNDING):
        raise NightError(f"its squares are {squares:.4g}, which no frames with these sums can have")
    return ClassMeans(sums, counts, squares)


def _content(reply: Message) -> RecordDict:
    if reply.has_error():
        raise NightError(f"it reported: {reply.error.reason}")
    return reply.content


def _arrays(
    content: RecordDict, expected: Mapping[str, tuple[tuple[int, ...], str]], what: str
) -> list[npt.NDArray[Any]]:
    """The arrays of a reply that has nothing but them and metrics."""
    if set(content) != {messages.ARRAYS, messages.METRICS}:
        raise NightError(f"it sent other records than {what} and metrics")
    arrays = content[messages.ARRAYS]
    if not isinstance(arrays, ArrayRecord):
        raise NightError(f"it sent other records than {what} and metrics")
    if list(arrays) != list(expected):
        raise NightError(f"it sent arrays named {_shown(list(arrays))}")
    for name, (shape, dtype) in expected.items():
        array = arrays[name]
        if array.dtype != dtype or tuple(array.shape) != shape:
            raise NightError(f"array {name} is {array.dtype} {tuple(array.shape)}, not {dtype} {shape}")
        # What an array says of itself and what lies in it are two things.
        if len(array.data) > np.dtype(dtype).itemsize * int(np.prod(shape)) + _HEADER_BYTES:
            raise NightError(f"array {name} holds {len(array.data)} bytes, too many for {dtype} {shape}")
    decoded = []
    for name, (shape, dtype) in expected.items():
        try:
            value = arrays[name].numpy()
        except (ValueError, TypeError, EOFError, OSError) as error:
            raise NightError(f"array {name} can't be read ({error})") from error
        if value.shape != shape or value.dtype != dtype:
            raise NightError(f"array {name} holds {value.dtype} {value.shape}, not {dtype} {shape}")
        decoded.append(value)
    return decoded


def _metrics(content: RecordDict, names: Sequence[str]) -> MetricRecord:
    metrics = content[messages.METRICS]
    if not isinstance(metrics, MetricRecord):
        raise NightError("it sent other records than metrics")
    if set(metrics) - set(names):
        raise NightError(f"it sent metrics named {_shown(sorted(metrics))}")
    return metrics


def _shown(names: list[str]) -> str:
    return f"{[name[:40] for name in names[:_SHOWN]]}"


def _count(metrics: MetricRecord, name: str, most: int, *, least: int = 1) -> int:
    value = metrics.get(name)
    if type(value) is not int or not least <= value <= most:
        raise NightError(f"{name} is {_value(value)}, not a whole number from {least} to {most}")
    return value


def _number(metrics: MetricRecord, name: str) -> float:
    value = metrics.get(name)
    if isinstance(value, bool) or not isinstance(value, float | int) or not np.isfinite(value):
        raise NightError(f"{name} is {_value(value)}, not a finite number")
    return float(value)


def _value(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
