"""The server's side of a night, with cameras that answer as a test says; tests/night has real ones."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from appliance.models.shelf import Shelf
from appliance.models.verdict import Verdict
from server import asking
from server.publish import publish_built
from tests.fakes.grid import FakeNode
from tests.fakes.scripted_night import Answer, ScriptedCamera, Server, nan_head, raises, silent, verdict_record
from trainer import messages


@pytest.fixture
def server(tmp_path: Path, tiny_backbone: bytes, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(asking, "_POLL_S", 0.01)
    monkeypatch.setattr(asking, "_LIVENESS_S", 0.05)
    return Server(tmp_path, tiny_backbone)


def test_a_good_night_publishes_the_average_and_keeps_every_verdict(server: Server) -> None:
    first = server.running_head()
    server.cameras[1].step, server.cameras[1].examples = 0.4, 6  # half as many frames: half the weight
    record = server.hold()
    assert (record.outcome, record.message) == ("published", "Version 2 runs on 2 of 2 cameras")
    assert server.shelf.current == 2
    for before, after in zip(first.arrays, server.running_head().arrays, strict=True):
        np.testing.assert_allclose(after, before + 2 * 0.2, atol=1e-5)  # two rounds of (12 * 0.1 + 6 * 0.4) / 18
    assert {name: v and (v.version, v.accepted) for name, v in server.verdicts.items()} == {
        "gate": (2, True),
        "yard": (2, True),
    }
    for camera in server.cameras:
        assert camera.heard == ["status", "train", "train", "evaluate", "deploy", "close"]
    assert [entry["examples"] for entry in record.figures["rounds"]] == [{"gate": 12, "yard": 6}] * 2
    assert record.figures["cameras"]["gate"]["accuracy_after"] == 58 / 60


def test_the_server_tests_every_rounds_model_on_its_own_frames(server: Server) -> None:
    server.import_test_frames()
    server.rules(rounds=3)
    record = server.hold()
    assert record.figures["server"]["frames"] == 12
    assert record.figures["server"]["rounds"] == 3
    assert all(0 <= entry["accuracy"] <= 1 for entry in record.figures["rounds"])
    assert len([text for text in server.events if "on the server's 12 test frames" in text]) == 3


def boastful(message: Message) -> RecordDict:
    values = messages.metrics(examples=10**9, loss=0.1)
    return RecordDict({messages.ARRAYS: message.content[messages.ARRAYS], messages.METRICS: values})


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (nan_head, "not finite"),
        (boastful, "num-examples is 1000000000"),
        (raises("the store is on fire"), "it reported: the store is on fire"),
        (silent, "no answer within 1 s"),
        (lambda _: RecordDict(), "other records"),
    ],
    ids=["NaN", "a billion frames", "an error", "silence", "nothing in it"],
)
def test_a_camera_whose_reply_cannot_be_used_costs_only_itself(server: Server, answer: Answer, words: str) -> None:
    first = server.running_head()
    server.cameras[1].changed["train"] = answer
    record = server.hold()
    assert record.outcome == "published"
    for number in (1, 2):
        assert any(
            text.startswith(f"Round {number} goes on without yard: ") and words in text for text in server.events
        )
    for before, after in zip(first.arrays, server.running_head().arrays, strict=True):
        np.testing.assert_allclose(after, before + 0.2, atol=1e-5)  # gate's two steps alone
    assert server.verdicts["yard"] is not None  # it gets the model all the same


def test_a_round_without_enough_good_replies_ends_the_night_and_publishes_nothing(server: Server) -> None:
    server.rules(min_replies=2)
    server.cameras[1].changed["train"] = nan_head
    record = server.hold()
    assert record.outcome == "failed"
    assert "Round 1 got 1 usable replies, fewer than the 2 that night.min_replies asks for" in record.message
    assert (server.shelf.current, server.shelf.versions()) == (1, [1])
    assert server.cameras[0].heard[-1] == "close"
    assert server.verdicts == {}


def test_a_model_that_does_worse_stays_at_home(server: Server) -> None:
    server.cameras[0].own, server.cameras[1].own = (9, 2, 8), (9, 2, 8)
    record = server.hold()
    assert record.outcome == "kept"
    assert "Version 1 stays" in record.message
    assert "worse on the own test frames of 2 of 2 cameras: 2 of 9 right, 8 before" in record.message
    assert server.shelf.versions() == [1]
    assert "deploy" not in server.cameras[0].heard
    assert server.cameras[0].heard[-1] == "close"


def test_a_camera_that_could_not_test_leaves_the_gate_to_the_others(server: Server) -> None:
    server.cameras[1].changed["evaluate"] = raises("no test frames")
    assert server.hold().outcome == "published"
    assert any("The test goes on without yard: it reported: no test frames" in text for text in server.events)


def test_below_quorum_nobody_trains_and_who_is_missing_is_named(server: Server) -> None:
    server.grid.nodes[8].online = False
    record = server.hold()
    assert record.outcome == "no quorum"
    assert "1 of the 2 cameras that a night needs were ready. Missing: yard. Not ready: none." in record.message
    assert server.cameras[0].heard == ["status", "close"]
    assert server.shelf.versions() == [1]


def test_a_camera_with_an_objection_does_not_count_but_gets_the_model(server: Server) -> None:
    server.cameras[1].objection = "0 labelled frames"
    assert "Not ready: yard (0 labelled frames)." in server.hold().message
    server.rules(quorum=1)
    assert server.hold().outcome == "published"
    assert server.cameras[1].heard[-3:] == ["status", "deploy", "close"]
    verdict = server.verdicts["yard"]
    assert verdict is not None
    assert verdict.accepted


def test_a_camera_that_missed_a_night_trains_all_the_same_and_gets_the_newest(server: Server) -> None:
    server.hold()
    server.cameras[1].version = 1  # it was away
    server.cameras[1].heard.clear()
    assert server.hold().outcome == "published"
    assert server.cameras[1].heard == ["status", "train", "train", "evaluate", "deploy", "close"]
    assert server.cameras[1].version == 3


def test_a_camera_that_missed_a_night_gets_what_runs_even_if_nothing_new_is_made(server: Server) -> None:
    server.hold()
    for camera in server.cameras:
        camera.own = (9, 2, 8)
    server.cameras[1].version = 1
    assert server.hold().outcome == "kept"
    assert [camera.version for camera in server.cameras] == [2, 2]


def test_a_night_that_only_deploys_trains_nobody_and_brings_those_behind_up_to_date(server: Server) -> None:
    server.hold()
    built = publish_built(server.paths, server.shelf, server.shelf.manifest(2), {"aarch64": b"an .eim"})
    server.shelf.activate(built.version)
    for camera in server.cameras:
        camera.heard.clear()
    server.cameras[1].version = built.version
    night = server.hold(only_deploy=True)
    assert (night.outcome, night.message) == (
        "deployed",
        "Nothing was trained. Version 3 was taken to 1 of 1 cameras behind it",
    )
    assert not any("restarted" in event for event in server.events)
    assert [camera.version for camera in server.cameras] == [3, 3]
    assert [camera.heard for camera in server.cameras] == [["status", "deploy", "close"], ["status", "close"]]
    assert server.hold().outcome == "published"  # and the next one builds on it
    assert set(server.shelf.manifest(4).parts) == {"backbone", "head", "trainer"}


def test_a_camera_on_another_backbone_does_not_train(server: Server) -> None:
    server.rules(quorum=1)
    server.cameras[1].backbone = "0" * 64
    assert server.hold().outcome == "published"
    assert "train" not in server.cameras[1].heard
    assert "deploy" in server.cameras[1].heard


def test_a_camera_whose_status_cannot_be_read_is_told_once(server: Server) -> None:
    server.rules(quorum=1)
    server.cameras[1].changed["status"] = raises("the store is on fire")
    assert server.hold().outcome == "published"
    told = [text for text in server.events if text.startswith("yard can't take part")]
    assert told == ["yard can't take part: the store is on fire"]


def test_a_camera_that_gives_no_verdict_has_none_and_is_named(server: Server) -> None:
    server.cameras[1].changed["deploy"] = silent
    record = server.hold()
    assert (record.outcome, record.message) == ("published", "Version 2 runs on 1 of 2 cameras")
    assert server.verdicts["yard"] is None
    assert "yard gave no verdict on version 2: no answer within 1 s" in server.events


def test_a_camera_that_was_not_there_has_no_verdict_either(server: Server) -> None:
    server.rules(quorum=1)
    server.grid.nodes[8].online = False
    assert server.hold().message == "Version 2 runs on 1 of 2 cameras"
    assert set(server.verdicts) == {"gate", "yard"}
    assert server.verdicts["yard"] is None


def test_a_refusal_is_kept_with_its_reason(server: Server) -> None:
    refusal = Verdict(2, False, "The .eim crashed", datetime.now(UTC))
    server.cameras[1].changed["deploy"] = lambda _: verdict_record(refusal)
    assert server.hold().message == "Version 2 runs on 1 of 2 cameras"
    assert server.verdicts["yard"] == refusal
    assert "yard refused version 2: The .eim crashed" in server.events


def rubbish(_: Message) -> RecordDict:
    return RecordDict({messages.CONFIG: ConfigRecord({"verdict": "yes"})})


def about_another_version(_: Message) -> RecordDict:
    return verdict_record(Verdict(1, True, "It held", datetime.now(UTC)))


@pytest.mark.parametrize(
    "answer", [rubbish, about_another_version, raises("the store is on fire"), lambda _: RecordDict()]
)
def test_what_is_no_verdict_on_this_version_counts_as_none(server: Server, answer: Answer) -> None:
    server.cameras[1].changed["deploy"] = answer
    assert server.hold().message == "Version 2 runs on 1 of 2 cameras"
    assert server.verdicts["yard"] is None
    assert any(text.startswith("yard gave no verdict on version 2: ") for text in server.events)


def test_nodes_that_nobody_enrolled_are_not_asked(server: Server) -> None:
    stranger = ScriptedCamera("stranger", 99)
    server.grid.nodes[99] = FakeNode(stranger.answer)
    assert server.hold().outcome == "published"
    assert stranger.heard == []


def test_a_full_disk_ends_the_night_with_a_sentence(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Shelf, "accept", full)
    record = server.hold()
    assert record.outcome == "failed"
    assert "No space left on device" in record.message
    assert server.shelf.current == 1
    assert server.cameras[0].heard[-1] == "close"


def test_a_fault_that_nobody_foresaw_still_ends_the_night(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def surprise(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("of what?")

    monkeypatch.setattr("server.rounds.publish", surprise)
    record = server.hold()
    assert record.outcome == "failed"
    assert "of what?" in record.message
    assert server.shelf.versions() == [1]
    assert server.cameras[0].heard[-1] == "close"


def test_without_a_signing_key_the_night_fails_and_says_why(server: Server) -> None:
    server.paths.signing_key.unlink()
    record = server.hold()
    assert (record.outcome, "signing key" in record.message) == ("failed", True)
    assert server.shelf.versions() == [1]


def test_status_rows_hold_what_cameras_said(server: Server) -> None:
    record = server.hold()
    assert record.figures["cameras"]["yard"]["train_frames"] == {"head": 6, "hardhat": 6}
    assert dataclasses.asdict(record)["figures"]["seconds"].keys() >= {"quorum", "rounds", "evaluate", "publish"}
