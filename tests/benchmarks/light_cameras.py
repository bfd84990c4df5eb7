"""Cameras made of numbers: synthetic features, the product's own handlers, true or hostile replies.

Features are drawn in 32 hidden dimensions, where each label has a centre and each camera a place of its own, and
mapped to the backbone's 1280. Labels are skewed per camera (Dirichlet). Frames overlap between labels so that a head
can be good and not perfect, and so that many cameras know more than one.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MessageType, RecordDict

from appliance.config import CameraSettings, Settings
from appliance.errors import SitecamError
from appliance.models.head import Array, Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.models.verdict import Verdict
from appliance.paths import CameraPaths
from trainer import messages
from trainer.client import Camera, client_app
from trainer.head import Examples

FEATURES = 1280
LABELS = ("head", "hardhat", "nobody")
HOSTILE = ("flipped", "nan", "many", "random")
_HIDDEN = 32
_APART = 1.0  # of the labels' centres, against a frame's own 1.0
_SITE = 0.5  # how far a camera's place moves its frames
_SKEW = 0.5  # Dirichlet's alpha; smaller is more skewed
_TRAIN, _TEST = 40, 10  # frames
_FLIP, _NOISE, _MANY = 10.0, 3.0, 10**9


def _world() -> tuple[Array, Array]:
    """The labels' centres and the map to features: the same for everybody."""
    generator = np.random.default_rng(0)
    centres = generator.normal(0, _APART, (len(LABELS), _HIDDEN))
    return centres.astype(np.float32), generator.normal(0, 0.3, (_HIDDEN, FEATURES)).astype(np.float32)


def drawn(labels: np.ndarray, seed: int, site: int | None = None) -> Array:
    """Features of frames, float32 [frames, 1280], never below 0.

    Args:
        labels: int64 [frames].
        seed: Of these frames.
        site: Whose place they show; None for places that no camera has.
    """
    centres, spread = _world()
    generator = np.random.default_rng([1, seed])
    places = np.random.default_rng([2, site]) if site is not None else generator
    count = 1 if site is not None else len(labels)
    hidden = (
        centres[labels] + places.normal(0, _SITE, (count, _HIDDEN)) + generator.normal(0, 1, (len(labels), _HIDDEN))
    )
    return np.asarray(np.maximum(hidden @ spread + 0.3, 0), np.float32)


def server_frames(count: int) -> Examples:
    """The server's test frames, labels evenly spread, from places that no camera has."""
    labels = np.arange(count) % len(LABELS)
    return Examples(drawn(labels, seed=0)[:, np.newaxis], labels.astype(np.int64))


@dataclass(frozen=True)
class Part:
    """What a camera plays.

    Attributes:
        number: From 0; its frames follow from it.
        name: In the fleet.
        hostile: One of HOSTILE; empty for an honest one.
        leaves_in_round: It goes silent for good when it is asked to train in this round; 0: never.
    """

    number: int
    name: str
    hostile: str = ""
    leaves_in_round: int = 0


def cast(cameras: int, *, hostile: float, leaving: float, leaves_in_round: int = 2, seed: int = 1) -> list[Part]:
    """Who plays what: shares of the cameras, drawn without overlap, every kind of hostility in turn."""
    order = np.random.default_rng(seed).permutation(cameras).tolist()
    bad, gone = round(cameras * hostile), round(cameras * leaving)
    kinds = {number: HOSTILE[index % len(HOSTILE)] for index, number in enumerate(order[:bad])}
    leavers = set(order[bad : bad + gone])
    return [
        Part(number, f"camera-{number:04}", kinds.get(number, ""), leaves_in_round if number in leavers else 0)
        for number in range(cameras)
    ]


@dataclass(frozen=True)
class _Numbers(Camera):
    """A camera whose frames are numbers already, for the handlers of trainer.client."""

    drawn_frames: Mapping[str, Examples]

    def say(self, *_: object, **__: object) -> None:
        """There is no page."""

    def examples(self, split: str, *, night: str = "") -> Examples:  # noqa: ARG002  # nothing is stored
        """What was drawn."""
        return self.drawn_frames[split]

    def status(self) -> messages.CameraStatus:
        """As a camera with such frames would say it."""

        def counts(examples: Examples) -> dict[str, int]:
            return {label: int((examples.labels == index).sum()) for index, label in enumerate(LABELS)}

        return messages.CameraStatus(
            name=self.settings.camera.name,
            version=self.shelf.current or 0,
            train_frames=counts(self.drawn_frames["train"]),
            test_frames=counts(self.drawn_frames["test"]),
            digests=tuple(self.shelf.digests()),
            backbone=self.current().parts["backbone"].sha256,
        )


