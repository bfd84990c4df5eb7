"""How well it does on pictures it has not seen: a new site first, then cross-validations, calibration and int8.

Near-identical pictures are one scene and never lie on both sides of a split, nor on two cameras. What runs is the
product's own preprocessing, variants, training graph, exact start and strategy; the tutorial's row is its recipe, on
the same graph. Files' shapes and sizes can give labels away: that is why a whole source is left out first.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from appliance import litert
from appliance.config import ModelSettings
from appliance.errors import NightError, PictureError
from appliance.models.head import Array
from appliance.vision import InputSpec, prepare, read_picture
from datasets.check import check
from datasets.emoji import find_font
from datasets.folders import read_folders
from server.backbone import resolve
from server.config import NightSettings
from tests.benchmarks import precision, rig
from tests.benchmarks.accuracy_measures import calibration_error, skewed, some_of, tempered, wilson
from tests.benchmarks.scenes import drawn_places
from tests.benchmarks.splits import Pictures, Split, by_label, even
from tests.benchmarks.strategies import CACHE, DATA, WEIGHTS, Bench, Figures, Way, pictures_of
from trainer.features import Backbone
from trainer.head import Examples

_OURS = Way("ours", NightSettings())
_POOLED = Way("pooled", NightSettings(strategy="fedavg", proximal=0.0))
_TUTORIAL = Way(
    "tutorial", NightSettings(rounds=6, epochs=20, rate=0.001, strategy="fedavg", proximal=0.0, exact_start=False)
)
_TUTORIAL_UNITS = 128
_SITE_CAMERAS = 3
_FRAMES = (0, 5, 15)  # of every label from the new site
_PLACES = 100
_NIGHTS = 3  # with the new site's frames
_UNSAFE = "head"  # a bare head that is called something else is the unsafe error


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m tests.benchmarks accuracy``."""
    parser.add_argument("--data", type=Path, default=DATA, help="labelled pictures in any layout that import reads")
    parser.add_argument("--backbone", type=Path, help="a Keras weights file of MobileNetV2 1.0 160, no top")
    parser.add_argument("--seeds", type=int, default=5, help="cross-validations (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there too")


def run(options: argparse.Namespace) -> int:
    """Measure and print.

    Raises:
        SitecamError: Pictures, weights or TensorFlow are missing.
    """
    began = time.monotonic()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    pictures, origin = pictures_of(options.data, options.backbone)
    bench = Bench(pictures, origin, max(1, options.seeds))
    print(f"{rig.machine_text()}\n{bench.title()}\n", flush=True)
    print("What speaks against trusting a score on these pictures (python -m datasets check):")
    for finding in check(options.data).findings:
        print(f"- {finding.sentence}")
    results: dict[str, object] = {}
    results["new site"] = new_site(bench)
    results["cross-validation"] = cross_validation(bench, options.data, options.backbone)
    results["without people"] = without_people(bench, options.backbone)
    int8 = precision.measure(options.data, options.backbone or _weights(), 2)
    print(f"\n## int8 against float32\n\n{precision.table(int8)}\n\nTook {time.monotonic() - began:.0f} s.")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def new_site(bench: Bench) -> dict[str, dict[str, float]]:
    """Everything but one source is learned from; the source is tested, then its first frames join night by night."""
    pictures, truth, group = bench.pictures, bench.pictures.material.truth, bench.pictures.material.group
    found: dict[str, dict[str, float]] = {}
    if not pictures.hard.any() or pictures.hard.all():
        print("\n## A new site\n\nThere is no second source in these pictures: no group of one size has every label.")
        return found
    print(f"\n## A new site\n\n{_SITE_CAMERAS} cameras have all other pictures; then a camera at the site joins.\n")
    unsafe = pictures.material.labels.index(_UNSAFE) if _UNSAFE in pictures.material.labels else 0
    name = pictures.material.labels[unsafe]
    print(f"| labelled frames per label there | accuracy | recall of {name} | pictures tested |\n|---|---|---|---|")
    inside = np.flatnonzero(pictures.hard & ~np.isin(group, group[~pictures.hard]))
    for each in _FRAMES:
        rights, recalls, tested = [], [], 0
        for seed in range(bench.seeds):
            generator = np.random.default_rng(seed)
            camera = even(_SITE_CAMERAS)(pictures, generator)
            cameras = {
                str(number): _examples(pictures, np.flatnonzero((camera == number) & ~pictures.hard))
                for number in range(_SITE_CAMERAS)
            }
            head = bench.night(_OURS, cameras, seed, Figures())
            local = some_of(inside, truth, group, each, generator) if each else np.array([], np.intp)
            for _ in range(_NIGHTS if each else 0):
                head = bench.night(_OURS, cameras | {"site": _examples(pictures, local)}, seed, Figures(), head=head)
            rows = inside[~np.isin(group[inside], group[local])]
            right = head.scores(pictures.features[rows, 0]).argmax(axis=1) == truth[rows]
            rights.append(float(right.mean()))
            recalls.append(float(right[truth[rows] == unsafe].mean()))
            tested = len(rows)
        print(f"| {each} | {_share(rights)} | {_share(recalls)} | {tested} |", flush=True)
        found[str(each)] = {"accuracy": float(np.mean(rights)), f"recall of {name}": float(np.mean(recalls))}
    return found


