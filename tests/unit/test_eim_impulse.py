"""What our impulse answers, asked in this process, with a model that only counts."""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from appliance.eim import leftovers
from appliance.eim.framing import Message
from appliance.eim.impulse import Impulse
from appliance.eim.lane import SLOTS, Lane
from appliance.eim.leftovers import Leftovers
from appliance.eim.model import Array, Facts, Model
from appliance.errors import PartError
from appliance.models.head import Head
from tests.fakes import parts

FACTS = Facts("site", 3, ["a", "b"], width=4, height=2, resize_mode="squash", threads=1)


class CountingModel:
    """Scores that say what it was asked; or what it was told to give."""

    def __init__(self) -> None:
        self.gives: list[float] | Exception | None = None

    feature_count = 4

    def run(self, rgb: npt.NDArray[np.uint8], features: Array) -> tuple[float, float]:
        if isinstance(self.gives, Exception):
            raise self.gives
        features[:] = float(rgb.sum())
        return 0.4, 5.6

    def head_scores(self, features: Array) -> list[float]:
        return self.scores(features)[0]

    def scores(self, features: Array) -> tuple[list[float], float, float]:
        if isinstance(self.gives, Exception):
            raise self.gives
        share = float(features.sum()) / (8 * 0xFFFFFF)
        return self.gives or [share, 1 - share], 0.4, 5.6


@pytest.fixture
def model() -> CountingModel:
    return CountingModel()


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", tmp_path)
    return tmp_path


@pytest.fixture
def ours(model: CountingModel, memory: Path) -> Iterator[Impulse]:
    left = Leftovers()
    yield Impulse(FACTS, cast("Model", model), left)
    left.sweep()
    assert list(memory.iterdir()) == []


def ask(ours: Impulse, **body: Any) -> dict[str, Any]:
    reply = ours.answer(Message(body, 1.2, 3.4))
    json.dumps(reply, allow_nan=False)  # whatever it is, it can be sent
    return reply


def test_hello_names_every_parameter_of_an_image_classifier(ours: Impulse) -> None:
    reply = ask(ours, hello=1, id=1)
    assert reply["project"] == {
        "id": 1,
        "owner": "site",
        "name": "site",
        "deploy_version": 3,
        "impulse_id": 1,
        "impulse_name": "sitecam head",
    }
    assert reply["model_parameters"] == {
        "axis_count": 1,
        "frequency": 0,
        "has_anomaly": 0,
        "has_object_tracking": False,
        "has_performance_calibration": False,
        "image_channel_count": 3,
        "image_input_frames": 1,
        "image_input_height": 2,
        "image_input_width": 4,
        "image_resize_mode": "squash",
        "inferencing_engine": 4,
        "input_features_count": 8,
        "interval_ms": 1,
        "label_count": 2,
        "labels": ["a", "b"],
        "model_type": "classification",
        "sensor": 3,
        "slice_size": 2,
        "thresholds": [],
        "use_continuous_mode": False,
    }
    assert reply["inferencing_engine"] == {"engine_type": 4, "properties": []}


def test_the_fast_lane_takes_rgb_bytes_and_gives_features(ours: Impulse, memory: Path) -> None:
    offer = ask(ours, hello=1, id=1)["sitecam_lane"]
    path = memory / offer["name"].removeprefix("/")
    lane = Lane(4, 2, 4)
    assert (offer["features"], offer["size_bytes"], path.stat().st_size) == (4, lane.size_bytes, lane.size_bytes)
    assert path.stat().st_mode & 0o777 == 0o600
    with path.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), lane.size_bytes)
    for slot in range(SLOTS):
        lane.pictures(shared)[slot][:] = slot + 1
    for slot in range(SLOTS):
        assert ask(ours, classify_lane={"slot": slot}, id=2)["success"]
    assert [row.tolist() for row in lane.feature_rows(shared)] == [[24.0] * 4, [48.0] * 4]


@pytest.mark.parametrize("slot", [-1, SLOTS, None, "0", True, 0.0])
def test_a_slot_that_is_not_there_is_refused(ours: Impulse, slot: object) -> None:
    ask(ours, hello=1, id=1)
    assert "no such slot" in ask(ours, classify_lane={"slot": slot}, id=2)["error"]


def test_shared_memory_is_readable_by_its_owner_only(ours: Impulse, memory: Path) -> None:
    offer = ask(ours, hello=1, id=1)["features_shm"]
    path = memory / offer["name"].removeprefix("/")
    assert offer == {"name": f"/{path.name}", "size_bytes": 32, "type": "float32", "elements": 8}
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size == 32


def test_without_shared_memory_hello_says_why_and_json_still_works(
    model: CountingModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "SHARED_MEMORY", tmp_path / "none")
    ours = Impulse(FACTS, cast("Model", model), Leftovers())
    reply = ask(ours, hello=1, id=1)
    assert "features_shm" not in reply
    assert "No such file" in reply["features_shm_error"]
    assert ask(ours, classify=[0] * 8, id=2)["success"]
    assert "cannot find shm" in ask(ours, classify_shm={"elements": 8}, id=3)["error"]


