"""The camera's ClientApp: what a camera answers when the server asks it at night."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from appliance.board import Board, camera_board
from appliance.config import Settings
from appliance.errors import NightError, SitecamError
from appliance.models.head import Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.models.verdict import Verdict, forget_verdict, standing_verdict
from appliance.night_plan import objection
from appliance.night_status import NightStatus, Phase, write_night_status
from appliance.paths import CameraPaths
from appliance.status_file import complaint
from appliance.store.frames import FrameStore
from appliance.store.recipe import VARIANTS, recipe_name
from trainer import messages
from trainer.features import Backbone, examples
from trainer.head import Examples, evaluate, named_right, train
from trainer.ledger import note_reply
from trainer.means import once
from trainer.orders import check_ground, head_of, recipe_of, round_of

logger = logging.getLogger(__name__)

_NIGHT_NAME = 100  # characters, at most


def _go_on() -> None:
    """Nothing holds the work up."""


@dataclass(frozen=True)
class Camera:
    """What the handlers need of this camera.

    Attributes:
        settings: Its settings.
        paths: Its state folder.
        shelf: Its models.
        night: The night's name, for status and ledger.
        closing: This file appears when the server says that the night is over.
        stopping: Set when this camera's night shall end.
        between: Called between two frames whose features are computed: it waits while the board is hot, and raises
            NightError where the night must end.
    """

    settings: Settings
    paths: CameraPaths
    shelf: Shelf
    night: str
    closing: Path
    stopping: threading.Event
    between: Callable[[], None] = field(default=_go_on, kw_only=True)

    def say(self, phase: Phase, message: str, *, number: int = 0, rounds: int = 0) -> None:
        """Tell the page how the night goes."""
        write_night_status(
            self.paths.night_status,
            NightStatus(phase, self.night, number, rounds, message, datetime.now(UTC)),
        )

    def current(self) -> Manifest:
        """The manifest of the fleet's model that runs, or that a local one runs in place of.

        Raises:
            NightError: None runs.
        """
        version = self.shelf.fleet_version
        if version is None:
            raise NightError("This camera runs no model", means="It can't train", do="Enrol it again")
        return self.shelf.manifest(version)

    def lessons(self, config: Mapping[str, object]) -> Examples:
        """The frames that tonight's model learns from. Which they are is noted, for whoever deletes one later.

        Args:
            config: The server's; the night that it names stands in the manifest of the version that comes of it.
        """
        night = config.get("night")
        told = isinstance(night, str) and night.isprintable() and 0 < len(night) <= _NIGHT_NAME
        return self.examples("train", night=str(night) if told else self.night)

    def examples(self, split: str, *, night: str = "") -> Examples:
        """This camera's labelled frames as features, computing what the cache lacks.

        Args:
            split: "train" or "test".
            night: That learns from them; empty: none does.
        """
        manifest = self.current()
        threads = self.settings.night.threads

        def backbone() -> Backbone:
            return Backbone(self.shelf.part(manifest.parts["backbone"]), manifest.input, threads=threads)

        def progress(done: int, total: int) -> None:
            self.between()
            if self.stopping.is_set():
                raise NightError("The night was stopped", means="What was computed so far is kept")
            if done % 8 == 0 or done == total:
                self.say("features", f"Looked at {done} of {total} new {split} frames")

        with FrameStore(self.paths.store) as store:
            store.features.prune({recipe_name(manifest, 1), recipe_name(manifest, VARIANTS)})
            variants = VARIANTS if split == "train" else 1
            if night:  # before they are read: one that is deleted meanwhile has been learned from all the same
                store.note_lessons(night, manifest.labels)
            found = examples(
                store, store.features, manifest, backbone, split=split, variants=variants, progress=progress
            )
            if night:  # and after: one may have been labelled meanwhile
                store.note_lessons(night, manifest.labels)
            return found

    def status(self) -> messages.CameraStatus:
        """What this camera tells the server of itself."""
        with FrameStore(self.paths.store) as store:
            counts = store.counts()
        labels = self.current().labels
        train_frames, test_frames = (
            {label: n for label, n in counts.get(split, {}).items() if label in labels} for split in ("train", "test")
        )
        return messages.CameraStatus(
            name=self.settings.camera.name,
            version=self.shelf.fleet_version or 0,
            train_frames=train_frames,
            test_frames=test_frames,
            digests=tuple(self.shelf.digests()),
            objection=objection(train_frames, self.settings.night.min_frames),
            health=complaint(self.settings.state_dir),
            backbone=self.current().parts["backbone"].sha256,
            board=self._board(),
        )

    def _board(self) -> Board:
        running = self.shelf.current
        eim = None if running is None else self.shelf.impulse_path(running)
        return camera_board(self.settings.state_dir, eim, threads=self.settings.model.threads)


def client_app(camera: Camera) -> ClientApp:
    """The ClientApp of this camera, its handlers bound to it."""
    app = ClientApp()

    @app.query(messages.STATUS)
    def status(message: Message, _: Context) -> Message:
        camera.say("waiting", "The server asked how this camera is")
        return _reply(camera, message, RecordDict({messages.CONFIG: camera.status().to_record()}))

    @app.query(messages.MEANS)
    def means(message: Message, _: Context) -> Message:
        camera.say("testing", "Summing up this camera's frames, label by label")
        manifest = camera.current()
        config = message.content.config_records[messages.CONFIG]
        check_ground(manifest, config)
        summed = once(camera.paths.root, manifest, lambda: camera.lessons(config))
        arrays = ArrayRecord({"sums": Array(summed.sums), "counts": Array(summed.counts)})
        values = messages.metrics(squares=summed.squares)
        return _reply(camera, message, RecordDict({messages.ARRAYS: arrays, messages.METRICS: values}))

    @app.train()
    def training(message: Message, _: Context) -> Message:
        config = message.content.config_records[messages.CONFIG]
        number, rounds = round_of(config)
        camera.say("training", f"Training, round {number} of {rounds}", number=number, rounds=rounds)
        manifest = camera.current()
        check_ground(manifest, config)
        recipe = recipe_of(config)
        head = head_of(manifest, message.content)
        graph = camera.shelf.part(manifest.parts["trainer"])
        known = camera.lessons(config)
        trained, loss = train(graph, head, known, recipe)
        camera.say("training", f"Round {number} of {rounds} is done", number=number, rounds=rounds)
        content = RecordDict(
            {
                messages.ARRAYS: messages.head_record(trained),
                messages.METRICS: messages.metrics(examples=len(known), loss=loss),
            }
        )
        return _reply(camera, message, content)

    @app.evaluate()
    def evaluation(message: Message, _: Context) -> Message:
        manifest = camera.current()
        check_ground(manifest, message.content.config_records[messages.CONFIG])
        head = head_of(manifest, message.content)
        camera.say("testing", "Testing on this camera's own test frames")
        known = camera.examples("test")
        running = Head.from_bytes(camera.shelf.part(manifest.parts["head"]))
        after, before = named_right(head, known), named_right(running, known)
        values = messages.metrics(
            examples=len(known),
            loss=evaluate(head, known).loss,
            correct=int(after.sum()),
            correct_before=int(before.sum()),
            lost=int((before & ~after).sum()),
        )
        return _reply(camera, message, RecordDict({messages.METRICS: values}))

    @app.query(messages.DEPLOY)
    def deploy(message: Message, _: Context) -> Message:
        verdict = _take_model(camera, message.content)
        end = "runs" if verdict.accepted else "was not taken"
        camera.say("done", f"Version {verdict.version} {end}. {verdict.reason}")
        record = ConfigRecord({"verdict": verdict.to_json()})
        return _reply(camera, message, RecordDict({messages.CONFIG: record}))

    @app.query(messages.CLOSE)
    def close(message: Message, _: Context) -> Message:
        camera.closing.touch()
        return _reply(camera, message, RecordDict({messages.CONFIG: ConfigRecord({})}))

    return app


def _take_model(camera: Camera, content: RecordDict) -> Verdict:
    """Put the version in a message on the shelf, offer it to the camera process, wait for its verdict."""
    config = content.config_records[messages.CONFIG]
    manifest, signature = config["manifest"], config["signature"]
    if not isinstance(manifest, bytes) or not isinstance(signature, bytes):
        raise NightError("A model came without its manifest", means="The running model stays")
    parts = {
        name: data for name, data in config.items() if isinstance(data, bytes) and name not in {"manifest", "signature"}
    }
    version = Manifest.from_bytes(manifest).version
    camera.say("receiving", f"Version {version} has arrived")
    try:
        if version > camera.shelf.highest or version not in camera.shelf.versions():
            camera.shelf.accept(manifest, signature, parts)
        current = camera.shelf.fleet_version or 0
        if version < current:
            raise NightError(f"Version {version} is older than version {current}, which runs", means="It stays")
    except SitecamError as error:
        return Verdict(version, False, str(error), datetime.now(UTC))
    except OSError as error:  # this camera's disk, and no fault of the version's
        return Verdict(version, False, str(error), datetime.now(UTC), final=False)
    if camera.shelf.current != version:
        earlier = standing_verdict(camera.paths.models, version)
        if earlier and not earlier.final:  # something stood in its way: it gets a fresh answer
            forget_verdict(camera.paths.models, version)
        camera.shelf.offer(version)
    camera.say("receiving", f"Waiting for the live loop to try version {version}")
    return _wait_for_verdict(camera.paths.models, version, camera.settings.night.swap_deadline_s)


def _wait_for_verdict(models: Path, version: int, deadline_s: float, poll_s: float = 0.2) -> Verdict:
    ends = time.monotonic() + deadline_s
    while time.monotonic() < ends:
        verdict = standing_verdict(models, version)
        if verdict is not None:
            return verdict
        time.sleep(poll_s)
    reason = (
        f"The live loop said nothing about version {version} within {deadline_s:.0f} s. Is sitecam-camera running?"
        " The version waits and will be tried as soon as it does."
    )
    return Verdict(version, False, reason, datetime.now(UTC), final=False)


def _reply(camera: Camera, message: Message, content: RecordDict) -> Message:
    note_reply(camera.paths.ledger, camera.night, message.metadata.message_type, content)
    return Message(content=content, reply_to=message)
