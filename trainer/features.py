"""Backbone features of labelled frames: computed once, cached beside the store.

Augmentation happens here, before the backbone, so that training itself never touches a picture. The first
variant is the frame exactly as the live model sees it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from appliance import litert
from appliance.frame import Pixels
from appliance.models.head import Array
from appliance.models.manifest import Manifest
from appliance.store.features import FeatureCache
from appliance.store.frames import FrameRecord, FrameStore
from appliance.store.recipe import VARIANTS, recipe_name
from appliance.vision import RESIZE_MODES, InputSpec, prepare
from trainer.head import Examples

MAX_ROWS = 12_000  # of features in memory, 5 kB each: six variants of 2,000 frames, or 12,000 frames as they are


class Backbone:
    """The backbone part, run on prepared pictures.

    Args:
        graph: The ``backbone`` part, a .tflite file.
        spec: What pictures it wants.
        threads: CPU threads for one inference.
    """

    def __init__(self, graph: bytes, spec: InputSpec, *, threads: int = 1) -> None:
        self._spec = spec
        self._interpreter: Any = litert.load(graph, threads=threads)
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def features(self, pixels: Pixels) -> Array:
        """float32 [features] of a picture, uint8 [height, width, 3] of any size."""
        picture = prepare(pixels, self._spec).astype(np.float32)[np.newaxis]
        self._interpreter.set_tensor(self._input, picture)
        self._interpreter.invoke()
        return np.array(self._interpreter.get_tensor(self._output)[0], dtype=np.float32)


def examples(
    store: FrameStore,
    cache: FeatureCache,
    manifest: Manifest,
    backbone: Callable[[], Backbone],
    *,
    split: str,
    variants: int = VARIANTS,
    progress: Callable[[int, int], None] | None = None,
) -> Examples:
    """The labelled frames of a split as features, computing only those that the cache lacks.

    Args:
        store: The camera's frames.
        cache: Their features.
        manifest: Names labels, input and backbone. Frames whose label it doesn't know are left out.
        backbone: Makes the backbone; called only where a feature is missing.
        split: "train" or "test".
        variants: 1 for testing, VARIANTS for training.
        progress: Called with (done, total) after every computed frame.

    Returns:
        Examples in the store's order; empty where nothing is labelled. With very many frames fewer variants of each
        than asked for, so that they fit into a small camera's memory: what augmentation is for, many frames have.
    """
    frames = [frame for frame in store.frames(split=split) if frame.label in manifest.labels]
    recipe = recipe_name(manifest, variants)
    used = min(variants, max(1, MAX_ROWS // max(1, len(frames))))
    rows = {frame.id: row for row, frame in enumerate(frames)}
    features = np.zeros((len(frames), used, manifest.feature_count), np.float32)
    missing = set(rows)
    for frame_id, vectors in cache.each(list(rows), recipe, most=used):
        features[rows[frame_id]] = vectors
        missing.discard(frame_id)
    if missing:
        absent = [frame for frame in frames if frame.id in missing]
        for frame_id, vectors in _compute(store, cache, backbone(), manifest.input, absent, recipe, variants, progress):
            features[rows[frame_id]] = vectors[:used]
    labels = np.array([manifest.labels.index(frame.label or "") for frame in frames], np.int64)
    return Examples(features, labels)


def _compute(
    store: FrameStore,
    cache: FeatureCache,
    backbone: Backbone,
    spec: InputSpec,
    frames: Sequence[FrameRecord],
    recipe: str,
    variants: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[str, Array]]:
    fresh: dict[str, Array] = {}
    for number, frame in enumerate(frames, start=1):
        pictures = augment(store.pixels(frame.id), spec, variants)
        fresh[frame.id] = np.stack([backbone.features(picture) for picture in pictures])
        if len(fresh) == 16 or number == len(frames):  # a night cut short keeps what it has done
            cache.put_many(recipe, fresh)
            yield from fresh.items()
            fresh = {}
        if progress:
            progress(number, len(frames))


def augment(pixels: Pixels, spec: InputSpec, variants: int = VARIANTS) -> list[Pixels]:
    """Variants of a picture: every way to make it square, the live one first, each as it is and mirrored.

    A person is then seen cut, squeezed and small, as cameras and data sets have them. Measured on a site that training
    had not seen (``python -m tests.benchmarks accuracy``): better than crops and other light, which were here before.

    Args:
        pixels: uint8 [height, width, 3].
        spec: The model's input.
        variants: How many, 1 to VARIANTS.

    Returns:
        uint8 [spec.height, spec.width, 3] each; the first is the frame exactly as the live model sees it.
    """
    modes = [spec.resize_mode, *(mode for mode in RESIZE_MODES if mode != spec.resize_mode)]
    pictures: list[Pixels] = []
    for mode in modes:
        picture = prepare(pixels, dataclasses.replace(spec, resize_mode=mode))
        pictures += [picture, np.ascontiguousarray(picture[:, ::-1])]
        if len(pictures) >= variants:
            break
    return pictures[:variants]
