"""Holds the int8 backbone against the float32 one: size, time of a bare invoke, and what a head makes of each.

Both heads see the same frames, folds and seeds; near-identical pictures never lie on both sides of a fold. Time is
measured by turns, so that whatever else the machine does hits both alike. On x86 int8 need not be the faster one:
the ratio that matters is the one on a Pi.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from appliance import litert
from appliance.errors import DatasetError, PictureError, SitecamError
from appliance.models.head import Array, Head
from appliance.vision import InputSpec, read_picture
from datasets.emoji import find_font
from datasets.folders import labels_in, read_folders
from datasets.likeness import likeness, scenes, stacked
from datasets.samples import make_site
from server.backbone import representative_pictures, resolve, trainer_part
from server.config import NightSettings, Precision
from trainer.features import Backbone, augment
from trainer.head import Examples, Recipe, train

FOLDS = 5
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")

SPEC = InputSpec(160, 160, "fit-shortest")
_FEATURES = 1280
_CACHE = Path(__file__).resolve().parents[2] / ".sitecam" / "cache"
_WARM_UP, _TURNS = 20, 300

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Material:
    """The pictures as both backbones see them.

    Attributes:
        labels: In the order of the head's outputs.
        truth: intp [frames], index into labels.
        group: intp [frames]; near-identical pictures share a number.
        features: float32 [frames, VARIANTS, features] by precision; variant 0 is the frame as it is.
    """

    labels: tuple[str, ...]
    truth: Indices
    group: Indices
    features: dict[Precision, Array]


@dataclass(frozen=True)
class Side:
    """What one backbone came to.

    Attributes:
        size_bytes: Of the .tflite part.
        invoke_ms: Median of a bare invoke, one thread.
        invoke_p90_ms: Nine of ten take less.
        accuracy: Mean over seeds of the share of held-out frames named right, and its standard deviation.
        per_label: The same for each label's frames alone.
    """

    size_bytes: int
    invoke_ms: float
    invoke_p90_ms: float
    accuracy: tuple[float, float]
    per_label: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Result:
    """Both backbones side by side.

    Attributes:
        origin: Of the pictures, for people.
        backbone: Where the weights came from.
        representative: How many pictures int8 was shown.
        frames: How many there were.
        groups: How many scenes they make.
        seeds: Cross-validations.
        sides: By precision.
        time_ratio: int8's time over float32's: the median over turns.
        cosine: Mean over frames, between the two backbones' features.
        gain: Accuracy of int8 less that of float32 in the same seed: mean and standard deviation.
        disagree: Share of held-out frames that the two heads call differently: mean and standard deviation.
        only_right: Of those frames, how many each head alone had right, summed over seeds.
    """

    origin: str
    backbone: str
    representative: int
    frames: int
    groups: int
    seeds: int
    sides: dict[Precision, Side]
    time_ratio: float
    cosine: float
    gain: tuple[float, float]
    disagree: tuple[float, float]
    only_right: dict[Precision, int]


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m tests.benchmarks precision``."""
    parser.add_argument("--data", type=Path, help="labelled pictures in any layout that import reads (sample frames)")
    parser.add_argument("--backbone", type=Path, help="a Keras weights file of MobileNetV2 1.0 160, no top")
    parser.add_argument("--seeds", type=int, default=5, help="cross-validations (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there too")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 0, or the error's exit code where something needed is missing."""
    began = time.monotonic()
    try:
        result = measure(options.data or _sample_frames(), options.backbone, max(1, options.seeds))
    except SitecamError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(table(result))
    print(f"Took {time.monotonic() - began:.0f} s.")
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    return 0


