"""The ServerApp: one night. Quorum -> rounds -> gate -> publish -> every camera's verdict."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Strategy

from appliance.errors import NightError, SitecamError
from appliance.models.head import Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from appliance.models.verdict import Verdict
from appliance.store.features import FeatureCache
from appliance.store.frames import FrameStore
from server.asking import ask
from server.config import CONFIG_VARIABLE, ServerSettings, load
from server.gate import GateVerdict, LabelScores, judge, score
from server.paths import ServerPaths
from server.publish import deployment, publish
from server.registry import Registry
from server.replies import check_test, check_train
from trainer import messages
from trainer.features import Backbone, examples
from trainer.head import Examples

logger = logging.getLogger(__name__)


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Flower's entry: run the night that the run's settings name."""
    settings = load(Path(os.environ[CONFIG_VARIABLE]))
    paths = ServerPaths(settings.state_dir)
    logging.basicConfig(filename=paths.flower / "night.log", level=logging.INFO)
    Night(grid, settings, paths, night=int(str(context.run_config["night"]))).run()


@dataclass
class Progress:
    """What is known of a night so far; becomes its figures in the registry."""

    rounds: list[dict[str, Any]] = field(default_factory=list)
    cameras: dict[str, dict[str, Any]] = field(default_factory=dict)
    server: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Night:
    """One night on the server's side.

    Args:
        grid: Flower's way to the cameras.
        settings: The server's.
        paths: Its state folder.
        night: The night's id in the registry, begun already.
    """

    def __init__(self, grid: Grid, settings: ServerSettings, paths: ServerPaths, *, night: int) -> None:
        self._grid = grid
        self._rules = settings.night
        self._paths = paths
        self._id = night
        self._registry = Registry(paths.registry)
        self._name = self._registry.night(night).name
        self._names = {camera.node_id: camera.name for camera in self._registry.cameras()}
        self._shelf = Shelf(paths.models, load_public_key(paths.signing_public.read_bytes()))
        self._strategy: Strategy = FedAvg(weighted_by_key=messages.EXAMPLES)
        self._progress = Progress()
        self._statuses: dict[int, messages.CameraStatus] = {}
        self._unusable: set[int] = set()  # cameras whose status could not be had; asked once a night

    def run(self) -> None:
        """Hold the night. However it goes, it ends in the registry with an outcome and a sentence."""
        outcome, sentence = "failed", "The server's process ended unexpectedly"
        try:
            outcome, sentence = self._hold()
        except SitecamError as error:
            sentence = str(error)
            logger.error("%s", error)
        except OSError as error:
            sentence = f"The server's disk or network refused ({error}). Nothing was published that isn't whole."
            logger.exception("The night failed")
        finally:
            figures = vars(self._progress)
            self._registry.end(self._id, outcome, sentence, figures)
            self._close()

    def _hold(self) -> tuple[str, str]:
        version = self._shelf.current
        if version is None:
            raise NightError("The server has no model", do="Run sitecam-server init")
        manifest = self._shelf.manifest(version)
        own_examples = self._server_examples(manifest)
        running = Head.from_bytes(self._shelf.part(manifest.parts["head"]))
        before = score(running, own_examples, manifest.labels)
        with self._timed("quorum"):
            self._wait_for_quorum()
            self._bring_up_to_date(version)
        ready = [node for node, status in self._statuses.items() if not status.objection and status.version == version]
        if len(ready) < self._rules.quorum:
            return "no quorum", self._no_quorum(ready)
        head, after = running, before
        with self._timed("rounds"):
            for number in range(1, self._rules.rounds + 1):
                head = self._round(number, version, head, ready)
                after = score(head, own_examples, manifest.labels)
                self._progress.rounds[-1] |= {"accuracy": after.accuracy}
                self._note(f"Round {number} of {self._rules.rounds}: {_on_frames(after)}")
        self._progress.server = {
            "frames": after.total,
            "rounds": self._rules.rounds,
            "accuracy_before": before.accuracy,
            "accuracy_after": after.accuracy,
        }
        with self._timed("evaluate"):
            gate = self._gate(version, head, before, after, ready)
        if not gate.passed:
            return "kept", f"Version {version} stays: the new model is {gate.reason}"
        self._note(f"Gate passed: {gate.reason}")
        with self._timed("publish"):
            published = publish(
                self._paths,
                self._shelf,
                manifest,
                head,
                night=self._name,
                metrics={"server_accuracy": after.accuracy, "server_frames": after.total},
            )
            self._note(f"Version {published.version} is signed and on its way")
            accepted = self._collect_verdicts(published)
        return "published", f"Version {published.version} runs on {accepted} of {len(self._names)} cameras"

    # The steps

    def _server_examples(self, manifest: Manifest) -> Examples:
        def backbone() -> Backbone:
            return Backbone(self._shelf.part(manifest.parts["backbone"]), manifest.input, threads=2)

        with (
            self._timed("server features"),
            FrameStore(self._paths.store) as store,
            FeatureCache(self._paths.store) as cache,
        ):
            return examples(store, cache, manifest, backbone, split="test", variants=1)

    def _wait_for_quorum(self) -> None:
        """Ask cameras how they are until all enrolled ones have said so, or the deadline passes."""
        self._note(f"Waiting for {self._rules.quorum} of {len(self._names)} cameras")
        ends = time.monotonic() + self._rules.quorum_deadline_s
        while time.monotonic() < ends and (unasked := set(self._names) - set(self._statuses) - self._unusable):
            fresh = set(self._grid.get_node_ids()) & unasked
            if not fresh:
                time.sleep(1)
                continue
            left_s = max(5.0, min(60.0, ends - time.monotonic()))
            answers = ask(
                self._grid,
                {node: RecordDict() for node in fresh},
                f"{MessageType.QUERY}.{messages.STATUS}",
                group="status",
                deadline_s=left_s,
            )
            for node, reply in answers.replies.items():
                self._take_status(node, reply)

    def _bring_up_to_date(self, version: int) -> None:
        """Cameras that missed an earlier night get what runs, and then train with the others."""
        late = [node for node, status in self._statuses.items() if status.version != version]
        for node, verdict in self._deploy(version, late).items():
            if verdict.accepted:
                self._statuses[node] = dataclasses.replace(self._statuses[node], version=version)

    def _take_status(self, node: int, reply: Message) -> None:
        name = self._names[node]
        try:
            if reply.has_error():
                raise NightError(reply.error.reason or "it gave no reason")
            status = messages.CameraStatus.from_record(reply.content.config_records[messages.CONFIG])
        except (NightError, KeyError) as error:
            self._unusable.add(node)
            self._note(f"{name} can't take part: {error}".rstrip("."))
            return
        self._statuses[node] = status
        self._progress.cameras[name] = {
            "version_before": status.version,
            "train_frames": dict(status.train_frames),
            "test_frames": dict(status.test_frames),
        }
        frames = sum(status.train_frames.values())
        self._note(
            f"{name} is here: version {status.version}, {frames} frames to learn from. {status.objection}".strip()
        )

    def _no_quorum(self, ready: list[int]) -> str:
        absent = sorted(name for node, name in self._names.items() if node not in self._statuses)
        unready = [
            f"{self._names[node]} ({self._statuses[node].objection or 'it runs another version'})"
            for node in self._statuses
            if node not in ready
        ]
        return (
            f"{len(ready)} of the {self._rules.quorum} cameras that a night needs were ready."
            f" Missing: {', '.join(absent) or 'none'}. Not ready: {', '.join(unready) or 'none'}."
        )

    def _round(self, number: int, version: int, head: Head, ready: list[int]) -> Head:
        """One round; the cameras whose replies can't be used cost only themselves."""
        config = ConfigRecord(
            {
                "round": number,
                "rounds": self._rules.rounds,
                "version": version,
                "epochs": self._rules.epochs,
                "rate": self._rules.rate,
                "smoothing": self._rules.smoothing,
            }
        )
        content = RecordDict({messages.ARRAYS: messages.head_record(head), messages.CONFIG: config})
        answers = ask(
            self._grid,
            dict.fromkeys(ready, content),
            MessageType.TRAIN,
            group=str(number),
            deadline_s=self._rules.round_deadline_s,
        )
        good: list[Message] = []
        left_out = {self._names[node]: why for node, why in answers.missing.items()}
        examples_by_camera: dict[str, int] = {}
        for node, reply in answers.replies.items():
            name = self._names[node]
            try:
                checked = check_train(reply, head, max_examples=self._rules.max_examples)
            except NightError as error:
                left_out[name] = str(error)
                continue
            examples_by_camera[name] = checked.examples
            good.append(reply)
        for name, why in left_out.items():
            self._note(f"Round {number} goes on without {name}: {why}")
        self._progress.rounds.append({"round": number, "examples": examples_by_camera, "left_out": left_out})
        if len(good) < self._rules.min_replies:
            raise NightError(
                f"Round {number} got {len(good)} usable replies, fewer than night.min_replies",
                means="Tonight ends without a new model",
                do="Look at what each camera said above",
            )
        arrays, _ = self._strategy.aggregate_train(number, good)
        if arrays is None:
            raise NightError("The strategy gave no model", means="Tonight ends without a new model")
        return Head.from_arrays(arrays.to_numpy_ndarrays())

    def _gate(self, version: int, head: Head, before: LabelScores, after: LabelScores, ready: list[int]) -> GateVerdict:
        content = RecordDict(
            {
                messages.ARRAYS: messages.head_record(head),
                messages.CONFIG: ConfigRecord({"version": version}),
            }
        )
        answers = ask(
            self._grid,
            dict.fromkeys(ready, content),
            MessageType.EVALUATE,
            group="evaluate",
            deadline_s=self._rules.round_deadline_s,
        )
        totals = {"frames": 0, "before": 0, "after": 0}
        for node, reply in answers.replies.items():
            name = self._names[node]
            try:
                tested = check_test(reply, max_examples=self._rules.max_examples)
            except NightError as error:
                self._note(f"{name} could not test: {error}")
                continue
            totals["frames"] += tested.frames
            totals["before"] += tested.correct_before
            totals["after"] += tested.correct
            if tested.frames:
                self._progress.cameras[name] |= {
                    "accuracy_before": tested.correct_before / tested.frames,
                    "accuracy_after": tested.correct / tested.frames,
                }
        for node, why in answers.missing.items():
            self._note(f"{self._names[node]} did not test: {why}")
        return judge(before, after, own_frames=totals["frames"], own_before=totals["before"], own_after=totals["after"])

    def _collect_verdicts(self, published: Manifest) -> int:
        """Send the version to every camera that is there; note each enrolled camera's verdict, or its absence."""
        version = published.version
        given = self._deploy(version, list(self._statuses))
        for node, name in self._names.items():
            self._registry.put_verdict(self._id, name, version, given.get(node))
        return sum(verdict.accepted for verdict in given.values())

    def _deploy(self, version: int, nodes: list[int]) -> dict[int, Verdict]:
        """Send a version to these cameras; their verdicts, as far as they give one in time."""
        verdicts: dict[int, Verdict] = {}

        def take(node: int, reply: Message) -> None:
            name = self._names[node]
            try:
                if reply.has_error():
                    raise NightError(reply.error.reason or "it gave no reason")
                verdict = Verdict.from_json(str(reply.content.config_records[messages.CONFIG]["verdict"]))
                if verdict.version != version:
                    raise NightError(f"its verdict is on version {verdict.version}")
            except (SitecamError, KeyError) as error:
                self._note(f"{name} gave no verdict on version {version}: {error}")
                return
            verdicts[node] = verdict
            said = "runs" if verdict.accepted else "refused" if verdict.final else "could not try"
            where = f" in {verdict.state}" if verdict.state and not verdict.accepted else ""
            self._note(f"{name} {said} version {version}{where}: {verdict.reason}")

        answers = ask(
            self._grid,
            {node: deployment(self._shelf, version, self._statuses[node].digests) for node in nodes},
            f"{MessageType.QUERY}.{messages.DEPLOY}",
            group="deploy",
            deadline_s=self._rules.verdict_deadline_s,
            on_reply=take,
        )
        for node, why in answers.missing.items():
            self._note(f"{self._names[node]} gave no verdict on version {version}: {why}")
        return verdicts

    def _close(self) -> None:
        """Tell the cameras that the night is over; those that don't hear it end with their own window."""
        online = set(self._grid.get_node_ids()) & set(self._names)
        ask(
            self._grid,
            {node: RecordDict() for node in online},
            f"{MessageType.QUERY}.{messages.CLOSE}",
            group="close",
            deadline_s=20,
        )

    # Small things

    def _note(self, text: str) -> None:
        logger.info("%s", text)
        self._registry.note(self._id, text)

    def _timed(self, part: str) -> _Timer:
        return _Timer(self._progress.seconds, part)


class _Timer:
    def __init__(self, seconds: dict[str, float], part: str) -> None:
        self._seconds, self._part = seconds, part

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._part] = round(time.monotonic() - self._began, 2)


def _on_frames(scores: LabelScores) -> str:
    if not scores.total:
        return "the server has no test frames"
    return f"{scores.accuracy:.1%} on the server's {scores.total} test frames ({scores.text()})"
