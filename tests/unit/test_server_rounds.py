"""The server's side of a night, with cameras that answer as a test says; tests/night has real ones."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from appliance.models.head import Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from appliance.models.verdict import Verdict
from appliance.store.frames import FrameStore
from appliance.store.importing import import_folders
from server import asking
from server.config import load
from server.fleet.history import History
from server.paths import ServerPaths
from server.registry import NightRecord, Registry
from server.roster import Roster
from server.rounds import Night
from tests.fakes.grid import FakeGrid, FakeNode, failure
from tests.fakes.parts import LABELS
from tests.fakes.site import draw_folders, make_tiny_fleet, write_server_settings
from trainer import messages
from trainer.messages import CameraStatus

Answer = Callable[[Message], "RecordDict | None"]


class ScriptedCamera:
    """A camera that does its part; a test changes what it answers to one kind of message.

    Args:
        name: As enrolled.
        node: Its id.
        version: That it runs.
    """

    def __init__(self, name: str, node: int, *, version: int = 1) -> None:
        self.name, self.node, self.version = name, node, version
        self.backbone = ""
        self.objection = ""
        self.examples = 12
        self.step = 0.1
        self.own = (60, 58, 40)  # test frames, named right by the new head, by the running one
        self.heard: list[str] = []
        self.changed: dict[str, Answer] = {}

    def answer(self, message: Message) -> Message | None:
        kind = message.metadata.message_type.removeprefix("query.")
        self.heard.append(kind)
        try:
            content = (self.changed.get(kind) or getattr(self, f"_{kind}"))(message)
        except RuntimeError as error:
            return failure(message, str(error))
        return None if content is None else Message(content, reply_to=message)

    def _status(self, _: Message) -> RecordDict:
        frames = {"head": 6, "hardhat": 6}
        status = CameraStatus(
            self.name, self.version, frames, {"head": self.own[0]}, (), self.objection, backbone=self.backbone
        )
        return RecordDict({messages.CONFIG: status.to_record()})

    def _train(self, message: Message) -> RecordDict:
        head = Head.from_arrays([array + np.float32(self.step) for array in messages.head_of(message.content).arrays])
        values = messages.metrics(examples=self.examples, loss=0.5)
        return RecordDict({messages.ARRAYS: messages.head_record(head), messages.METRICS: values})

    def _evaluate(self, _: Message) -> RecordDict:
        frames, correct, before = self.own
        values = messages.metrics(
            examples=frames, correct=correct, correct_before=before, lost=max(0, before - correct), loss=0.1
        )
        return RecordDict({messages.METRICS: values})

    def _deploy(self, message: Message) -> RecordDict:
        manifest = message.content.config_records[messages.CONFIG]["manifest"]
        assert isinstance(manifest, bytes)
        self.version = Manifest.from_bytes(manifest).version
        return verdict_record(Verdict(self.version, True, "It held", datetime.now(UTC)))

    def _close(self, _: Message) -> RecordDict:
        return RecordDict()


def verdict_record(verdict: Verdict) -> RecordDict:
    return RecordDict({messages.CONFIG: ConfigRecord({"verdict": verdict.to_json()})})


def raises(words: str) -> Answer:
    def answer(_: Message) -> RecordDict:
        raise RuntimeError(words)

    return answer


def silent(_: Message) -> None:
    return None


class Server:
    """A server with two enrolled cameras."""

    def __init__(self, root: Path, backbone: bytes) -> None:
        self._root = root
        self._config = root / "server.toml"
        self.rules(rounds=2)
        settings = load(self._config)
        make_tiny_fleet(settings, backbone)
        self.paths = ServerPaths(settings.state_dir)
        self.paths.flower.mkdir()
        self.registry = Registry(self.paths.registry)
        self.roster = Roster(self.paths.registry)
        self.cameras = [ScriptedCamera("gate", 7), ScriptedCamera("yard", 8)]
        for camera in self.cameras:
            self.roster.enrol(camera.node, camera.name, f"key {camera.node}")
        self.shelf = Shelf(self.paths.models, load_public_key(self.paths.signing_public.read_bytes()))
        for camera in self.cameras:
            camera.backbone = self.shelf.manifest(1).parts["backbone"].sha256
        self.grid = FakeGrid({camera.node: FakeNode(camera.answer) for camera in self.cameras})
        self.number = 0

    def rules(self, *, noise_multiplier: float = 0.0, **rules: float | str) -> None:
        quick: dict[str, float | str] = {"quorum_deadline_s": 1, "round_deadline_s": 1, "verdict_deadline_s": 1}
        plain: dict[str, float | str] = {"quorum": 2, "rounds": 2, "strategy": "fedavg", "exact_start": False}
        plain["min_replies"] = 1
        write_server_settings(self._config, noise_multiplier=noise_multiplier, **(quick | plain | rules))

    def import_test_frames(self) -> None:
        pictures = draw_folders(self._root / "pictures", labels=LABELS, seed=1, train=0, test=4)
        with FrameStore(self.paths.store) as store:
            import_folders(store, pictures, labels=LABELS, by="test", split="test")

    def hold(self) -> NightRecord:
        self.number = self.registry.begin("tonight")
        return self.go_on()

    def go_on(self) -> NightRecord:
        Night(self.grid, load(self._config), self.paths, night=self.number).run()
        return self.registry.night(self.number)

    @property
    def events(self) -> list[str]:
        return [text for _, text in self.registry.events(self.number)]

    @property
    def verdicts(self) -> dict[str, Verdict | None]:
        return self.registry.verdicts(self.number)

    def running_head(self) -> Head:
        version = self.shelf.current
        assert version is not None
        return Head.from_bytes(self.shelf.part(self.shelf.manifest(version).parts["head"]))


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


def nan_head(message: Message) -> RecordDict:
    arrays = [np.full_like(array, np.nan) for array in messages.head_of(message.content).arrays]
    record = messages.head_record(Head(((arrays[0], arrays[1]),)))
    return RecordDict({messages.ARRAYS: record, messages.METRICS: messages.metrics(examples=5, loss=1.0)})


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


# A night that is cut off, and one that must be careful


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
