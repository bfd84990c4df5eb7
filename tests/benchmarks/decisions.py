"""Counts false alarms where nobody is, and bare heads missed, for a bare arg-max and for each rule added to it.

Every row sees the same films through the same parts: vision.prepare, the backbone by LiteRT, a head trained by
trainer.head, then Decider and Alarm. The films are stills made live (tests/benchmarks/scenes.py), so "an hour" is an
hour of standing pictures, each for some seconds: good for comparing rows, no forecast for a site.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from appliance.alarm import Alarm
from appliance.calibration import rules_from
from appliance.config import AlarmSettings, ModelSettings
from appliance.decide import Decider
from appliance.events import Event
from appliance.familiarity import Known
from appliance.frame import Frame, Pixels, Prediction
from appliance.models.head import Array, Head
from appliance.vision import InputSpec
from datasets.emoji import find_font
from server.backbone import resolve, trainer_part
from server.config import NightSettings
from tests.benchmarks.scenes import Kind, Material, Still, film, folds, gather, taught
from trainer.features import Backbone, augment
from trainer.head import Examples, Recipe, train

LABELS = ("head", "hardhat", "nobody")
KINDS: tuple[Kind, ...] = ("site", "unrelated", "hardhat", "head")
FOLDS = 5

_SPEC = InputSpec(160, 160, "fit-shortest")
_CACHE = Path(__file__).resolve().parents[2] / ".sitecam" / "cache"
_COMPARED_SMOOTHING = 0.1
_PER_HOUR = 5  # frames that learn-empty brings of a place at one hour; with the people they fit the bank of 512

Trained = Literal["two", "three", "smoothed", "no nobody"]


@dataclass(frozen=True)
class Row:
    """One way of deciding.

    Attributes:
        name: For people.
        head: Which head judges.
        floor: Whether a label needs a score above the threshold.
        familiar: Whether unfamiliar frames are unsure.
        votes: Whether an alarm needs k of n; else every run of ``head`` is one.
    """

    name: str
    head: Trained
    floor: bool = False
    familiar: bool = False
    votes: bool = False


ROWS = (
    Row("arg-max, two labels", "two"),
    Row("arg-max, three labels", "three"),
    Row("the same, smoothed (not kept)", "smoothed"),
    Row("three labels + threshold", "three", floor=True),
    Row("+ familiarity", "three", floor=True, familiar=True),
    Row("+ k of n votes (ours)", "three", floor=True, familiar=True, votes=True),
    Row("no nobody frames: threshold alone", "no nobody", floor=True),
    Row("no nobody frames: ours", "no nobody", floor=True, familiar=True, votes=True),
)


@dataclass
class Count:
    """What a row did with films of one kind.

    Attributes:
        films: How many there were.
        hours: Their length.
        alarms: Events that began.
        alarmed: Films with at least one.
        unsure: Share of decisions without a label, summed over films.
    """

    films: int = 0
    hours: float = 0.0
    alarms: int = 0
    alarmed: int = 0
    unsure: float = 0.0


@dataclass(frozen=True, eq=False)
class Taught:
    """The features of a still as a camera learns from it.

    Attributes:
        still: Which.
        label: Its label.
        variants: float32 [frames, VARIANTS, features], for training.
        tested: float32 [frames, features], for testing.
    """

    still: Still
    label: str
    variants: Array
    tested: Array


@dataclass(frozen=True)
class Knobs:
    """What the measurement turns.

    Attributes:
        sure_above: The floor.
        smoothing: Of the targets.
        alarm: Votes.
    """

    sure_above: float = ModelSettings.sure_above
    smoothing: float = NightSettings.smoothing
    alarm: AlarmSettings = field(default_factory=AlarmSettings)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m tests.benchmarks decisions``."""
    parser.add_argument("--data", type=Path, help="pictures of people in class folders head and hardhat")
    parser.add_argument("--empty", type=Path, help="pictures without people; those of one inner folder are one place")
    parser.add_argument("--backbone", type=Path, help="a .tflite part or a Keras weights file (.h5)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--seconds", type=float, default=20, help="length of each still's film (%(default)s)")
    parser.add_argument("--fps", type=float, default=4, help="its rate (%(default)s)")
    parser.add_argument("--agree", type=int, default=AlarmSettings.agree, help="votes that must agree (%(default)s)")
    parser.add_argument("--of", type=int, default=AlarmSettings.of, help="of so many (%(default)s)")
    parser.add_argument(
        "--sure-above", type=float, default=ModelSettings.sure_above, help="score threshold (%(default)s)"
    )
    parser.add_argument("--smoothing", type=float, default=NightSettings.smoothing, help="of the targets (%(default)s)")
    parser.add_argument("--stills", type=int, default=0, help="at most so many of each kind (all)")


