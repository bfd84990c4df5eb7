"""A server's side of a night without Flower: scripted cameras on a grid that only pretends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from flwr.app import ConfigRecord, Message, RecordDict

from appliance.models.head import Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from appliance.models.verdict import Verdict
from appliance.store.frames import FrameStore
from appliance.store.importing import import_folders
from server.config import load
from server.paths import ServerPaths
from server.registry import ONLY_DEPLOY, NightRecord, Registry
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

    def hold(self, *, only_deploy: bool = False) -> NightRecord:
        self.number = self.registry.begin("tonight")
        if only_deploy:
            self.registry.put_checkpoint(self.number, {ONLY_DEPLOY: True})
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


def nan_head(message: Message) -> RecordDict:
    arrays = [np.full_like(array, np.nan) for array in messages.head_of(message.content).arrays]
    record = messages.head_record(Head(((arrays[0], arrays[1]),)))
    return RecordDict({messages.ARRAYS: record, messages.METRICS: messages.metrics(examples=5, loss=1.0)})
