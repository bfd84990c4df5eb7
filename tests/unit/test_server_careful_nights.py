"""Nights that are cut off, and nights that must be careful: canaries, liars, late-comers, windows."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict

from appliance.models.verdict import Verdict
from server import asking, deploying
from server.fleet.history import History
from server.rounds import Night
from tests.fakes.parts import LABELS
from tests.fakes.scripted_night import Answer, Server, nan_head, raises, silent, verdict_record
from trainer import messages


@pytest.fixture
def server(tmp_path: Path, tiny_backbone: bytes, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(asking, "_POLL_S", 0.01)
    monkeypatch.setattr(asking, "_LIVENESS_S", 0.05)
    return Server(tmp_path, tiny_backbone)


class Cut(BaseException):
    """The process is killed."""


def cut_at(monkeypatch: pytest.MonkeyPatch, name: str, *, call: int) -> None:
    """Kill the night at the so-many-th call of one of its methods, before it does anything."""
    original = getattr(Night, name)
    calls = {"so far": 0}

    def cut(self: Night, *arguments: Any, **more: Any) -> Any:
        calls["so far"] += 1
        if calls["so far"] == call:
            raise Cut
        return original(self, *arguments, **more)

    monkeypatch.setattr(Night, name, cut)


@pytest.mark.parametrize(
    ("method", "call", "heard"),
    [
        ("_keep_round", 2, ["train"] * 3),  # the second round was under way and is asked again
        ("_gate", 1, ["train"] * 2),
        ("_make", 1, ["train"] * 2),
        ("_keep_model", 1, ["train"] * 2),  # signed, and nothing else
        ("_publish", 1, ["train"] * 2),
    ],
)
def test_a_night_that_was_killed_goes_on_where_it_stood_and_publishes_once(
    server: Server, monkeypatch: pytest.MonkeyPatch, method: str, call: int, heard: list[str]
) -> None:
    first = server.running_head()
    with monkeypatch.context() as patch:
        cut_at(patch, method, call=call)
        with pytest.raises(Cut):
            server.hold()
    assert server.registry.night(server.number).outcome is None
    record = server.go_on()
    assert (record.outcome, record.message) == ("published", "Version 2 runs on 2 of 2 cameras")
    assert server.shelf.versions() == [1, 2]
    assert [kind for kind in server.cameras[0].heard if kind == "train"] == heard
    for before, after in zip(first.arrays, server.running_head().arrays, strict=True):
        np.testing.assert_allclose(after, before + 0.2, atol=1e-5)
    assert [entry["round"] for entry in record.figures["rounds"]] == [1, 2]
    assert "The server restarted; the night goes on where it stood" in server.events


def test_a_night_that_lost_its_superlink_stays_open(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise httpx.ConnectError("refused")

    with monkeypatch.context() as patch:
        patch.setattr("server.training.ask", gone)
        with pytest.raises(httpx.ConnectError):
            server.hold()
    assert server.registry.night(server.number).outcome is None
    assert server.go_on().outcome == "published"


def test_where_the_gate_cannot_tell_one_camera_tries_first(server: Server) -> None:
    server.cameras[0].own, server.cameras[1].own = (9, 9, 9), (12, 12, 12)
    record = server.hold()
    assert record.outcome == "published"
    assert "yard tries version 2 first" in server.events  # it has more test frames
    assert server.registry.models()[0].outcome == "published"
    assert set(server.verdicts) == {"gate", "yard"}


def test_what_the_first_camera_refuses_no_other_gets(server: Server) -> None:
    server.rules(canary="always")
    refusal = Verdict(2, False, "The .eim crashed", datetime.now(UTC))
    for camera in server.cameras:
        camera.changed["deploy"] = lambda _: verdict_record(refusal)
    record = server.hold()
    assert (record.outcome, server.shelf.current) == ("refused", 1)
    assert "Version 1 stays: gate tried it first: The .eim crashed" in record.message
    assert [camera.heard.count("deploy") for camera in server.cameras] == [1, 0]
    assert [(model.version, model.outcome) for model in server.registry.models()] == [(2, "withdrawn")]


def test_a_camera_that_could_not_try_leaves_being_first_to_the_next(server: Server) -> None:
    server.rules(canary="always")
    later = Verdict(2, False, "The disk is full", datetime.now(UTC), final=False)
    server.cameras[0].changed["deploy"] = lambda _: verdict_record(later)
    record = server.hold()
    assert (record.outcome, record.message) == ("published", "Version 2 runs on 1 of 2 cameras")
    assert {"gate tries version 2 first", "yard tries version 2 first"} <= set(server.events)


def test_a_version_that_every_camera_refuses_is_withdrawn(server: Server) -> None:
    refusal = Verdict(2, False, "The .eim crashed", datetime.now(UTC))
    for camera in server.cameras:
        camera.changed["deploy"] = lambda _: verdict_record(refusal)
    record = server.hold()
    assert (record.outcome, server.shelf.current) == ("refused", 1)
    assert "all 2 cameras that could judge it refused it: The .eim crashed" in record.message
    for camera in server.cameras:
        camera.changed.clear()
    assert server.hold().message == "Version 3 runs on 2 of 2 cameras"  # numbers only rise


def test_cameras_that_could_not_try_a_version_do_not_withdraw_it(server: Server) -> None:
    later = Verdict(2, False, "The live loop said nothing", datetime.now(UTC), final=False)
    for camera in server.cameras:
        camera.changed["deploy"] = lambda _: verdict_record(later)
    record = server.hold()
    assert (record.outcome, server.shelf.current) == ("published", 2)
    assert record.message == "Version 2 runs on 0 of 2 cameras"


def test_a_camera_that_comes_late_joins_the_next_round(server: Server) -> None:
    server.rules(quorum=1, quorum_deadline_s=0.2)
    server.grid.nodes[8].online = False

    def then_yard_comes(message: Message) -> RecordDict:
        server.grid.nodes[8].online = True
        return server.cameras[0]._train(message)

    server.cameras[0].changed["train"] = then_yard_comes
    record = server.hold()
    assert [sorted(entry["examples"]) for entry in record.figures["rounds"]] == [["gate"], ["gate", "yard"]]
    assert record.message == "Version 2 runs on 2 of 2 cameras"


def test_a_camera_that_is_revoked_in_mid_round_counts_no_longer(server: Server) -> None:
    server.rules(quorum=1)

    def then_yard_is_revoked(message: Message) -> RecordDict:
        if len(server.roster.cameras()) == 2:
            server.roster.revoke("yard", "stolen")
        server.grid.nodes[8].online = False
        return server.cameras[0]._train(message)

    server.cameras[0].changed["train"] = then_yard_is_revoked
    server.grid.nodes[8].after_pulls = 20
    record = server.hold()
    assert record.outcome == "published"
    assert [sorted(entry["examples"]) for entry in record.figures["rounds"]] == [["gate"], ["gate"]]
    assert "yard was revoked and takes part no longer" in server.events
    assert record.message == "Version 2 runs on 1 of 1 cameras"


def test_a_camera_that_is_revoked_before_its_wave_does_not_end_the_night(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "_WAVE", 1)

    def then_the_other_is_revoked(first: int) -> Answer:
        def answer(message: Message) -> RecordDict:
            server.roster.revoke(["gate", "yard"][1 - first], "stolen")
            return server.cameras[first]._deploy(message)

        return answer

    for index, node in enumerate(server.grid.nodes.values()):
        server.cameras[index].changed["deploy"] = then_the_other_is_revoked(index)
        node.after_pulls = 20  # so that somebody looks meanwhile
    record = server.hold()
    assert (record.outcome, record.message) == ("published", "Version 2 runs on 1 of 1 cameras")
    assert sum("deploy" in camera.heard for camera in server.cameras) == 1


def test_three_bad_nights_put_a_camera_on_hold_until_a_person_lets_it_train(server: Server) -> None:
    server.rules(quorum=1)
    server.cameras[1].changed["train"] = nan_head
    for night in (1, 2, 3):
        assert server.roster.camera("yard").held_utc is None
        server.hold()
        assert server.roster.camera("yard").bad_nights == night
    held = server.roster.camera("yard")
    assert held.held_utc
    assert "3 nights in a row" in held.held_why
    assert any("yard is on hold" in entry.text for entry in server.roster.trail())
    server.cameras[1].heard.clear()
    assert server.hold().outcome == "published"
    assert server.cameras[1].heard == ["status", "deploy", "close"]  # it keeps getting models
    server.roster.release("yard")
    server.cameras[1].changed.clear()
    assert [sorted(entry["examples"]) for entry in server.hold().figures["rounds"]] == [["gate", "yard"]] * 2


def test_a_good_night_forgives_the_bad_ones_before_it(server: Server) -> None:
    server.rules(quorum=1)
    server.cameras[1].changed["train"] = nan_head
    server.hold()
    server.cameras[1].changed.clear()
    server.hold()
    assert server.roster.camera("yard").bad_nights == 0


@pytest.mark.parametrize("answer", [silent, raises("the disk is full")])
def test_silence_and_honest_errors_are_not_bad_replies(server: Server, answer: Answer) -> None:
    server.cameras[1].changed["train"] = answer
    server.hold()
    assert server.roster.camera("yard").bad_nights == 0


def test_an_update_that_dwarfs_the_others_is_left_out(server: Server) -> None:
    first = server.running_head()
    server.rules(min_replies=1, rounds=1)
    server.cameras[1].step = 5.0
    record = server.hold()
    assert "yard" in record.figures["rounds"][0]["left_out"]
    for before, after in zip(first.arrays, server.running_head().arrays, strict=True):
        np.testing.assert_allclose(after, before + 0.1, atol=1e-5)
    assert [(r.camera, r.used, r.bad) for r in server.registry.replies(server.number) if r.kind == "train"] == [
        ("gate", True, False),
        ("yard", False, True),
    ]


def test_a_strategy_that_means_nothing_with_so_few_cameras_says_so(server: Server) -> None:
    server.rules(strategy="krum", malicious=1)
    record = server.hold()
    assert record.outcome == "no quorum"
    assert "2 of the 5 cameras that a night needs (krum means nothing with fewer) were ready" in record.message


def test_a_night_ends_within_its_window(server: Server) -> None:
    server.rules(window_s=4, rounds=50, round_deadline_s=2, verdict_deadline_s=1)

    def slowly(message: Message) -> RecordDict:
        time.sleep(0.5)
        return server.cameras[0]._train(message)

    server.cameras[0].changed["train"] = slowly
    record = server.hold()
    assert record.outcome == "published"
    assert any("window leaves no time for round" in text for text in server.events)
    assert 1 <= len(record.figures["rounds"]) < 20


def test_the_first_night_may_begin_from_class_means(server: Server) -> None:
    server.import_test_frames()
    server.rules(exact_start=True)
    width = server.running_head().feature_count

    def means(_: Message) -> RecordDict:
        generator = np.random.default_rng(3)
        sums = generator.normal(size=(len(LABELS), width)).astype(np.float32)
        counts = np.full(len(LABELS), 10, np.int64)
        arrays = ArrayRecord({"sums": Array(sums * 10), "counts": Array(counts)})
        values = messages.metrics(squares=float(np.square(sums).sum() * 11))
        return RecordDict({messages.ARRAYS: arrays, messages.METRICS: values})

    for camera in server.cameras:
        camera.changed["means"] = means
    assert server.hold().outcome in ("published", "kept")
    assert server.cameras[0].heard[:3] == ["status", "means", "train"]
    assert [record.strategy for record in server.registry.rounds(server.number)] == ["class means", "fedavg", "fedavg"]


def test_a_large_fleet_sends_so_many_by_lot(server: Server) -> None:
    server.rules(cameras_per_round=1, rounds=6)
    record = server.hold()
    asked = [set(entry["examples"]) for entry in record.figures["rounds"]]
    assert all(len(each) == 1 for each in asked)
    assert record.message == "Version 2 runs on 2 of 2 cameras"
    assert [each.asked for each in server.registry.rounds(server.number)] == [1] * 6


def test_noise_is_counted_over_all_nights(server: Server) -> None:
    server.rules(rounds=1, noise_multiplier=5.0)
    server.hold()
    server.hold()
    epsilons = [record.epsilon for night in (1, 2) for record in server.registry.rounds(night)]
    assert None not in epsilons
    assert 0 < (epsilons[0] or 0) < (epsilons[1] or 0)
    assert any("epsilon" in text for text in server.events)


def test_what_was_said_and_what_became_of_it_is_in_the_registry(server: Server) -> None:
    server.import_test_frames()
    server.hold()
    rounds = server.registry.rounds(server.number)
    assert [(r.round, r.asked, r.used, r.frames) for r in rounds] == [(1, 2, 2, 12), (2, 2, 2, 12)]
    assert all(r.loss > 0 and 0 <= r.correct <= 12 for r in rounds)
    assert History(server.paths.registry).last_words()["yard"].status.train_frames == {"head": 6, "hardhat": 6}
    assert {reply.kind for reply in server.registry.replies(server.number)} == {"train", "test"}
