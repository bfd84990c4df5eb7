"""The camera's side of ``benchmarks night`` in processes of their own: a night's work, and work by number of frames.

``python -m tests.benchmarks.night_camera work CONFIG HEAD RECIPE ROUNDS``: looks at the frames of an enrolled camera,
then again with everything cached, then trains and tests ROUNDS times, each through the functions that its ClientApp
calls.

``python -m tests.benchmarks.night_camera frames FOLDER GRAPH MANIFEST COUNT RECIPE``: the same with COUNT synthetic
frames, whose features lie in a real cache and are read by the function that reads real ones.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, cast

import numpy as np

from appliance.config import load
from appliance.fleet import load_fleet
from appliance.models.head import Array, Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.paths import CameraPaths
from appliance.store.features import FeatureCache
from appliance.store.frames import FrameStore
from appliance.store.recipe import VARIANTS, recipe_name
from tests.benchmarks import rig
from tests.benchmarks.watch import measured
from trainer.client import Camera
from trainer.features import examples
from trainer.head import Recipe, evaluate, train

_CHUNK = 250  # synthetic frames made at once


def work(config: Path, head: Path, recipe: Recipe, rounds: int) -> dict[str, Any]:
    """A night's work of an enrolled camera, part by part.

    Args:
        config: Its sitecam.toml; its feature cache fills.
        head: Where to start.
        recipe: For every round.
        rounds: How many.
    """
    settings = load(config)
    paths = CameraPaths(settings.state_dir)
    shelf = Shelf(paths.models, load_fleet(paths.fleet).signing_key)
    camera = Camera(settings, paths, shelf, "benchmark", paths.root / "closing", threading.Event())
    graph = shelf.part(camera.current().parts["trainer"])
    given = Head.from_bytes(head.read_bytes())
    found: dict[str, Any] = {}

    def look() -> None:
        for split in ("train", "test"):
            found[split] = len(camera.examples(split))

    def fit() -> None:
        train(graph, given, camera.examples("train"), recipe)

    def test() -> None:
        known = camera.examples("test")
        evaluate(given, known), evaluate(given, known)  # the candidate and the head that runs

    _, cold = measured(look)
    _, warm = measured(look)
    fits, tests = ([measured(part)[1] for _ in range(rounds)] for part in (fit, test))
    return {
        "train_frames": found["train"],
        "test_frames": found["test"],
        "features_cold": cold,
        "features_warm": warm,
        "fit": fits,
        "evaluate": tests,
        "peak_rss_mb": rig.peak_rss_mb(os.getpid()),
    }


class SyntheticStore:
    """A store of labelled frames that have features and no pictures.

    Args:
        count: How many.
        labels: They take turns.
    """

    def __init__(self, count: int, labels: tuple[str, ...]) -> None:
        self._frames = [_Frame(f"{number:032x}", labels[number % len(labels)]) for number in range(count)]

    def frames(self, split: str) -> list[_Frame]:
        """All of them, in any split."""
        assert split
        return self._frames


class _Frame:
    def __init__(self, identity: str, label: str) -> None:
        self.id, self.label = identity, label


def synthetic_features(numbers: range, labels: int, width: int) -> Array:
    """Features that a head can tell apart, about as well as real ones: float32 [frames, VARIANTS, width].

    Each label has a centre; frames lie around it, and variants around their frame. Never below 0, as after the
    backbone's last activation.
    """
    centres = np.random.default_rng(0).gamma(1.0, 0.5, (labels, width))
    generator = np.random.default_rng(numbers.start + 1)
    frames = centres[np.array(numbers) % labels] + generator.normal(0, 1.0, (len(numbers), width))
    variants = frames[:, np.newaxis] + generator.normal(0, 0.3, (len(numbers), VARIANTS, width))
    return np.asarray(np.maximum(variants, 0), np.float32)


def frames(folder: Path, graph: Path, manifest: Manifest, count: int, recipe: Recipe) -> dict[str, Any]:
    """Cost of reading and training by number of frames; ``folder`` must be new.

    The cache is filled in this process, chunk by chunk, before the measuring begins.
    """
    name = recipe_name(manifest, VARIANTS)
    with FeatureCache(folder) as cache:
        for start in range(0, count, _CHUNK):
            numbers = range(start, min(start + _CHUNK, count))
            made = synthetic_features(numbers, len(manifest.labels), manifest.feature_count)
            cache.put_many(name, {f"{number:032x}": rows for number, rows in zip(numbers, made, strict=True)})
    del made
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here, proc(5)
    before = rig.rss_mb(os.getpid())
    store = cast(FrameStore, SyntheticStore(count, manifest.labels))

    def read() -> Any:
        with FeatureCache(folder) as cache:
            return examples(store, cache, manifest, _no_backbone, split="train")

    known, reading = measured(read)
    head = Head.untrained(manifest.feature_count, len(manifest.labels), 0, seed=1)
    (trained, _), training = measured(lambda: train(graph.read_bytes(), head, known, recipe))
    return {
        "frames": count,
        "read": reading,
        "train": training,
        "accuracy": evaluate(trained, known).accuracy,
        "memory_mb": rig.peak_rss_mb(os.getpid()) - before,
    }


def _no_backbone() -> Any:
    raise AssertionError("every feature is cached")


def main(arguments: list[str]) -> int:
    """One of the two; prints JSON."""
    recipe = Recipe(**json.loads(arguments[3 if arguments[0] == "work" else 5]))
    if arguments[0] == "work":
        result = work(Path(arguments[1]), Path(arguments[2]), recipe, int(arguments[4]))
    else:
        manifest = Manifest.from_bytes(Path(arguments[3]).read_bytes())
        result = frames(Path(arguments[1]), Path(arguments[2]), manifest, int(arguments[4]), recipe)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