def cross_validation(bench: Bench, data: Path, weights: Path | None) -> dict[str, object]:
    """Ours against the tutorial's recipe, cameras alone, and all pictures in one place; and what the scores mean."""
    pictures = bench.pictures
    print(f"\n## Cross-validation\n\n5 folds, {bench.seeds} seeds.\n")
    labels = " | ".join(pictures.material.labels)
    print(f"| | all (95 % interval) | hard part | {labels} |\n|---|---|---|{'---|' * len(pictures.material.labels)}")
    rows: dict[str, object] = {}

    def row(name: str, figures: Figures) -> None:
        rows[name] = {"all": figures.all, "hard": figures.hard}
        print(f"| {name} | {_cells(pictures, figures)} |", flush=True)

    tutorial = Bench(_as_tutorial(pictures, data, weights), bench.origin, bench.seeds, _TUTORIAL_UNITS)
    row("tutorial's recipe, 2 cameras", tutorial.hold(_TUTORIAL, even(2)))
    row("pooled", bench.hold(_POOLED, even(1)))
    for cameras in (2, 5, 10):
        row(f"each of {cameras} cameras alone (mean)", _alone(bench, cameras))
    shown: Figures | None = None
    for name, split in _splits().items():
        try:
            figures = bench.hold(_OURS, split)
        except NightError as error:
            print(f"| ours, {name} | {error} | |")
            continue
        shown = shown or figures
        row(f"ours, {name}", figures)
    if shown:
        rows["calibration"] = _calibration(pictures, shown)
    return rows


def without_people(bench: Bench, weights: Path | None) -> dict[str, float]:
    """What a model that was never taught an empty place says of some, by its score alone."""
    font = find_font()
    if font is None:
        print("\nScenes without people: no emoji font to draw them with.")
        return {}
    pictures = bench.pictures
    everything = {"all": _examples(pictures, np.arange(len(pictures.material.truth)))}
    head = bench.night(_POOLED, everything, 0, Figures())
    backbone = Backbone(resolve(weights or _weights(), CACHE, lambda _: None).graph, precision.SPEC)
    places = [backbone.features(still.pixels) for still in drawn_places(font, _PLACES)]
    scores = head.scores(np.stack(places))
    sure = ModelSettings().sure_above
    shares = {
        label: float(((scores.argmax(axis=1) == number) & (scores.max(axis=1) > sure)).mean())
        for number, label in enumerate(pictures.material.labels)
    }
    said = ", ".join(f"{label} {share:.0%}" for label, share in shares.items())
    print(
        f"\nOf {_PLACES} drawn places without people, said with a score above {sure:g}: {said}. That is why sites teach"
        " their empty scenes, and why familiarity is asked too: `benchmarks decisions` has what that comes to."
    )
    return shares


