"""Holds the ways to make one head of many against each other, on even and on skewed data, and prices the noise.

Every figure is a cross-validation: near-identical pictures never lie on both sides of a fold, nor on two cameras. What
runs is the product's own: trainer.head trains each camera's head on the real training graph, server.strategy makes one
of them, server.start begins. Only Flower's way between them is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance.errors import DatasetError, NightError, PictureError
from appliance.models.head import Array, Head
from appliance.vision import read_picture
from datasets.folders import read_folders
from server.backbone import resolve, trainer_part
from server.config import FleetSettings, NightSettings, PrivacySettings, ServerSettings
from server.privacy import epsilon
from server.replies import TrainReply, distance
from server.start import head_from_means
from server.strategy import Aggregator
from tests.benchmarks.precision import FOLDS, Indices, folds, gather
from tests.benchmarks.splits import SPLITS, Pictures, Split, even
from trainer.head import Examples, Recipe, train
from trainer.means import class_means

CACHE = Path(__file__).resolve().parents[2] / ".sitecam" / "cache"
_SHARED = Path(__file__).resolve().parents[3] / "shared"
DATA = _SHARED / "datasets" / "hardhat"
WEIGHTS = _SHARED / "models" / "mobilenet_v2_1.0_160_imagenet_no_top.weights.h5"
_ONE_HOME = ("512 x 512", "480 x 640", "640 x 480")  # of the tutorial's pictures: one person in few rooms
_LEAST_FRAMES = 2  # with fewer, a camera has nothing to say


@dataclass(frozen=True)
class Way:
    """One way to a head.

    Attributes:
        name: For people.
        night: Its settings.
        privacy: Its noise.
    """

    name: str
    night: NightSettings
    privacy: PrivacySettings = field(default_factory=PrivacySettings)


@dataclass
class Figures:
    """What came of a way on a split, one entry per seed.

    Attributes:
        all: Share of pictures named right.
        hard: The same, on the hard part.
        loss: Mean cross-entropy, nats.
        ratios: Largest norm of an update over the lower median, of every round of every fold.
        norms: Lower median of the updates' norms, of every round of every fold.
        scores: float32 [pictures, labels] of held-out pictures.
    """

    all: list[float] = field(default_factory=list)
    hard: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    scores: list[Array] = field(default_factory=list)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m tests.benchmarks strategies``."""
    parser.add_argument("--data", type=Path, help="labelled pictures in any layout that import reads")
    parser.add_argument("--backbone", type=Path, help="a Keras weights file of MobileNetV2 1.0 160, no top")
    parser.add_argument("--seeds", type=int, default=3, help="cross-validations (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--only", choices=sorted(PARTS), help="one table (all)")


def run(options: argparse.Namespace) -> int:
    """Measure and print.

    Raises:
        SitecamError: Pictures, weights or TensorFlow are missing.
    """
    began = time.monotonic()
    logging.getLogger("flwr").setLevel(logging.ERROR)  # it would tell of every round
    bench = Bench(*pictures_of(options.data, options.backbone), max(1, options.seeds))
    print(bench.title(), flush=True)
    results = {}
    for name in [options.only] if options.only else PARTS:
        text, figures = PARTS[name](bench)
        print(f"\n{text}", flush=True)
        results[name] = figures
    print(f"\nTook {time.monotonic() - began:.0f} s.")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


