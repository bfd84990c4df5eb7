"""Reads what an .eim says of itself and of a picture, and believes nothing that it hasn't checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from appliance.eim.lane import Lane
from appliance.errors import ImpulseGarbledError, NotAnImpulseError
from appliance.vision import RESIZE_MODES, InputSpec, ResizeMode

T = TypeVar("T")
_MOST_FEATURES = 65536
_ROUNDING = 1e-4  # how far outside 0 to 1 a float32 softmax may come out

_GARBLED_MEANS = "Nothing it says can be relied on, so it was ended"
_REBUILD = "Build it again, or go back to the previous version"


@dataclass(frozen=True)
class ImpulseInfo:
    """What an ``.eim`` says of itself.

    Attributes:
        name: Its project's name; for ours, the fleet's.
        version: Its deploy version; for ours, the model's.
        labels: In its own order.
        input: The picture it wants.
        has_shared_memory: Whether pixels travel through shared memory, not as JSON.
        has_lane: Whether it offers our fast lane, and with it features; see :mod:`appliance.eim.lane`.
    """

    name: str
    version: int
    labels: tuple[str, ...]
    input: InputSpec
    has_shared_memory: bool
    has_lane: bool = False


@dataclass(frozen=True)
class SharedMemory:
    """Shared memory that an ``.eim`` offers.

    Attributes:
        name: A file's name in ``/dev/shm``.
        size_bytes: As much of it as we use.
    """

    name: str
    size_bytes: int


def read_hello(reply: Mapping[str, Any], file_name: str) -> ImpulseInfo:
    """Check the reply to ``hello``.

    Args:
        reply: The reply, without ``id`` and ``success``.
        file_name: What to call the ``.eim`` in an error.

    Raises:
        NotAnImpulseError: It answers other questions than ours: sound, objects, several frames.
        ImpulseGarbledError: Something is missing or of the wrong kind.
    """
    model = _of(reply, "model_parameters", dict, file_name)
    width = _of(model, "image_input_width", int, file_name)
    height = _of(model, "image_input_height", int, file_name)
    frames = model.get("image_input_frames", 1)
    kind = model.get("model_type", "classification")
    if width < 1 or height < 1:
        raise _not_ours(f"{file_name} was made for sound or sensor readings, not for pictures")
    if kind != "classification":
        raise _not_ours(f"{file_name} was made for {str(kind).replace('_', ' ')}, not for classification")
    if frames != 1 or model.get("image_channel_count") not in (1, 3):
        raise _not_ours(f"{file_name} wants {frames} frames of {model.get('image_channel_count')} channels at once")
    labels = _of(model, "labels", list, file_name)
    if not labels and model.get("has_anomaly"):
        raise _not_ours(f"{file_name} names nothing: it was made to notice what is unusual (anomaly detection)")
    if not labels or len(set(map(str, labels))) != len(labels) or not all(type(x) is str for x in labels):
        raise garbled(f"{file_name} has unusable labels ({labels!r:.200})")
    # Impulses from before 2024 don't name their mode; the SDK takes them as squashed, and so do we.
    mode = model.get("image_resize_mode", "squash")
    mode = "squash" if mode in ("none", "not-reported") else mode
    if mode not in RESIZE_MODES:
        raise garbled(f"{file_name} wants the unknown resize mode {mode!r}")
    project = _of(reply, "project", dict, file_name)
    return ImpulseInfo(
        name=_of(project, "name", str, file_name),
        version=_of(project, "deploy_version", int, file_name),
        labels=tuple(labels),
        input=InputSpec(width, height, cast("ResizeMode", mode)),
        has_shared_memory="features_shm" in reply,
        has_lane="sitecam_lane" in reply,
    )


def read_shared_features(reply: Mapping[str, Any], info: ImpulseInfo, file_name: str) -> SharedMemory | None:
    """Check what ``hello`` offers as shared memory for packed pixels, float32; None where it offers none.

    Raises:
        ImpulseGarbledError: The offer doesn't fit the model or names no file in ``/dev/shm``.
    """
    if not info.has_shared_memory:
        return None
    offer = _of(reply, "features_shm", dict, file_name)
    elements = _of(offer, "elements", int, file_name)
    if elements != info.input.width * info.input.height or offer.get("type") != "float32":
        raise garbled(f"{file_name} offers unusable shared memory ({offer!r:.200})")
    return SharedMemory(_segment_name(offer, file_name), elements * 4)


def read_lane(reply: Mapping[str, Any], info: ImpulseInfo, file_name: str) -> tuple[SharedMemory, Lane] | None:
    """Check what ``hello`` offers as fast lane; None where it offers none.

    Raises:
        ImpulseGarbledError: As above.
    """
    if not info.has_lane:
        return None
    offer = _of(reply, "sitecam_lane", dict, file_name)
    features = _of(offer, "features", int, file_name)
    lane = Lane(info.input.width, info.input.height, features)
    if not 0 < features <= _MOST_FEATURES or offer.get("size_bytes") != lane.size_bytes:
        raise garbled(f"{file_name} offers an unusable fast lane ({offer!r:.200})")
    return SharedMemory(_segment_name(offer, file_name), lane.size_bytes), lane


def _segment_name(offer: Mapping[str, Any], file_name: str) -> str:
    name = _of(offer, "name", str, file_name).removeprefix("/")
    if name in ("", ".", "..") or set(name) & {"/", "\0"}:
        raise garbled(f"{file_name} offers unusable shared memory ({offer!r:.200})")
    return name


def read_scores(reply: Mapping[str, Any], labels: Sequence[str], file_name: str) -> dict[str, float]:
    """Check the reply to ``classify``; return the score of every label, in their order.

    Raises:
        NotAnImpulseError: It answers where things are, not what a picture shows.
        ImpulseGarbledError: A label has no score, or one that is not a number from 0 to 1.
    """
    result = _of(reply, "result", dict, file_name)
    if "classification" not in result and result.keys() & {"bounding_boxes", "object_tracking", "visual_anomaly_grid"}:
        raise _not_ours(f"{file_name} answered with {min(result)}, not with a score for each label")
    found = _of(result, "classification", dict, file_name)
    scores = {}
    for label in labels:
        score: Any = found.get(label)
        if type(score) not in (int, float) or not math.isfinite(score):  # exact: true is not a score
            raise garbled(f"{file_name} gave {label!r} the score {score!r}")
        if not -_ROUNDING <= score <= 1 + _ROUNDING:
            raise garbled(f"{file_name} gave {label!r} the score {score!r}, outside 0 to 1")
        scores[label] = float(score)
    return scores


def garbled(what: str) -> ImpulseGarbledError:
    """The error for an answer that isn't the protocol's."""
    return ImpulseGarbledError(what, means=_GARBLED_MEANS, do=_REBUILD)


def _not_ours(what: str) -> NotAnImpulseError:
    return NotAnImpulseError(
        what, means="It can't say what a camera sees", do="Give the .eim of an image classification project"
    )


def _of(body: Mapping[str, Any], key: str, kind: type[T], file_name: str) -> T:
    value = body.get(key)
    if type(value) is not kind:  # exact: a bool is not an int here
        raise garbled(f"{file_name} answered with {key} = {value!r:.200}, not {kind.__name__}")
    return value