def run(options: argparse.Namespace) -> int:
    """Measure and print.

    Raises:
        SitecamError: Pictures, font or backbone are missing.
    """
    started = time.monotonic()
    backbone = Backbone(_backbone_part(options.backbone), _SPEC)
    material = gather(options.data, options.empty, find_font(), _CACHE, most=options.stills)
    knobs = Knobs(options.sure_above, options.smoothing, AlarmSettings(agree=options.agree, of=options.of))
    graphs = {count: trainer_part(1280, count, 0, _CACHE) for count in (2, 3)}
    bench = Bench(material, backbone.features, graphs, seconds=options.seconds, fps=options.fps)
    bench.learn(_say)
    counts = bench.measure(ROWS, knobs, _say)
    print(table(material, counts, options.seconds, knobs))
    print(f"Took {time.monotonic() - started:.0f} s.")
    if options.json:
        figures = {
            "origin": material.origin,
            "seconds": options.seconds,
            "fps": options.fps,
            "knobs": asdict(knobs),
            "rows": {row.name: {kind: asdict(counts[row.name][kind]) for kind in KINDS} for row in ROWS},
        }
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _backbone_part(given: Path | None) -> bytes:
    if given is not None and given.suffix == ".tflite":
        return given.read_bytes()
    return resolve(given, _CACHE, _say).graph


class Bench:
    """Stills, their features, and what each row makes of their films.

    Args:
        material: The stills.
        features: The backbone: uint8 [height, width, 3] to float32 [features].
        graphs: Training graphs by number of labels, 2 and 3.
        seconds: Length of a film.
        fps: Its rate.
    """

    def __init__(
        self,
        material: Material,
        features: Callable[[Pixels], Array],
        graphs: dict[int, bytes],
        *,
        seconds: float,
        fps: float,
    ) -> None:
        self.material = material
        self.seconds = seconds
        self._features = features
        self._graphs = graphs
        self._fps = fps
        self._folds = folds(material.people, FOLDS) | folds((*material.site, *material.unrelated), FOLDS)
        self._taught: list[Taught] = []

    def learn(self, say: Callable[[str], None]) -> None:
        """Compute the features of all that is taught."""
        for number, still in enumerate(self.material.people):
            if number % 50 == 0:
                say(f"Looking at people, {number} of {len(self.material.people)}")
            captured = taught(still, "train", 1)
            self._taught.append(self._as_taught(still, still.kind, captured, captured))
        for still in self.material.site:
            train_frames, test_frames = taught(still, "train", _PER_HOUR), taught(still, "test", _PER_HOUR)
            self._taught.append(self._as_taught(still, "nobody", train_frames, test_frames))

    def _as_taught(
        self, still: Still, label: str, train_frames: Sequence[Pixels], test_frames: Sequence[Pixels]
    ) -> Taught:
        variants = [[self._features(picture) for picture in augment(frame, _SPEC)] for frame in train_frames]
        return Taught(
            still, label, np.array(variants, np.float32), np.array([self._features(frame) for frame in test_frames])
        )

    def measure(self, rows: Sequence[Row], knobs: Knobs, say: Callable[[str], None]) -> dict[str, dict[Kind, Count]]:
        """Every row's counts by kind of film."""
        counts = {row.name: {kind: Count() for kind in KINDS} for row in rows}
        stills = (*self.material.people, *self.material.site, *self.material.unrelated)
        for fold in range(FOLDS):
            say(f"Fold {fold + 1} of {FOLDS}")
            deciders = {row.name: self.decider(row, knobs, fold) for row in rows}
            for still in stills:
                if self._folds[still.name] != fold:
                    continue
                frames, features = self.seen(still)
                for row in rows:
                    self._watch(row, deciders[row.name], knobs, frames, features, counts[row.name][still.kind])
        return counts

    def seen(self, still: Still) -> tuple[list[Frame], Array]:
        """A still's film, and float32 [frames, features]."""
        frames = list(film(still, round(self.seconds * self._fps), self._fps))
        return frames, np.array([self._features(frame.pixels) for frame in frames])

    def decider(self, row: Row, knobs: Knobs, fold: int) -> tuple[Decider, Head]:
        """The row's head, trained without a fold's people, and a decider with the rules that belong to it."""
        labels = LABELS[:2] if row.head == "two" else LABELS
        wanted = LABELS if row.head in ("three", "smoothed") else LABELS[:2]
        smoothing = {"two": 0.0, "smoothed": _COMPARED_SMOOTHING}.get(row.head, knobs.smoothing)
        known = [t for t in self._taught if t.label in wanted]
        testing = (fold + 1) % FOLDS
        nobody = [t for t in known if t.label == "nobody"]
        people = [t for t in known if t.label != "nobody"]
        learned = [t for t in people if self._folds[t.still.name] not in (fold, testing)] + nobody
        tested = [t for t in people if self._folds[t.still.name] == testing] + nobody
        examples = Examples(
            np.concatenate([t.variants for t in learned]),
            np.concatenate([np.full(len(t.variants), labels.index(t.label), np.int64) for t in learned]),
        )
        night = NightSettings()
        recipe = Recipe(epochs=night.rounds * night.epochs, rate=night.rate, smoothing=smoothing, seed=fold)
        untrained = Head.untrained(examples.features.shape[2], len(labels), 0, seed=1)
        head, _ = train(self._graphs[len(labels)], untrained, examples, recipe)
        decider = Decider(0.0)
        if row.floor:
            rules = rules_from(
                _known([(t, t.variants[:, 0]) for t in learned], "train"),
                _known([(t, t.tested) for t in tested], "test"),
                head,
                labels,
                sure_above=knobs.sure_above,
                familiar=row.familiar,
            )
            decider.use(1, rules)
        return decider, head

    def _watch(
        self,
        row: Row,
        judge: tuple[Decider, Head],
        knobs: Knobs,
        frames: Sequence[Frame],
        features: Array,
        count: Count,
    ) -> None:
        decider, head = judge
        labels = LABELS[: head.label_count]
        begun: list[Event] = []
        alarm = Alarm(knobs.alarm, lambda event: begun.append(event) if event.ended_utc is None else None)
        runs, unsure, before = 0, 0, False
        for frame, row_features, scores in zip(frames, features, head.scores(features), strict=True):
            prediction = Prediction(dict(zip(labels, scores.tolist(), strict=True)), 1, 0.0, row_features)
            decision = decider(prediction)
            alarm(frame, decision)
            says = decision.label == knobs.alarm.label
            runs += says and not before
            unsure += decision.label is None
            before = says
        alarms = len(begun) if row.votes else runs
        count.films += 1
        count.hours += self.seconds / 3600
        count.alarms += alarms
        count.alarmed += alarms > 0
        count.unsure += unsure / len(frames)


