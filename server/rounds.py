"""The ServerApp: one night. Quorum -> rounds -> gate -> publish -> every camera's verdict.

After each step the night's checkpoint is written: the global head so far (an average, never a camera's own), or the
version that was made. A server that restarts in mid-night starts another ServerApp for the same night, which goes on
from there. What must happen once, signing a version, is seen from the shelf: a version with the very head is not
made twice.
"""

from __future__ import annotations

import base64
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from appliance.errors import NightError, SitecamError
from appliance.models.head import Head
from appliance.models.manifest import Manifest, Part
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from appliance.models.verdict import Verdict
from appliance.store.features import FeatureCache
from appliance.store.frames import FrameStore
from appliance.store.locks import held
from server.asking import limit_pulls
from server.config import CONFIG_VARIABLE, ServerSettings, load
from server.deploying import Deployer
from server.gate import GateVerdict, LabelScores, judge, score
from server.paths import ServerPaths
from server.publish import publish
from server.registry import ONLY_DEPLOY, ModelRecord, Registry, RoundRecord
from server.roll import Roll
from server.roster import Roster
from server.strategy import Aggregator
from server.training import Training
from server.window import Window
from trainer.features import Backbone, examples
from trainer.head import Examples

logger = logging.getLogger(__name__)

_LEAST_ROUND_S = 5.0  # with less left of the window, no further round is begun

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Flower's entry: hold the night that the run's settings name, or go on with it."""
    settings = load(Path(os.environ[CONFIG_VARIABLE]))
    paths = ServerPaths(settings.state_dir)
    logging.basicConfig(filename=paths.flower / "night.log", level=logging.INFO)
    limit_pulls()
    night = int(str(context.run_config["night"]))
    paths.serving.mkdir(parents=True, exist_ok=True)
    with held(paths.serving):  # waits for an earlier night's last words, and tells server/night.py who is at it
        registry = Registry(paths.registry)
        if registry.night(night).outcome is not None:
            return
        try:
            Night(grid, settings, paths, night=night).run()
        except SitecamError as error:
            registry.end(night, "failed", str(error), {})
            raise


@dataclass
class Progress:
    """What is known of a night so far; becomes its figures in the registry."""

    rounds: list[dict[str, Any]] = field(default_factory=list)
    cameras: dict[str, dict[str, Any]] = field(default_factory=dict)
    server: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
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
        self._rules = settings.night
        self._paths = paths
        self._id = night
        self._registry = Registry(paths.registry)
        self._roster = Roster(paths.registry)
        record = self._registry.night(night)
        self._name = record.name
        self._checkpoint = self._registry.checkpoint(night)
        self._progress = Progress(**self._checkpoint.get("progress", {}))
        self._window = Window(record.began_utc, self._rules.window_s)
        self._aggregator = Aggregator(settings)
        self._shelf = Shelf(paths.models, load_public_key(paths.signing_public.read_bytes()))
        self._roll = Roll(grid, self._registry, self._roster, night, self._note)
        self._deployer = Deployer(
            grid,
            self._shelf,
            self._registry,
            self._roll,
            night,
            self._window,
            self._rules.verdict_deadline_s,
            self._note,
        )
        self._manifest = self._running()
        self._training = Training(
            grid, self._rules, self._aggregator, self._registry, self._roll, night, self._manifest, self._note
        )

    def run(self) -> None:
        """Hold the night. However it goes, it ends in the registry with an outcome and a sentence.

        Only a process that is killed, or loses its SuperLink, leaves it open: then the next one goes on with it.
        """
        try:
            outcome, sentence = self._hold()
        except httpx.HTTPError:
            logger.exception("The SuperLink is away")
            raise
        except Exception as error:
            outcome, sentence = "failed", _why(error)
            logger.exception("The night failed")
        self._training.settle(self._roster)
        for node, status in self._roll.statuses.items():
            frames = {"train_frames": dict(status.train_frames), "test_frames": dict(status.test_frames)}
            figures = self._progress.cameras.setdefault(self._roll.names[node], {})
            figures |= {"version_before": status.version, **frames}
        self._note(f"The night ends: {outcome}")
        self._registry.end(self._id, outcome, sentence, vars(self._progress))
        self._deployer.close()

    # The steps

    def _hold(self) -> tuple[str, str]:
        self._aggregator.check(self._training.least)  # before anybody is waited for
        own = self._server_examples()
        running = Head.from_bytes(self._shelf.part(self._manifest.parts["head"]))
        before = score(running, own, self._manifest.labels)
        if self._checkpoint.keys() - {ONLY_DEPLOY}:
            self._note("The server restarted; the night goes on where it stood")
        with self._timed("quorum"):
            quorum = max(self._rules.quorum, self._training.least)
            self._wait_for(quorum)
        made = self._checkpoint.get("version")
        if made is not None:
            return self._publish(self._shelf.manifest(made))
        if self._checkpoint.get(ONLY_DEPLOY):
            return self._deploy_only()
        if len(self._training.ready()) < quorum:
            self._bring_up_to_date()
            return "no quorum", self._no_quorum(quorum)
        head, after = self._rounds(running, own, before)
        self._progress.server = {
            "frames": after.total,
            "rounds": len([r for r in self._progress.rounds if r["round"]]),
            "accuracy_before": before.accuracy,
            "accuracy_after": after.accuracy,
        }
        with self._timed("evaluate"):
            gate = self._gate(head, before, after)
        if not gate.passed:
            self._bring_up_to_date()
            return "kept", f"Version {self._manifest.version} stays: the new model is {gate.reason}"
        self._note(f"Gate passed: {gate.reason}")
        return self._publish(self._make(head, after, gate))

    def _wait_for(self, quorum: int) -> None:
        """Wait until every camera of the fleet said how it is, or the quorum's deadline passes."""
        fleet = self._roll.fleet
        held_ones = [camera.name for camera in fleet.values() if camera.held_utc]
        on_hold = f" (on hold: {', '.join(held_ones)})" if held_ones else ""
        self._note(f"Waiting for {quorum} of {len(fleet)} cameras{on_hold}")
        deadline_s = self._window.within(self._rules.quorum_deadline_s)
        self._roll.wait(lambda: self._roll.complete, deadline_s)

    def _rounds(self, running: Head, own: Examples, before: LabelScores) -> tuple[Head, LabelScores]:
        head, after, first = running, before, 1
        if "head" in self._checkpoint:
            head = Head.from_bytes(base64.b64decode(self._checkpoint["head"]))
            after = score(head, own, self._manifest.labels)
            first = int(self._checkpoint["round"]) + 1
        elif self._rules.exact_start and self._manifest.night is None and not running.hidden_units:
            head, after = self._exact_start(running, own)
        reserve_s = self._rules.round_deadline_s / 2 + self._rules.verdict_deadline_s
        with self._timed("rounds"):
            for number in range(first, self._rules.rounds + 1):
                if self._window.left_s - reserve_s < _LEAST_ROUND_S and number > 1:
                    self._note(f"The night's window leaves no time for round {number}")
                    break
                began, clock = datetime.now(UTC), time.monotonic()
                self._roll.look()
                deadline_s = self._window.within(self._rules.round_deadline_s, reserve_s=reserve_s)
                held_round = self._training.round(number, head, deadline_s=deadline_s)
                head = held_round.head
                after = score(head, own, self._manifest.labels)
                self._progress.rounds.append(
                    {
                        "round": number,
                        "examples": dict(held_round.examples),
                        "left_out": dict(held_round.left_out),
                        "accuracy": after.accuracy,
                    }
                )
                used = len(held_round.examples)
                self._keep_round(number, began, clock, self._aggregator.name, held_round.asked, used, after)
                self._save(round=number, head=base64.b64encode(head.to_bytes()).decode())
                self._note(f"Round {number} of {self._rules.rounds}: {_on_frames(after)}")
        return head, after

    def _exact_start(self, running: Head, own: Examples) -> tuple[Head, LabelScores]:
        began, clock = datetime.now(UTC), time.monotonic()
        try:
            head, asked, used = self._training.start(
                running, deadline_s=self._window.within(self._rules.round_deadline_s)
            )
        except NightError as error:
            self._note(f"No exact start: {error}")
            return running, score(running, own, self._manifest.labels)
        after = score(head, own, self._manifest.labels)
        self._keep_round(0, began, clock, "class means", asked, used, after)
        self._note(f"Exact start from {used} cameras' class means: {_on_frames(after)}")
        return head, after

    def _keep_round(
        self, number: int, began: datetime, clock: float, strategy: str, asked: int, used: int, after: LabelScores
    ) -> None:
        epsilon = self._aggregator.epsilon(self._registry.noisy_rounds() + 1) if number else None
        if epsilon is not None:
            self._note(f"Noise was added: epsilon {epsilon:.2f} since the fleet began")
        record = RoundRecord(
            round=number,
            seconds=round(time.monotonic() - clock, 2),
            strategy=strategy,
            asked=asked,
            used=used,
            frames=after.total,
            correct=after.correct,
            loss=after.loss,
            epsilon=epsilon,
            began_utc=began.isoformat(timespec="seconds"),
        )
        self._registry.put_round(self._id, record)

    def _gate(self, head: Head, before: LabelScores, after: LabelScores) -> GateVerdict:
        deadline_s = self._window.within(self._rules.round_deadline_s, reserve_s=self._rules.verdict_deadline_s)
        tallies = self._training.test(head, deadline_s=deadline_s)
        for name, tally in tallies.items():
            if tally.frames:
                self._progress.cameras.setdefault(name, {}).update(
                    accuracy_before=tally.before / tally.frames, accuracy_after=tally.after / tally.frames
                )
        verdict = judge(before, after, list(tallies.values()), margin=self._rules.margin)
        self._progress.gate = verdict.figures()
        return verdict

    def _make(self, head: Head, after: LabelScores, gate: GateVerdict) -> Manifest:
        """Sign the new version, or find it signed already by a process that was killed right after."""
        digest = Part.of(head.to_bytes()).sha256
        newest = self._shelf.manifest(self._shelf.highest) if self._shelf.highest in self._shelf.versions() else None
        with self._timed("publish"):
            nights = {model.version: model.night for model in self._registry.models()}
            ours = newest is not None and nights.get(newest.version, self._id) == self._id
            if newest and ours and newest.night == self._name and newest.parts["head"].sha256 == digest:
                manifest = newest
            else:
                metrics: Mapping[str, float] = {"server_accuracy": after.accuracy, "server_frames": after.total}
                manifest = publish(self._paths, self._shelf, self._manifest, head, night=self._name, metrics=metrics)
            first = self._rules.canary == "always" or (self._rules.canary == "unsure" and gate.outcome == "cannot tell")
            self._keep_model(manifest, "canary" if first else "published", gate.reason)
            self._save(version=manifest.version, canary=first, reason=gate.reason)
        return manifest

    def _publish(self, manifest: Manifest) -> tuple[str, str]:
        """Take a signed version to the cameras: to one first where the gate asks for it, then to all."""
        version, parent = manifest.version, self._manifest.version
        if manifest.version == parent:  # it was activated already when the server restarted
            parent = manifest.parent or parent
        reason = str(self._checkpoint.get("reason", ""))
        self._note(f"Version {version} is signed and on its way")
        with self._timed("publish"):
            if self._checkpoint.get("canary"):
                refusal = self._try_canary(version)
                if refusal:
                    self._keep_model(manifest, "withdrawn", refusal)
                    self._bring_up_to_date()
                    return "refused", f"Version {parent} stays: {refusal}"
                self._keep_model(manifest, "published", reason)
                self._save(canary=False)
            self._shelf.activate(version)
            verdicts = self._deployer.deploy(version, self._roll.statuses)
        for node, camera in self._roll.fleet.items():
            if node not in verdicts:
                self._registry.put_verdict(self._id, camera.name, version, None)
        accepted = sum(verdict.accepted for verdict in verdicts.values())
        refused = [verdict for verdict in verdicts.values() if verdict.quarantined]
        if refused and not accepted:
            self._shelf.activate(parent)
            why = f"all {len(refused)} cameras that could judge it refused it: {refused[0].reason}"
            self._keep_model(manifest, "withdrawn", why)
            return "refused", f"Version {parent} stays: {why}"
        return "published", f"Version {version} runs on {accepted} of {len(self._roll.fleet)} cameras"

    def _try_canary(self, version: int) -> str:
        """Give one camera the version first; why it must not go to the others, or nothing."""
        candidates = sorted(
            self._roll.statuses, key=lambda node: sum(self._roll.statuses[node].test_frames.values()), reverse=True
        )
        for node in candidates:  # the one with the most test frames can judge best
            self._note(f"{self._roll.names[node]} tries version {version} first")
            verdict: Verdict | None = self._deployer.deploy(version, [node]).get(node)
            if verdict is not None and verdict.final:
                return "" if verdict.accepted else f"{self._roll.names[node]} tried it first: {verdict.reason}"
            if self._window.left_s < self._rules.verdict_deadline_s:
                break
        return "no camera could try it first tonight"

    def _bring_up_to_date(self) -> None:
        """Cameras that missed an earlier night get what runs."""
        self._deployer.deploy(self._manifest.version, self._roll.behind(self._manifest.version))

    def _deploy_only(self) -> tuple[str, str]:
        """A night that trains nothing: cameras that run something older get what runs."""
        version = self._manifest.version
        behind = self._roll.behind(version)
        verdicts = self._deployer.deploy(version, behind)
        taken = sum(verdict.accepted for verdict in verdicts.values())
        return (
            "deployed",
            f"Nothing was trained. Version {version} was taken to {taken} of {len(behind)} cameras behind it",
        )

    def _no_quorum(self, quorum: int) -> str:
        by = f" ({self._aggregator.name} means nothing with fewer)" if quorum > self._rules.quorum else ""
        ready = len(self._training.ready())
        absence = self._roll.absence(self._training.backbone, self._rules.min_examples)
        return f"{ready} of the {quorum} cameras that a night needs{by} were ready. {absence}"

    # Small things

    def _running(self) -> Manifest:
        version = self._shelf.current
        if version is None:
            raise NightError("The server has no model", do="Run sitecam-server init")
        return self._shelf.manifest(version)

    def _server_examples(self) -> Examples:
        manifest = self._manifest

        def backbone() -> Backbone:
            return Backbone(self._shelf.part(manifest.parts["backbone"]), manifest.input, threads=2)

        with (
            self._timed("server features"),
            FrameStore(self._paths.store) as store,
            FeatureCache(self._paths.store) as cache,
        ):
            return examples(store, cache, manifest, backbone, split="test", variants=1)

    def _keep_model(self, manifest: Manifest, outcome: str, reason: str) -> None:
        metrics = dict(manifest.metrics)
        parent = manifest.parent or 0
        self._registry.put_model(ModelRecord(manifest.version, self._id, parent, outcome, reason, metrics))

    def _save(self, **state: Any) -> None:
        self._checkpoint |= {**state, "progress": vars(self._progress)}
        self._registry.put_checkpoint(self._id, self._checkpoint)

    def _note(self, text: str) -> None:
        logger.info("%s", text)
        self._registry.note(self._id, text)

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        seconds = self._progress.seconds
        seconds[part] = round(seconds.get(part, 0.0) + time.monotonic() - began, 2)


def _why(error: Exception) -> str:
    if isinstance(error, SitecamError):
        return str(error)
    if isinstance(error, OSError):
        return f"The server's disk or network refused ({error}). Nothing was published that isn't whole."
    return f"The server made a mistake of its own ({error!r}). Nothing was published that isn't whole."


def _on_frames(scores: LabelScores) -> str:
    if not scores.total:
        return "the server has no test frames"
    return f"{scores.accuracy:.1%} on the server's {scores.total} test frames ({scores.text()})"
