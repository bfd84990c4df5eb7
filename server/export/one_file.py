"""A version of the global model as one .tflite: backbone and head in one graph.

What goes in: float32 [1, height, width, 3], RGB, 0 to 255, as a camera's bytes are; the scaling to what the backbone
was trained on is inside. In Edge Impulse Studio that is input scaling "Pixels ranging 0..255". What comes out: float32
[1, labels], probabilities in the manifest's order. In an int8 file the backbone's numbers are int8, input and output
stay float32: so both files are fed alike, and nothing is lost at either end.

In the fleet's own precision the file holds the very backbone that cameras run, and answers as their ``.eim`` does. The
other precision needs the weights once more (from the cache, or where server/backbone.py finds them), which must be the
same network: its features are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance import litert
from appliance.errors import DatasetError, ModelError
from appliance.frame import Pixels
from appliance.models.head import Array, Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.store.frames import FrameStore
from appliance.vision import InputSpec, prepare
from datasets.likeness import content_hash
from server.backbone import MAX_REPRESENTATIVE, MIN_REPRESENTATIVE, representative_pictures, resolve, whole_model
from server.config import FleetSettings, Precision
from server.export.graft import graft
from server.paths import ServerPaths

_NOISE = 4  # pictures
_MAX_DIFFERENCE = 1e-4  # of a probability, between one graph and backbone and head apart; measured 2e-7
_SAME_WEIGHTS = 1e-3  # of a feature, between two conversions of the same weights
_SAME_NETWORK = 0.9  # least mean cosine of features between precisions, as trainer/graphs.py asks


def _quietly(_: str) -> None:
    """Nobody listens."""


def tflite(
    paths: ServerPaths,
    shelf: Shelf,
    manifest: Manifest,
    precision: Precision,
    *,
    fleet: FleetSettings | None = None,
    say: Callable[[str], None] = _quietly,
) -> bytes:
    """A version as one .tflite; see above for what goes in and what comes out.

    Args:
        paths: The server's state folder: the cache of backbones, and test frames.
        shelf: The server's.
        manifest: Of the version.
        precision: Of the backbone's arithmetic.
        fleet: Where the weights and representative pictures are, should the fleet's own precision be another one;
            None: ImageNet weights, and the server's test frames.
        say: Told each step that takes time.

    Raises:
        ModelError: A part is missing or damaged, or the other precision can't be had.
        DatasetError: Too few pictures to measure an int8 backbone's ranges on.
    """
    head = Head.from_bytes(shelf.part(manifest.parts["head"]))
    backbone = backbone_of(paths, shelf, manifest, precision, fleet=fleet, say=say)
    whole = graft(backbone, head)
    shown = _noise(manifest.input)
    difference = float(np.abs(answers(whole, shown) - head.scores(answers(backbone, shown))).max())
    if not difference <= _MAX_DIFFERENCE:
        raise ModelError(
            f"The model as one file answers differently from its parts, by {difference:.3g}",
            means="It is not written",
            do="Install the locked version of ai-edge-litert",
        )
    return whole


def keras_file(
    paths: ServerPaths,
    shelf: Shelf,
    manifest: Manifest,
    *,
    fleet: FleetSettings | None = None,
    say: Callable[[str], None] = _quietly,
) -> bytes:
    """A version as a .keras file, float32; in and out as :func:`tflite`, for any number of pictures at once.

    Raises:
        ModelError: The backbone's Keras weights can't be had, or are others than the fleet's.
    """
    like = tflite(paths, shelf, manifest, "float32", fleet=fleet, say=say)
    return whole_model(_weights(fleet), _cache(paths), say, shelf.part(manifest.parts["head"]), like)


def backbone_of(
    paths: ServerPaths,
    shelf: Shelf,
    manifest: Manifest,
    precision: Precision,
    *,
    fleet: FleetSettings | None = None,
    say: Callable[[str], None] = _quietly,
) -> bytes:
    """A version's backbone, in its own precision or in the other; see :func:`tflite`.

    Raises:
        ModelError: As there.
        DatasetError: As there.
    """
    part = shelf.part(manifest.parts["backbone"])
    if precision_of(part) == precision:
        return part
    weights, cache, shown = _weights(fleet), _cache(paths), _noise(manifest.input)
    if precision == "float32":
        found = resolve(weights, cache, say).graph
        _check_same(_cosine(answers(part, shown), answers(found, shown)) >= _SAME_NETWORK)
        return found
    pictures = _representative(paths, manifest.input, fleet, say)
    exact = resolve(weights, cache, say).graph
    _check_same(bool(np.allclose(answers(part, shown), answers(exact, shown), atol=_SAME_WEIGHTS)))
    return resolve(weights, cache, say, pictures).graph  # made of those weights, and compared with them


def precision_of(graph: bytes) -> Precision:
    """What a .tflite computes in.

    Raises:
        ModelError: It can't be loaded.
    """
    tensors = _loaded(graph).get_tensor_details()
    return "int8" if any(tensor["dtype"] == np.int8 for tensor in tensors) else "float32"


def answers(graph: bytes, pictures: Pixels) -> Array:
    """What a .tflite makes of pictures, one by one: float32 [n, outputs] for uint8 [n, height, width, 3].

    Raises:
        ModelError: It can't be loaded.
    """
    interpreter = _loaded(graph)
    [source], [sink] = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for picture in pictures:
        interpreter.set_tensor(source["index"], picture[np.newaxis].astype(np.float32))
        interpreter.invoke()
        found.append(interpreter.get_tensor(sink["index"])[0].copy())
    return np.asarray(found, np.float32).reshape(len(pictures), int(sink["shape"][1]))


def labelled_pictures(paths: ServerPaths, spec: InputSpec, *, limit: int) -> tuple[Pixels, list[str]]:
    """So many of the server's own labelled test frames, as from every part of them: uint8 [n, height, width, 3],
    prepared as live, and their labels.
    """
    with FrameStore(paths.store) as store:
        frames = sorted(store.frames(split="test"), key=lambda frame: frame.content_hash)[:limit]
        pictures = [prepare(store.pixels(frame.id), spec) for frame in frames]
    shape = (len(pictures), spec.height, spec.width, 3)
    return np.asarray(pictures, np.uint8).reshape(shape), [str(frame.label) for frame in frames]


def _representative(
    paths: ServerPaths, spec: InputSpec, fleet: FleetSettings | None, say: Callable[[str], None]
) -> Pixels:
    """What an int8 backbone's ranges are measured on: fleet.representative, else the server's test frames."""
    if fleet is not None and fleet.representative != Path():
        return representative_pictures(fleet.representative, spec, say)
    pictures, _ = labelled_pictures(paths, spec, limit=MAX_REPRESENTATIVE)
    different = {content_hash(picture): picture for picture in pictures}
    if len(different) < MIN_REPRESENTATIVE:
        raise DatasetError(
            f"The server has {len(different)} different test frames, not {MIN_REPRESENTATIVE}",
            means="The ranges of an int8 backbone can't be measured on so few",
            do="Bring test frames in (sitecam-server import), set fleet.representative to a folder of pictures, or"
            " ask for float32 alone (--precision float32)",
        )
    say(f"  {len(different)} representative pictures: the server's own test frames")
    return np.stack([different[name] for name in sorted(different)])


def _check_same(same: bool) -> None:
    if not same:
        raise ModelError(
            "The backbone that was found has other features than the fleet's",
            means="The fleet's heads mean nothing behind it, so nothing was written",
            do="Set fleet.backbone to the weights that the fleet was made with, or ask for the fleet's own precision"
            " and format alone (--precision, --format tflite)",
        )


def _cosine(some: Array, others: Array) -> float:
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return float(((some * others).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())


def _noise(spec: InputSpec) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (_NOISE, spec.height, spec.width, 3)).astype(np.uint8)


def _weights(fleet: FleetSettings | None) -> Path | None:
    return fleet.backbone if fleet is not None and fleet.backbone != Path() else None


def _cache(paths: ServerPaths) -> Path:
    return paths.root / "cache"  # as server/fleet_init.py


def _loaded(graph: bytes) -> Any:
    try:
        return litert.load(graph, threads=2)
    except ValueError as error:
        raise ModelError(f"A backbone can't be loaded ({error})", do="Restore it from the server's backup") from error