def _splits() -> Mapping[str, Split]:
    return {
        **{f"{cameras} cameras, even": even(cameras) for cameras in (5, 2, 10)},
        **{f"{cameras} cameras, 90:10": skewed(cameras) for cameras in (2, 5, 10)},
        "one label per camera": by_label,
    }


def _alone(bench: Bench, cameras: int) -> Figures:
    """Every camera learns from its own frames only; each is tested on the fold that it has not seen."""
    pictures, truth = bench.pictures, bench.pictures.material.truth
    figures = Figures()
    for seed in range(bench.seeds):
        camera = even(cameras)(pictures, np.random.default_rng(seed))
        fold = precision.folds(pictures.material, seed)
        right = np.zeros((cameras, len(truth)))
        for number in range(precision.FOLDS):
            for one in range(cameras):
                mine = _examples(pictures, np.flatnonzero((camera == one) & (fold != number)))
                head = bench.night(_POOLED, {"alone": mine}, seed, Figures())
                held = fold == number
                right[one, held] = head.scores(pictures.features[held, 0]).argmax(axis=1) == truth[held]
        figures.all.append(float(right.mean()))
        figures.hard.append(float(right[:, pictures.hard].mean()) if pictures.hard.any() else float("nan"))
        per_label = [right[:, truth == label].mean() for label in range(len(pictures.material.labels))]
        figures.ratios += per_label
    return figures


def _calibration(pictures: Pictures, figures: Figures) -> dict[str, float]:
    truth, group = pictures.material.truth, pictures.material.group
    before = float(np.mean([calibration_error(scores, truth) for scores in figures.scores]))
    after = float(np.mean([calibration_error(tempered(scores, truth, group), truth) for scores in figures.scores]))
    print(f"\nCalibration error (ECE, 10 bins) of ours with 5 cameras: {before:.4f}; with a temperature: {after:.4f}.")
    return {"before": before, "after": after}


def _as_tutorial(pictures: Pictures, data: Path, weights: Path | None) -> Pictures:
    """The same pictures as the tutorial feeds them: squashed, 0 to 255 where the network wants -1 to 1, no variants."""
    graph = resolve(weights or _weights(), CACHE, lambda _: None).graph
    interpreter = litert.load(graph, threads=2)
    [source], [sink] = interpreter.get_input_details(), interpreter.get_output_details()
    spec = InputSpec(precision.SPEC.width, precision.SPEC.height, "squash")
    features: list[Array] = []
    for file in read_folders(data):
        try:
            picture = prepare(read_picture(file.path), spec).astype(np.float32)
        except PictureError:
            continue  # as for the others
        interpreter.set_tensor(source["index"], (picture[np.newaxis] + 1) * 127.5)  # the graph takes this back
        interpreter.invoke()
        features.append(np.array(interpreter.get_tensor(sink["index"]), np.float32))
    return Pictures(pictures.material, np.stack(features), pictures.hard)


def _weights() -> Path | None:
    return WEIGHTS if WEIGHTS.exists() else None


def _examples(pictures: Pictures, rows: precision.Indices) -> Examples:
    return Examples(pictures.features[rows], pictures.material.truth[rows].astype(np.int64))


def _cells(pictures: Pictures, figures: Figures) -> str:
    truth, count = pictures.material.truth, len(pictures.material.truth)
    low, high = wilson(float(np.mean(figures.all)) * count, count)
    if figures.scores:
        right = np.mean([scores.argmax(axis=1) == truth for scores in figures.scores], axis=0)
        labels = [float(right[truth == label].mean()) for label in range(len(pictures.material.labels))]
    else:
        labels = np.reshape(figures.ratios, (len(figures.all), -1)).mean(axis=0).tolist()
    interval = f"{_share(figures.all)} ({100 * low:.1f} to {100 * high:.1f})"
    return " | ".join([interval, _share(figures.hard), *(f"{100 * label:.1f}" for label in labels)])


def _share(values: list[float]) -> str:
    return f"{100 * np.mean(values):.2f} ± {100 * np.std(values):.2f}"
