"""What the cameras compute together: the exact start, a round, and the test on their own frames."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from appliance.errors import NightError
from appliance.judge import Tally
from appliance.models.head import Head
from appliance.models.manifest import Manifest
from server.asking import ask
from server.config import NightSettings
from server.registry import Registry, ReplyRecord
from server.replies import TestReply, TrainReply, check_means, check_test, check_train, too_large
from server.roll import Roll
from server.roster import Roster
from server.start import head_from_means
from server.strategy import Aggregator
from trainer import messages
from trainer.means import ClassMeans

_LOT = random.SystemRandom()
Checked = TypeVar("Checked")


@dataclass(frozen=True)
class Round:
    """What a round came to.

    Attributes:
        head: The new global one.
        asked: Cameras.
        examples: Frames by camera whose reply was used.
        left_out: Why the others' was not, by camera.
    """

    head: Head
    asked: int
    examples: Mapping[str, int]
    left_out: Mapping[str, str]


class Training:
    """The questions of one night that a camera has to compute for.

    Args:
        grid: Flower's.
        rules: The night's.
        aggregator: How replies become one head.
        registry: Where what became of every reply is kept.
        roll: Who is here.
        night: The night's id.
        manifest: Of the version that runs.
        note: Told what happens, in sentences.
    """

    def __init__(
        self,
        grid: Grid,
        rules: NightSettings,
        aggregator: Aggregator,
        registry: Registry,
        roll: Roll,
        night: int,
        manifest: Manifest,
        note: Callable[[str], None],
    ) -> None:
        self._grid, self._rules, self._aggregator = grid, rules, aggregator
        self._registry, self._roll, self._night, self._note = registry, roll, night, note
        self._manifest = manifest
        self._name = registry.night(night).name
        self.bad: set[str] = set()  # cameras that sent something tonight that could not be used
        self.good: set[str] = set()

    @property
    def backbone(self) -> str:
        """SHA-256 of the backbone that features must come from."""
        return self._manifest.parts["backbone"].sha256

    @property
    def least(self) -> int:
        """Replies below which a round makes no model."""
        return max(self._rules.min_replies, self._aggregator.minimum)

    def ready(self) -> list[int]:
        """Nodes that can train now."""
        return self._roll.ready(self.backbone, self._rules.min_examples)

    def _chosen(self) -> list[int]:
        """Those who are asked now: all that are ready, or so many of them, by lot."""
        ready, most = self.ready(), self._rules.cameras_per_round
        return ready if len(ready) <= most else _LOT.sample(ready, most)

    def start(self, running: Head, *, deadline_s: float) -> tuple[Head, int, int]:
        """The exact start: one question, and a head from every label's mean features.

        Returns:
            The head, cameras asked, replies used.

        Raises:
            NightError: Too few replies, or a label that no camera has.
        """
        labels, width = len(self._manifest.labels), self._manifest.feature_count

        def check(reply: Message) -> ClassMeans:
            return check_means(reply, labels, width, max_examples=self._rules.max_examples)

        kind = f"{MessageType.QUERY}.{messages.MEANS}"
        asked = self._chosen()
        means, _ = self._ask(kind, RecordDict({messages.CONFIG: self._config(0)}), asked, 0, "means", deadline_s, check)
        self._enough(means, "The exact start")
        self._registry.put_replies(self._night, [ReplyRecord(0, "means", name, used=True) for name in means])
        return head_from_means(list(means.values()), running), len(asked), len(means)

    def round(self, number: int, head: Head, *, deadline_s: float) -> Round:
        """One round; the cameras whose replies can't be used cost only themselves.

        Raises:
            NightError: Too few usable replies.
        """
        config = self._config(number)
        for key, value in self._aggregator.train_config().items():
            config[key] = value
        config["epochs"], config["rate"] = self._rules.epochs, self._rules.rate
        config["smoothing"] = self._rules.smoothing
        content = RecordDict({messages.ARRAYS: messages.head_record(head), messages.CONFIG: config})

        def check(reply: Message) -> TrainReply:
            return check_train(
                reply, head, max_examples=self._rules.max_examples, min_examples=self._rules.min_examples
            )

        asked = self._chosen()
        found, left_out = self._ask(MessageType.TRAIN, content, asked, number, "train", deadline_s, check)
        norms = {} if self._aggregator.noisy else {name: reply.norm for name, reply in found.items()}
        large = too_large(norms, self._rules.norm_multiple)
        for name, why in large.items():
            self._refuse(number, "train", name, why, bad=True)
            left_out[name] = why
        used = {name: reply for name, reply in found.items() if name not in large}
        self._enough(used, f"Round {number}")
        self._registry.put_replies(
            self._night,
            [
                ReplyRecord(number, "train", name, True, False, "", reply.examples, reply.loss, reply.norm)
                for name, reply in used.items()
            ],
        )
        self.good |= set(used)
        aggregate = self._aggregator.aggregate(number, head, used)
        return Round(aggregate, len(asked), {name: reply.examples for name, reply in used.items()}, left_out)

    def test(self, head: Head, *, deadline_s: float) -> dict[str, Tally]:
        """How the new head and the one that each camera runs do on that camera's own test frames."""
        config = self._config(self._rules.rounds)
        content = RecordDict({messages.ARRAYS: messages.head_record(head), messages.CONFIG: config})

        def check(reply: Message) -> TestReply:
            return check_test(reply, max_examples=self._rules.max_examples)

        tested, _ = self._ask(
            MessageType.EVALUATE, content, self._chosen(), self._rules.rounds, "test", deadline_s, check
        )
        self._registry.put_replies(
            self._night,
            [
                ReplyRecord(self._rules.rounds, "test", name, used=True, examples=reply.frames)
                for name, reply in tested.items()
            ],
        )
        return {name: reply.tally for name, reply in tested.items()}

    def settle(self, roster: Roster) -> None:
        """The night is over: count it for those who sent rubbish; too many in a row put a camera on hold."""
        names = {camera.name for camera in roster.cameras()}
        for name in sorted((self.bad | self.good) & names):
            bad = name in self.bad
            nights = roster.count_night(name, bad=bad)
            if bad and nights >= self._rules.bad_nights:
                why = f"its replies could not be used in {nights} nights in a row"
                roster.hold(name, why)
                roster.note("night", f"{name} is on hold: {why}")
                self._note(f"{name} is on hold until somebody has looked at it: {why}")

    # Inside

    def _config(self, number: int) -> ConfigRecord:
        return ConfigRecord(
            {
                "round": number,
                "rounds": self._rules.rounds,
                "version": self._manifest.version,
                "backbone": self.backbone,
                "labels": list(self._manifest.labels),
                "night": self._name,  # as it stands in the manifest of the version that comes of it
            }
        )

    def _ask(
        self,
        message_type: str,
        content: RecordDict,
        nodes: list[int],
        number: int,
        kind: str,
        deadline_s: float,
        check: Callable[[Message], Checked],
    ) -> tuple[dict[str, Checked], dict[str, str]]:
        """Ask, check every reply; (what passed, why the others did not), by camera."""
        answers = ask(
            self._grid,
            dict.fromkeys(nodes, content),
            message_type,
            group=f"{kind} {number}",
            deadline_s=deadline_s,
            meanwhile=self._roll.look,
        )
        passed: dict[str, Checked] = {}
        left_out: dict[str, str] = {}
        for node, reply in answers.replies.items():
            name = self._roll.names[node]
            if node not in self._roll.fleet:
                left_out[name] = "it was revoked meanwhile"
                continue
            try:
                passed[name] = check(reply)
            except NightError as error:
                left_out[name] = str(error).rstrip(".")
                self._refuse(number, kind, name, left_out[name], bad=not reply.has_error())
        for node, why in answers.missing.items():
            left_out[self._roll.names[node]] = why
            self._refuse(number, kind, self._roll.names[node], why, bad=False)
        return passed, left_out

    def _refuse(self, number: int, kind: str, name: str, why: str, *, bad: bool) -> None:
        what = {"means": "The exact start", "train": f"Round {number}", "test": "The test"}[kind]
        self._note(f"{what} goes on without {name}: {why}")
        self._registry.put_replies(self._night, [ReplyRecord(number, kind, name, used=False, bad=bad, reason=why)])
        if bad:
            self.bad.add(name)

    def _enough(self, replies: Mapping[str, object], what: str) -> None:
        if len(replies) < self.least:
            raise NightError(
                f"{what} got {len(replies)} usable replies, fewer than the {self.least} that"
                f" {'night.min_replies' if self.least > self._aggregator.minimum else self._aggregator.name} asks for",
                means="Tonight ends without a new model",
                do="Look at what each camera said above",
            )