class Bench:
    """Pictures, and what a fleet learns from them.

    Args:
        pictures: All of them.
        origin: Where the backbone's weights are from.
        seeds: Cross-validations.
        hidden_units: Of the head.
    """

    def __init__(self, pictures: Pictures, origin: str, seeds: int, hidden_units: int = 0) -> None:
        self.pictures, self.origin, self.seeds, self._hidden_units = pictures, origin, seeds, hidden_units
        labels, width = len(pictures.material.labels), pictures.features.shape[2]
        self._graph = trainer_part(width, labels, hidden_units, CACHE)
        self._trained: dict[tuple[object, ...], tuple[Head, float]] = {}

    def title(self) -> str:
        """What was measured on."""
        material = self.pictures.material
        counts = ", ".join(f"{(material.truth == i).sum()} {label}" for i, label in enumerate(material.labels))
        return (
            f"{counts}; {len(np.unique(material.group))} scenes; {int(self.pictures.hard.sum())} pictures are the hard"
            f" part. Backbone: {self.origin}. {FOLDS} folds, {self.seeds} seeds."
        )

    def hold(self, way: Way, split: Split, *, late: bool = False) -> Figures:
        """All folds and seeds of one way on one split.

        Args:
            way: Strategy, budget, noise.
            split: Which camera has which picture.
            late: The first camera joins in the last round only; then ratios are its norm over the others' median.

        Raises:
            NightError: Too few cameras have something to say.
        """
        figures = Figures()
        truth = self.pictures.material.truth
        for seed in range(self.seeds):
            camera = split(self.pictures, np.random.default_rng(seed))
            fold = folds(self.pictures.material, seed)
            scores = np.zeros((len(truth), len(self.pictures.material.labels)), np.float32)
            for number in range(FOLDS):
                cameras = {
                    str(name): Examples(self.pictures.features[rows], truth[rows].astype(np.int64))
                    for name in np.unique(camera)
                    if len(rows := np.flatnonzero((camera == name) & (fold != number))) >= _LEAST_FRAMES
                }
                head = self.night(way, cameras, seed, figures, late=late)
                scores[fold == number] = head.scores(self.pictures.features[fold == number, 0])
            right = scores.argmax(axis=1) == truth
            likelihood = np.maximum(scores[np.arange(len(truth)), truth], 1e-12)
            figures.all.append(float(right.mean()))
            figures.hard.append(float(right[self.pictures.hard].mean()) if self.pictures.hard.any() else float("nan"))
            figures.scores.append(scores)
            figures.loss.append(float(-np.log(likelihood).mean()))
        return figures

    def night(
        self,
        way: Way,
        cameras: Mapping[str, Examples],
        seed: int,
        figures: Figures,
        *,
        late: bool = False,
        head: Head | None = None,
    ) -> Head:
        """One night of these cameras: the fleet's first one, or the next one after the one that made ``head``."""
        labels = len(self.pictures.material.labels)
        first, head = (
            head is None,
            head or Head.untrained(self.pictures.features.shape[2], labels, self._hidden_units, seed=seed),
        )
        settings = ServerSettings(Path(), FleetSettings("benchmark"), night=way.night, privacy=way.privacy)
        aggregator = Aggregator(settings)
        if way.night.exact_start and first:
            enough = [
                examples for examples in cameras.values() if np.bincount(examples.labels, minlength=labels).max() >= 5
            ]
            head = head_from_means([class_means(examples, labels) for examples in enough], head)
        newcomer = next(iter(cameras)) if late else None
        for number in range(1, way.night.rounds + 1):
            proximal = aggregator.train_config()["proximal"]
            here = {name: each for name, each in cameras.items() if name != newcomer or number == way.night.rounds}
            replies = {
                name: self._reply(name, examples, head, way.night, number, proximal, seed)
                for name, examples in here.items()
            }
            norms = sorted(reply.norm for name, reply in replies.items() if name != newcomer)
            median = norms[(len(norms) - 1) // 2]
            if newcomer is None:
                figures.ratios.append(norms[-1] / median)
            elif newcomer in replies:
                figures.ratios.append(replies[newcomer].norm / median)
            figures.norms.append(median)
            head = aggregator.aggregate(number, head, replies)
        return head

    def _reply(
        self, name: str, examples: Examples, head: Head, night: NightSettings, number: int, proximal: float, seed: int
    ) -> TrainReply:
        recipe = Recipe(night.epochs, night.rate, night.smoothing, number, proximal)
        # Strategies differ in what they make of the replies to round 1, not in these: they are computed once.
        rows = examples.features[:, 0, :8].tobytes()
        key = (name, seed, examples.labels.tobytes(), rows, head.to_bytes(), recipe)
        if key not in self._trained:
            self._trained[key] = train(self._graph, head, examples, recipe)
        trained, loss = self._trained[key]
        return TrainReply(len(examples), loss, trained, distance(trained, head))


_PLAIN = NightSettings(rounds=3, epochs=30, strategy="fedavg", proximal=0.0, exact_start=False)


def _with(**changes: object) -> NightSettings:
    return dataclasses.replace(_PLAIN, **changes)  # type: ignore[arg-type]  # keys are NightSettings' own


WAYS = (
    Way("FedAvg", _PLAIN),
    Way("FedProx 0.001", _with(strategy="fedprox", proximal=0.001)),
    Way("FedProx 0.01", _with(strategy="fedprox", proximal=0.01)),
    Way("FedProx 0.1", _with(strategy="fedprox", proximal=0.1)),
    Way("FedAdam 0.1", _with(strategy="fedadam", server_rate=0.1)),
    Way("FedAdam 0.01", _with(strategy="fedadam", server_rate=0.01)),
    Way("FedMedian", _with(strategy="fedmedian")),
    Way("FedTrimmedAvg 0.2", _with(strategy="fedtrimmedavg", trim=0.2)),
    Way("Krum, 1 malicious", _with(strategy="krum", malicious=1)),
    Way("exact start alone", _with(rounds=0, exact_start=True)),
    Way("exact start, FedAvg", _with(exact_start=True)),
    Way("exact start, FedProx 0.01", _with(strategy="fedprox", proximal=0.01, exact_start=True)),
)


def strategies(bench: Bench) -> tuple[str, object]:
    """Every way on every split."""
    results = {way.name: {name: _try(bench, way, split) for name, split in SPLITS.items()} for way in WAYS}
    text = _table("3 rounds of 30 epochs", results, lambda figures: f"{_share(figures.all)} / {_share(figures.hard)}")
    losses = _table("Their loss", results, lambda figures: f"{np.mean(figures.loss):.3f}")
    return f"{text}\nIn each cell: all pictures / the hard part.\n\n{losses}", _plain(results)


def budgets(bench: Bench) -> tuple[str, object]:
    """FedAvg and FedProx with other numbers of rounds and epochs."""
    results = {}
    for rounds, epochs in ((1, 30), (1, 90), (3, 10), (3, 30), (10, 9)):
        for name, changes in (("FedAvg", {}), ("FedProx 0.01", {"strategy": "fedprox", "proximal": 0.01})):
            way = Way(f"{name}, {rounds} x {epochs}", _with(rounds=rounds, epochs=epochs, **changes))
            results[way.name] = {split: _try(bench, way, SPLITS[split]) for split in SPLITS}
    text = _table("Rounds x epochs", results, lambda figures: f"{_share(figures.all)} / {_share(figures.hard)}")
    return text, _plain(results)


def norms(bench: Bench) -> tuple[str, object]:
    """How far honest updates lie apart: what night.norm_multiple must let through."""
    splits: dict[str, tuple[Split, bool]] = {name: (split, False) for name, split in SPLITS.items()}
    splits |= {f"{name}, one joins in round 3": (SPLITS[name], True) for name in SPLITS}
    lines = [
        "| split | norm of the lower median, from to | largest / lower median, mean | most |",
        "|---|---|---|---|",
    ]
    results = {}
    for name, (split, late) in splits.items():
        found = bench.hold(Way("FedAvg", _PLAIN), split, late=late)
        results[name] = asdict(found)
        middle, most = np.mean(found.ratios), np.max(found.ratios)
        lines.append(f"| {name} | {min(found.norms):.2f} to {max(found.norms):.2f} | {middle:.2f} | {most:.2f} |")
    return "\n".join(lines), results


def noise(bench: Bench) -> tuple[str, object]:
    """What noise costs. Epsilon after one night and after thirty, at the default delta."""
    delta = PrivacySettings().delta
    clippings, fleets = (0.3, 1.0), (5, 10, 50)
    lines = [
        f"| noise, clipping | epsilon, 3 rounds / 90 | {' | '.join(f'{cameras} cameras' for cameras in fleets)} |",
        f"|---|---|{'---|' * len(fleets)}",
    ]
    results = {}
    for multiplier, clipping in itertools.product((1e-9, 0.1, 0.3, 1.0), clippings):
        privacy = PrivacySettings(noise_multiplier=multiplier, clipping_norm=clipping)
        way = Way(f"noise {multiplier:g}, clipping {clipping:g}", _PLAIN, privacy)
        found = {f"{cameras} cameras": _try(bench, way, even(cameras)) for cameras in fleets}
        results[way.name] = found
        spent = [f"{epsilon(multiplier, rounds, delta):.3g}" if multiplier > 1e-6 else "none" for rounds in (3, 90)]
        cells = [_share(figures.all) if figures else "-" for figures in found.values()]
        shown = way.name if multiplier > 1e-6 else f"no noise, clipping {clipping:g}"
        lines.append(f"| {shown} | {' / '.join(spent)} | {' | '.join(cells)} |")
    return "\n".join(lines), _plain(results)


PARTS: Mapping[str, Callable[[Bench], tuple[str, object]]] = {
    "strategies": strategies,
    "budgets": budgets,
    "norms": norms,
    "noise": noise,
}


def _try(bench: Bench, way: Way, split: Split) -> Figures | None:
    """The figures; None where the way means nothing on so few cameras."""
    _say(way.name)
    try:
        return bench.hold(way, split)
    except NightError as error:
        _say(f"  {error}")
        return None


def _table(title: str, results: Mapping[str, Mapping[str, Figures | None]], cell: Callable[[Figures], str]) -> str:
    columns = list(next(iter(results.values())))
    lines = [f"| {title} | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name, row in results.items():
        cells = [cell(figures) if figures else "-" for figures in row.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _plain(results: Mapping[str, Mapping[str, Figures | None]]) -> object:
    return {
        name: {key: {**asdict(f), "scores": None} if f else None for key, f in row.items()}
        for name, row in results.items()
    }


def _share(values: Sequence[float]) -> str:
    return f"{100 * np.mean(values):.1f}±{100 * np.std(values):.1f}"


def pictures_of(data: Path | None, weights: Path | None) -> tuple[Pictures, str]:
    """Every labelled picture below a folder, with features of all variants; and where the backbone is from.

    Raises:
        SitecamError: Pictures, weights or TensorFlow are missing.
    """
    data = data or DATA
    if not data.is_dir():
        raise DatasetError(f"There is no folder {data}", do="Give labelled pictures with --data")
    backbone = resolve(weights or (WEIGHTS if WEIGHTS.exists() else None), CACHE, _say)
    material = gather(data, {"float32": backbone.graph})
    sizes = []
    for file in read_folders(data):
        try:
            sizes.append(read_picture(file.path).shape[:2])
        except PictureError:
            continue  # gather has told of it
    return Pictures(material, material.features["float32"], _hard(sizes, material.truth)), backbone.origin


def _hard(sizes: Sequence[tuple[int, ...]], truth: Indices) -> npt.NDArray[np.bool_]:
    found = np.array([f"{height} x {width}" for height, width in sizes])
    one_home = np.isin(found, _ONE_HOME)
    if (np.bincount(truth[one_home], minlength=truth.max() + 1) >= FOLDS).all():
        return one_home
    candidates = [found == size for size in np.unique(found)]
    whole = [chosen for chosen in candidates if (np.bincount(truth[chosen], minlength=truth.max() + 1) >= FOLDS).all()]
    if not whole:
        return np.zeros(len(truth), np.bool_)
    return np.asarray(np.any(whole, axis=0), np.bool_)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
