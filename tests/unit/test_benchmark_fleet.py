"""The pure parts of ``benchmarks fleet``: who plays what, what light cameras answer, what plain FedAvg makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MessageType, RecordDict

from appliance.models.head import Head
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from server.config import load
from server.paths import ServerPaths
from tests.benchmarks import fleet, fleet_tables, light_cameras
from tests.benchmarks.light_cameras import HOSTILE, LABELS, LightCamera, Part
from tests.fakes import parts
from tests.fakes.grid import question
from tests.fakes.site import make_tiny_fleet, write_server_settings
from trainer import messages
from trainer.head import Examples, evaluate

RECIPE = {"round": 1, "rounds": 1, "epochs": 5, "rate": 0.05, "smoothing": 0.0}


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    """A tiny fleet's, with cameras whose features have its width."""
    settings = load(write_server_settings(tmp_path / "sitecam-server.toml"))
    make_tiny_fleet(settings, parts.tiny_backbone())
    paths = ServerPaths(settings.state_dir)
    with patch.object(light_cameras, "FEATURES", parts.FEATURES):
        yield Shelf(paths.models, load_public_key(paths.signing_public.read_bytes()))


def ask_to_train(shelf: Shelf, part: Part, folder: Path, **changes: float) -> tuple[Message, Message | None]:
    manifest = shelf.manifest(1)
    head = Head.from_bytes(shelf.part(manifest.parts["head"]))
    ground: dict[str, Any] = {"version": 1, "backbone": manifest.parts["backbone"].sha256, "labels": list(LABELS)}
    config = ConfigRecord({**ground, **RECIPE, **changes})
    asked = question(
        RecordDict({messages.ARRAYS: messages.head_record(head), messages.CONFIG: config}), 7, MessageType.TRAIN
    )
    return asked, LightCamera(part, shelf, folder).answer(asked)


def sent(reply: Message | None) -> tuple[list[np.ndarray], int]:
    assert reply is not None
    assert not reply.has_error(), reply.error.reason
    examples = reply.content.metric_records[messages.METRICS][messages.EXAMPLES]
    assert isinstance(examples, int)
    return reply.content.array_records[messages.ARRAYS].to_numpy_ndarrays(), examples


def test_everybody_plays_one_part_and_every_kind_of_hostility_is_there() -> None:
    playing = light_cameras.cast(100, hostile=0.1, leaving=0.1)

    hostile = [part for part in playing if part.hostile]
    leaving = [part for part in playing if part.leaves_in_round]
    assert [part.number for part in playing] == list(range(100))
    assert len(hostile) == len(leaving) == 10
    assert {part.hostile for part in hostile} == set(HOSTILE)
    assert not {part.name for part in hostile} & {part.name for part in leaving}


def test_labels_are_skewed_and_frames_are_a_cameras_own(shelf: Shelf, tmp_path: Path) -> None:
    cameras = [LightCamera(Part(number, f"camera-{number}"), shelf, tmp_path) for number in range(8)]
    labels = [camera.frames["train"].labels for camera in cameras]
    shares = np.array([np.bincount(each, minlength=3) / len(each) for each in labels])

    assert shares.max(axis=1).mean() > 0.5  # even labels would give about a third
    assert not np.array_equal(cameras[0].frames["train"].features, cameras[1].frames["train"].features)


def test_an_honest_light_camera_trains_as_a_camera_does(shelf: Shelf, tmp_path: Path) -> None:
    camera = LightCamera(Part(3, "camera-3"), shelf, tmp_path / "before")
    asked, reply = ask_to_train(shelf, Part(3, "camera-3"), tmp_path / "kept")
    arrays, examples = sent(reply)

    after = evaluate(Head.from_arrays(arrays), camera.frames["train"])
    before = evaluate(messages.head_of(asked.content), camera.frames["train"])
    assert examples == len(camera.frames["train"])
    assert after.loss < before.loss


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_one_sends_what_its_part_says(shelf: Shelf, tmp_path: Path, kind: str) -> None:
    asked, honest = ask_to_train(shelf, Part(3, "camera-3"), tmp_path / "honest")
    _, hostile = ask_to_train(shelf, Part(3, "camera-3", hostile=kind), tmp_path / "hostile")
    given = messages.head_of(asked.content).arrays
    (good, examples), (bad, claimed) = sent(honest), sent(hostile)

    if kind == "flipped":
        assert np.allclose(bad[0] - given[0], -10 * (good[0] - given[0]), atol=1e-4)
    elif kind == "nan":
        assert np.isnan(bad[0]).all()
    elif kind == "many":
        assert claimed == 10**9
        assert np.array_equal(bad[0], good[0])
    else:
        assert np.linalg.norm(bad[0] - given[0]) > np.linalg.norm(good[0] - given[0])
    assert kind == "many" or claimed == examples


def test_one_that_leaves_says_nothing_from_its_round_on(shelf: Shelf, tmp_path: Path) -> None:
    _, first = ask_to_train(shelf, Part(3, "camera-3", leaves_in_round=2), tmp_path / "first")
    _, second = ask_to_train(shelf, Part(3, "camera-3", leaves_in_round=2), tmp_path / "second", round=2, rounds=2)

    assert first is not None
    assert second is None


def test_plain_fedavg_is_ruined_by_what_light_cameras_keep_aside(shelf: Shelf, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    for number, kind in enumerate(("", "", "nan", "flipped")):
        ask_to_train(shelf, Part(number, f"camera-{number}", hostile=kind), kept)
    labels = np.arange(90, dtype=np.int64) % 3
    known = Examples(light_cameras.drawn(labels, seed=0)[:, np.newaxis], labels)

    found = fleet.undefended(kept, known)

    (honest,), (flipped,) = found["honest alone"], found["with flipped"]
    assert found["all"] == found["with nan"] == [None]
    assert honest is not None
    assert flipped is not None
    assert flipped < honest
    assert "with many" not in found  # nobody played that


def test_a_rounds_losses_are_counted_by_reason_whatever_the_numbers_in_it() -> None:
    reasons = {"a": "its update has norm 12.5", "b": "its update has norm 3e+05", "c": "it went offline"}

    assert fleet.by_reason(reasons) == {"its update has norm #": 2, "it went offline": 1}


def test_the_table_shows_a_mean_that_is_no_head_as_none() -> None:
    night = {
        "cameras": 10,
        "outcome": "published",
        "seconds": {"night": 60.0},
        "rounds": [{"seconds": 9.0, "cpu_s": 6.0, "pss_mb": 300.0}],
        "nodes_cpu_s": 9.0,
        "state_mb": 7.0,
        "before": 0.2,
        "defended": [0.9],
        "left_out": [{"it went offline": 1}],
        "undefended": {"honest alone": [0.95], "all": [None]},
    }

    assert "| 10 | 1 | 9.0 | 6.0 | 300 | 1 | 90.0% | no head |" in fleet_tables.table([night])