def measure(data: Path, weights: Path | None, seeds: int) -> Result:
    """All figures for the pictures of one folder.

    Raises:
        SitecamError: Pictures, weights or TensorFlow are missing.
    """
    server = data / "dataset_server"
    pictures = representative_pictures(server if server.is_dir() else data, SPEC, _say)
    float32, int8 = resolve(weights, _CACHE, _say), resolve(weights, _CACHE, _say, pictures)
    parts: dict[Precision, bytes] = {"float32": float32.graph, "int8": int8.graph}
    times = dict(zip(PRECISIONS, _times_ms(parts), strict=True))
    material = gather(data, parts)
    predictions = [cross_validate(material, seed) for seed in range(seeds)]
    right = {
        precision: np.array([of_seed[precision] == material.truth for of_seed in predictions])
        for precision in PRECISIONS
    }
    apart = np.array([of_seed["float32"] != of_seed["int8"] for of_seed in predictions])
    accuracy = {precision: right[precision].mean(axis=1) for precision in PRECISIONS}
    return Result(
        origin=str(data),
        backbone=float32.origin,
        representative=len(pictures),
        frames=len(material.truth),
        groups=len(set(material.group.tolist())),
        seeds=seeds,
        sides={
            precision: Side(
                size_bytes=len(parts[precision]),
                invoke_ms=float(np.median(times[precision])),
                invoke_p90_ms=float(np.percentile(times[precision], 90)),
                accuracy=_mean_and_spread(accuracy[precision]),
                per_label={
                    label: _mean_and_spread(right[precision][:, material.truth == number].mean(axis=1))
                    for number, label in enumerate(material.labels)
                },
            )
            for precision in PRECISIONS
        },
        time_ratio=float(np.median(times["int8"] / times["float32"])),
        cosine=_cosine(*(material.features[precision][:, 0] for precision in PRECISIONS)),
        gain=_mean_and_spread(accuracy["int8"] - accuracy["float32"]),
        disagree=_mean_and_spread(apart.mean(axis=1)),
        only_right={precision: int((right[precision] & apart).sum()) for precision in PRECISIONS},
    )


def gather(data: Path, parts: dict[Precision, bytes]) -> Material:
    """Read every labelled picture below ``data``, whatever its folders say of train and test.

    Raises:
        DatasetError: See :func:`datasets.folders.read_folders`; or a label with fewer scenes than there are folds.
    """
    backbones = {precision: Backbone(part, SPEC) for precision, part in parts.items()}
    files = read_folders(data)
    features: dict[Precision, list[Array]] = {precision: [] for precision in parts}
    truth: list[str] = []
    hashes: list[bytes] = []
    for number, file in enumerate(files):
        if number % 100 == 0:
            _say(f"Features, {number} of {len(files)} pictures")
        try:
            pixels = read_picture(file.path)
        except PictureError as error:
            _say(f"left out: {error.what}")
            continue
        variants = augment(pixels, SPEC)
        for precision, backbone in backbones.items():
            features[precision].append(np.stack([backbone.features(picture) for picture in variants]))
        truth.append(file.label)
        hashes.append(likeness(pixels))
    labels = labels_in(files)
    group = scenes(stacked(hashes))
    for label in labels:
        found = len({scene for scene, of in zip(group.tolist(), truth, strict=True) if of == label})
        if found < FOLDS:
            raise DatasetError(
                f"{data} has {found} different scenes of {label!r}",
                means=f"They can't be spread over {FOLDS} folds",
                do="Give more pictures",
            )
    return Material(
        labels,
        np.array([labels.index(label) for label in truth], np.intp),
        group,
        {precision: np.stack(rows) for precision, rows in features.items()},
    )


def folds(material: Material, seed: int) -> Indices:
    """Which fold each frame is held out in: intp [frames].

    A scene lies in one fold whole, and every fold has as near as can be the same number of each label's frames:
    scenes go, the largest first and else in the seed's order, to the fold that has fewest of their label.
    """
    shuffled = np.random.default_rng(seed).permutation(np.unique(material.group))
    members = {int(scene): np.flatnonzero(material.group == scene) for scene in shuffled}
    filled = np.zeros((FOLDS, len(material.labels)), np.int64)
    fold = np.empty(len(material.group), np.intp)
    for frames in sorted(members.values(), key=len, reverse=True):
        label = int(np.bincount(material.truth[frames]).argmax())
        chosen = min(range(FOLDS), key=lambda number: (filled[number, label], filled[number].sum()))
        fold[frames] = chosen
        np.add.at(filled[chosen], material.truth[frames], 1)
    return fold