class LightCamera:
    """Answers by the handlers of trainer.client; only a new version is accepted without a live loop to try it.

    Args:
        part: What it plays.
        shelf: The running version, the same for all cameras and only read.
        folder: For its ledger, and for every head that it sends, so that other ways to use them can be tried.
    """

    def __init__(self, part: Part, shelf: Shelf, folder: Path) -> None:
        self.part = part
        self.gone = False
        self._folder = folder
        generator = np.random.default_rng([3, part.number])
        shares = generator.dirichlet([_SKEW] * len(LABELS))
        labels = generator.choice(len(LABELS), _TRAIN + _TEST, p=shares).astype(np.int64)
        labels[:2] = [0, 1]  # a camera with one label only would not train
        features = drawn(labels, seed=part.number + 1, site=part.number)[:, np.newaxis]
        self.frames = {
            "train": Examples(features[:_TRAIN], labels[:_TRAIN]),
            "test": Examples(features[_TRAIN:], labels[_TRAIN:]),
        }
        own = folder / part.name
        own.mkdir(parents=True)
        settings = Settings(own, CameraSettings(part.name))
        camera = _Numbers(
            settings, CameraPaths(own), shelf, "benchmark", own / "closing", threading.Event(), self.frames
        )
        self._app = client_app(camera)

    def answer(self, message: Message) -> Message | None:
        """Its reply; None where it has gone silent."""
        kind = message.metadata.message_type
        number = 0
        if kind == MessageType.TRAIN:
            number = int(str(message.content.config_records[messages.CONFIG]["round"]))
            if self.part.leaves_in_round and number >= self.part.leaves_in_round:
                self.gone = True
                return None
        if kind == f"{MessageType.QUERY}.{messages.DEPLOY}":
            return _accepted(message)
        context = Context(
            run_id=message.metadata.run_id,
            node_id=message.metadata.dst_node_id,
            node_config={},
            state=RecordDict(),
            run_config={},
        )
        try:
            reply = self._app(message, context)
        except SitecamError as error:  # what Flower's run_clientapp makes of it
            return Message(Error(code=2, reason=str(error)), reply_to=message)
        if number:
            self._spoil(message, reply, number)
            self._keep(reply, number)
        return reply

    def _spoil(self, question: Message, reply: Message, number: int) -> None:
        """Make of what it trained what its hostility wants."""
        content = reply.content
        given, trained = messages.head_of(question.content).arrays, messages.head_of(content).arrays
        if self.part.hostile == "flipped":
            arrays = [old - np.float32(_FLIP) * (new - old) for old, new in zip(given, trained, strict=True)]
        elif self.part.hostile == "nan":
            arrays = [np.full_like(array, np.nan) for array in trained]
        elif self.part.hostile == "random":
            generator = np.random.default_rng([4, self.part.number, number])
            arrays = [generator.normal(0, _NOISE, array.shape).astype(np.float32) for array in trained]
        else:
            arrays = trained
        content[messages.ARRAYS] = ArrayRecord(arrays)
        if self.part.hostile == "many":
            content.metric_records[messages.METRICS][messages.EXAMPLES] = _MANY

    def _keep(self, reply: Message, number: int) -> None:
        record = reply.content.array_records[messages.ARRAYS]
        named = {f"array_{index}": array for index, array in enumerate(record.to_numpy_ndarrays())}
        np.savez(
            self._folder / f"{self.part.name}-{number}.npz",
            round=number,
            examples=np.array(reply.content.metric_records[messages.METRICS][messages.EXAMPLES]),
            number=self.part.number,
            hostile=np.array(self.part.hostile),
            **named,  # type: ignore[arg-type]  # numpy types the keyword as its allow_pickle flag
        )


def _accepted(message: Message) -> Message:
    manifest = message.content.config_records[messages.CONFIG]["manifest"]
    assert isinstance(manifest, bytes)
    verdict = Verdict(Manifest.from_bytes(manifest).version, True, "It runs", datetime.now(UTC))
    record = ConfigRecord({"verdict": verdict.to_json()})
    return Message(RecordDict({messages.CONFIG: record}), reply_to=message)


def plain_average(heads: list[tuple[int, list[Array]]]) -> Head | None:
    """FedAvg without any check: the mean weighted by what each camera says of itself.

    Returns:
        None where the mean is no head, because it isn't finite.
    """
    total = float(sum(examples for examples, _ in heads))
    arrays = [
        np.asarray(sum(examples / total * array for (examples, _), array in zip(heads, same, strict=True)), np.float32)
        for same in zip(*(arrays for _, arrays in heads), strict=True)
    ]
    if not all(np.isfinite(array).all() for array in arrays):
        return None
    return Head.from_arrays(arrays)


def read_kept(folder: Path) -> list[tuple[Part, int, int, list[Array]]]:
    """Every head that light cameras sent: (who, round, examples as it said, arrays)."""
    found = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as kept:
            number, examples, camera = (int(kept[name]) for name in ("round", "examples", "number"))
            arrays = [kept[f"array_{index}"] for index in range(len(kept.files) - 4)]
            found.append((Part(camera, path.stem, str(kept["hostile"])), number, examples, arrays))
    return found
