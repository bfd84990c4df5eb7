"""Believing nothing an .eim says that wasn't checked."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from appliance.eim.replies import ImpulseInfo, read_hello, read_scores, read_shared_features
from appliance.errors import ImpulseGarbledError, NotAnImpulseError
from appliance.vision import InputSpec

HELLO: dict[str, Any] = {
    "project": {"id": 1, "owner": "o", "name": "n", "deploy_version": 4},
    "model_parameters": {
        "image_input_width": 160,
        "image_input_height": 96,
        "image_channel_count": 3,
        "image_resize_mode": "fit-longest",
        "labels": ["x", "y"],
        "model_type": "classification",
    },
    "features_shm": {"name": "/shm-1", "elements": 160 * 96, "type": "float32", "size_bytes": 61440},
}
MISSING = object()


def changed(path: str, value: object) -> dict[str, Any]:
    hello = copy.deepcopy(HELLO)
    *parents, last = path.split(".")
    inner = hello
    for parent in parents:
        inner = inner[parent]
    if value is MISSING:
        del inner[last]
    else:
        inner[last] = value
    return hello


def test_a_hello_is_read() -> None:
    info = read_hello(HELLO, "m.eim")
    assert info == ImpulseInfo("n", 4, ("x", "y"), InputSpec(160, 96, "fit-longest"), has_shared_memory=True)


@pytest.mark.parametrize("mode", [MISSING, "none", "not-reported"])
def test_a_hello_without_a_resize_mode_means_squash(mode: object) -> None:
    info = read_hello(changed("model_parameters.image_resize_mode", mode), "m.eim")
    assert info.input.resize_mode == "squash"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("project", MISSING),
        ("project.name", 5),
        ("project.deploy_version", "4"),
        ("model_parameters", []),
        ("model_parameters.image_input_width", MISSING),
        ("model_parameters.image_input_height", True),
        ("model_parameters.image_resize_mode", "stretch"),
        ("model_parameters.labels", []),
        ("model_parameters.labels", ["x", "x"]),
        ("model_parameters.labels", ["x", 5]),
        ("model_parameters.labels", "xy"),
    ],
)
def test_a_hello_with_something_wrong_is_refused_by_the_eims_name(path: str, value: object) -> None:
    with pytest.raises(ImpulseGarbledError, match=r"m\.eim"):
        read_hello(changed(path, value), "m.eim")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("model_parameters.image_input_width", 0, "sound or sensor readings"),
        ("model_parameters.model_type", "object_detection", "object detection"),
        ("model_parameters.image_channel_count", 4, "4 channels"),
        ("model_parameters.image_input_frames", 5, "5 frames"),
    ],
)
def test_a_model_for_other_questions_is_refused_in_a_sentence(path: str, value: object, said: str) -> None:
    with pytest.raises(NotAnImpulseError, match=said):
        read_hello(changed(path, value), "m.eim")


@pytest.mark.parametrize(
    "offer",
    [
        [],
        {"name": "/", "elements": 15360, "type": "float32"},
        {"name": "/..", "elements": 15360, "type": "float32"},
        {"name": "/a/b", "elements": 15360, "type": "float32"},
        {"name": "/a", "elements": 15361, "type": "float32"},
        {"name": "/a", "elements": 15360, "type": "int8"},
        {"name": "/a", "type": "float32"},
    ],
)
def test_an_offer_of_shared_memory_that_can_not_be_meant_is_refused(offer: object) -> None:
    hello = changed("features_shm", offer)
    with pytest.raises(ImpulseGarbledError):
        read_shared_features(hello, read_hello(hello, "m.eim"), "m.eim")


def test_an_offer_of_shared_memory_is_read_and_none_is_none() -> None:
    offer = read_shared_features(HELLO, read_hello(HELLO, "m.eim"), "m.eim")
    assert offer
    assert (offer.name, offer.size_bytes) == ("shm-1", 4 * 15360)
    without = changed("features_shm", MISSING)
    assert read_shared_features(without, read_hello(without, "m.eim"), "m.eim") is None


def test_scores_come_in_the_order_of_the_labels() -> None:
    reply = {"result": {"classification": {"y": 1, "x": 0.0, "else": 7}}}
    assert list(read_scores(reply, ("x", "y"), "m.eim").items()) == [("x", 0.0), ("y", 1.0)]


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.01, 1.01, None, "0.5", True, []])
def test_a_score_that_is_none_is_refused(score: object) -> None:
    with pytest.raises(ImpulseGarbledError, match="'x'"):
        read_scores({"result": {"classification": {"x": score, "y": 0.5}}}, ("x", "y"), "m.eim")


def test_a_score_a_rounding_error_above_one_is_believed() -> None:
    assert read_scores({"result": {"classification": {"x": 1.0000001}}}, ("x",), "m.eim")["x"] > 1


@pytest.mark.parametrize("reply", [{}, {"result": {}}, {"result": {"classification": {"y": 1}}}])
def test_a_reply_without_a_score_for_every_label_is_refused(reply: dict[str, Any]) -> None:
    with pytest.raises(ImpulseGarbledError):
        read_scores(reply, ("x", "y"), "m.eim")