def cross_validate(material: Material, seed: int) -> dict[Precision, Indices]:
    """What each backbone's heads call the frames that they did not learn from: intp [frames], by precision."""
    fold = folds(material, seed)
    graph = trainer_part(_FEATURES, len(material.labels), 0, _CACHE)
    night = NightSettings()
    recipe = Recipe(night.rounds * night.epochs, night.rate, night.smoothing, seed)
    called = {precision: np.empty(len(fold), np.intp) for precision in material.features}
    for number in range(FOLDS):
        _say(f"Seed {seed + 1}, fold {number + 1} of {FOLDS}")
        learned, held_out = fold != number, fold == number
        for precision, features in material.features.items():
            examples = Examples(features[learned], material.truth[learned].astype(np.int64))
            untrained = Head.untrained(_FEATURES, len(material.labels), 0, seed=seed)
            head, _ = train(graph, untrained, examples, recipe)
            called[precision][held_out] = head.scores(features[held_out, 0]).argmax(axis=1)
    return called


def table(result: Result) -> str:
    """The figures for people, as Markdown."""
    sides = [result.sides[precision] for precision in PRECISIONS]
    rows = [
        ("backbone part", *(f"{side.size_bytes / 1e6:.2f} MB" for side in sides)),
        ("bare invoke, median", *(f"{side.invoke_ms:.2f} ms" for side in sides)),
        ("bare invoke, 9 of 10 below", *(f"{side.invoke_p90_ms:.2f} ms" for side in sides)),
        ("accuracy", *(_share(side.accuracy) for side in sides)),
        *(
            (f"accuracy on {label}", *(_share(side.per_label[label]) for side in sides))
            for label in result.sides["float32"].per_label
        ),
        ("right alone, of frames called differently", *(str(result.only_right[p]) for p in PRECISIONS)),
    ]
    heading = (
        f"{result.frames} frames in {result.groups} scenes of {result.origin}; weights: {result.backbone};\n"
        f"int8 was shown {result.representative} pictures. Accuracy: {FOLDS} folds of whole scenes, linear head,"
        f" mean and standard deviation over {result.seeds} seeds."
    )
    closing = (
        f"int8 against float32: time x {result.time_ratio:.2f} (one thread, this machine), accuracy"
        f" {result.gain[0] * 100:+.2f} points (± {result.gain[1] * 100:.2f}), other answer on"
        f" {_share(result.disagree)} of frames, features' cosine {result.cosine:.4f}."
    )
    body = [f"| | {' | '.join(PRECISIONS)} |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join([heading, "", *body, "", closing])


def _times_ms(parts: dict[Precision, bytes]) -> tuple[Array, ...]:
    """Milliseconds of each bare invoke, float32 [turns] for each part; in each turn all take one, in changing order."""
    picture = np.random.default_rng(0).integers(0, 256, (1, SPEC.height, SPEC.width, 3)).astype(np.float32)
    interpreters = [litert.load(part) for part in parts.values()]
    for interpreter in interpreters:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
    times = np.zeros((len(interpreters), _WARM_UP + _TURNS), np.float32)
    order = list(range(len(interpreters)))
    for turn in range(_WARM_UP + _TURNS):
        for number in order:
            began = time.perf_counter()
            interpreters[number].invoke()
            times[number, turn] = (time.perf_counter() - began) * 1000
        order.reverse()
    return tuple(times[:, _WARM_UP:])


def _sample_frames() -> Path:
    font = find_font()
    if font is None:
        raise DatasetError(
            "No colour emoji font was found",
            means="The sample frames are drawn from one",
            do="Install fonts-noto-color-emoji, or give pictures with --data",
        )
    root = _CACHE / "sample-1"
    make_site(font, root)
    return root


def _mean_and_spread(values: npt.NDArray[np.floating]) -> tuple[float, float]:
    return float(values.mean()), float(values.std())


def _share(value: tuple[float, float]) -> str:
    return f"{value[0]:.2%} (± {value[1] * 100:.2f})"


def _cosine(some: Array, others: Array) -> float:
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return float(((some * others).sum(axis=1) / lengths).mean())


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