def _known(parts: Sequence[tuple[Taught, Array]], hour: str) -> Known:
    """What the feature cache would give of these frames; a place at another hour is another scene."""
    return Known(
        np.concatenate([rows for _, rows in parts]),
        tuple(each.label for each, rows in parts for _ in rows),
        tuple(f"{each.still.scene} {hour}" for each, rows in parts for _ in rows),
    )


def table(material: Material, counts: dict[str, dict[Kind, Count]], seconds: float, knobs: Knobs) -> str:
    """The figures for people, as Markdown."""
    alarm = knobs.alarm
    shown = next(iter(counts.values()))
    sizes = ", ".join(f"{shown[kind].films} {kind}" for kind in KINDS)
    setting = f"sure_above {knobs.sure_above}, smoothing {knobs.smoothing}, {alarm.agree} of {alarm.of} votes,"
    lines = [
        f"Stills made live ({seconds:.0f} s each: noise, drifting light, a shake of one pixel; nothing moves):",
        f"{material.origin}. Films: {sizes}.",
        f"{setting} quiet after {alarm.quiet_s:g} s.",
        "",
        "| decided by | alarms/h, the site empty | alarms/h, places never taught | alarms/h, hats only | heads found |",
        "|---|---|---|---|---|",
    ]
    for name, of_kind in counts.items():
        cells = [
            f"{count.alarms / count.hours:.0f} ({count.alarmed} of {count.films})" if count.films else "-"
            for count in (of_kind[kind] for kind in KINDS[:3])
        ]
        heads = of_kind["head"]
        cells.append(f"{heads.alarmed} of {heads.films} ({heads.alarmed / max(1, heads.films):.1%})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "In brackets: films with at least one alarm."]
    return "\n".join(lines)