def test_timing_is_whole_milliseconds_of_each_part(ours: Impulse) -> None:
    ask(ours, hello=1, id=1)
    reply = ask(ours, classify=[0xFFFFFF] * 8, id=2)
    assert reply["result"] == {"classification": {"a": 1.0, "b": 0.0}}
    timing = reply["timing"]
    assert timing.pop("msg_handler") >= 0
    assert timing == {"dsp": 0, "classification": 6, "anomaly": 0, "json": 3, "stdin": 1}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"hello": 1, "id": 2}, "already initialized"),
        ({"classify": [1] * 7, "id": 2}, "expected 8 but got 7"),
        ({"classify": [], "id": 2}, "expected 8 but got 0"),
        ({"classify": [True] * 8, "id": 2}, "should contain all numbers"),
        ({"classify": [None] * 8, "id": 2}, "should contain all numbers"),
        ({"classify": [math.nan] + [1] * 7, "id": 2}, "should contain pixels"),
        ({"classify": [1] * 7 + [math.nan], "id": 2}, "should contain pixels"),
        ({"classify": [1, 1, 1, math.nan, 1, 1, 1, 1], "id": 2}, "should contain pixels"),
        ({"classify": [math.inf] * 8, "id": 2}, "should contain pixels"),
        ({"classify": [-1] * 8, "id": 2}, "should contain pixels"),
        ({"classify": [10**400] * 8, "id": 2}, "should contain pixels"),
        ({"classify_shm": {}, "id": 2}, "Missing 'elements'"),
        ({"classify_shm": {"elements": 9}, "id": 2}, "expected 8, but got 9"),
        ({"set_threshold": {}, "id": 2}, "should have a numeric field 'id'"),
        ({"classify_continuous": [1], "id": 2}, "Failed to handle message"),
        ({"id": 2}, "Failed to handle message"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_and_the_next_one_answered(
    ours: Impulse, body: dict[str, Any], error: str
) -> None:
    ask(ours, hello=1, id=1)
    reply = ask(ours, **body)
    assert (reply["id"], reply["success"]) == (2, False)
    assert error in reply["error"]
    assert ask(ours, classify=[0] * 8, id=3)["success"]


def test_rubbish_in_the_shared_memory_is_refused(ours: Impulse, memory: Path) -> None:
    path = memory / ask(ours, hello=1, id=1)["features_shm"]["name"].removeprefix("/")
    shared = np.memmap(path, np.float32)
    for rubbish in (math.nan, math.inf, -1, 2**25):
        shared[3] = rubbish
        assert "should contain pixels" in ask(ours, classify_shm={"elements": 8}, id=2)["error"]
    shared[3] = 5
    assert ask(ours, classify_shm={"elements": 8}, id=3)["success"]


@pytest.mark.parametrize("body", [{"hello": 1}, {"hello": 1, "id": "1"}, {"hello": 1, "id": True}])
def test_without_a_proper_id_the_refusal_has_none(ours: Impulse, body: dict[str, Any]) -> None:
    assert ask(ours, **body) == {"success": False, "error": "Missing 'id' field in message"}


def test_another_protocol_version_is_refused_and_hello_still_possible(ours: Impulse) -> None:
    assert "only 1 supported" in ask(ours, hello=2, id=1)["error"]
    assert ask(ours, hello=1, id=2)["success"]


def test_a_message_that_is_not_json_is_refused(ours: Impulse) -> None:
    assert not ours.answer(Message(None, 0, 0))["success"]


@pytest.mark.parametrize("gives", [RuntimeError("out of memory"), [math.nan, 1.0]])
def test_a_model_that_fails_is_a_refusal_not_a_wrong_answer(
    ours: Impulse, model: CountingModel, gives: list[float] | Exception
) -> None:
    ask(ours, hello=1, id=1)
    model.gives = gives
    assert "Classifying failed" in ask(ours, classify=[0] * 8, id=2)["error"]


def test_leftovers_go_once_and_need_not_exist(tmp_path: Path) -> None:
    leftovers = Leftovers()
    made = leftovers.add(tmp_path / "made")
    made.touch()
    leftovers.add(tmp_path / "never made")
    leftovers.sweep()
    assert not made.exists()
    made.touch()  # somebody else's now
    leftovers.sweep()
    assert made.exists()


@pytest.mark.litert
@pytest.mark.parametrize(
    "changes", [{"width": 16}, {"labels": ["a", "b"]}], ids=["another size", "another number of labels"]
)
def test_parts_that_do_not_fit_together_are_refused(tiny_backbone: bytes, changes: dict[str, Any]) -> None:
    fitting: dict[str, Any] = {"width": 32, "height": 32, "labels": list(parts.LABELS)}
    facts = Facts(fleet="f", version=1, resize_mode="squash", threads=1, **fitting | changes)
    with pytest.raises(PartError, match="don't fit together"):
        Model(facts, tiny_backbone, parts.tiny_head())


@pytest.mark.litert
def test_a_backbone_that_is_no_model_is_refused() -> None:
    facts = Facts("f", 1, ["a", "b"], 32, 32, "squash", 1)
    with pytest.raises(PartError, match="can't be loaded"):
        Model(facts, b"no model at all", Head.untrained(8, 2, 0, seed=1))
