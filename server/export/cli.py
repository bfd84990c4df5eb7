"""``sitecam-server export``: the global model as files, with labels and a model card."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from appliance.errors import ConfigError
from appliance.files import write_atomically
from appliance.frame import Pixels
from appliance.models.head import Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from server.config import Precision, ServerSettings
from server.export.model_card import Made, card
from server.export.one_file import answers, keras_file, labelled_pictures, precision_of, tflite
from server.export.versions import version_of
from server.paths import ServerPaths
from server.registry import Registry

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

LABELS, CARD = "labels.txt", "MODEL-CARD.md"
_TRIED = 200  # of the server's test frames, at most


def add_export(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("export", help="write the global model as one .tflite or .keras, with a model card")
    parser.add_argument("--version", type=int, dest="model", metavar="N", help="default: the version that runs")
    parser.add_argument("--precision", choices=["float32", "int8", "both"], default="both", help="of .tflite files")
    parser.add_argument("--format", choices=["tflite", "keras", "all"], default="all", help="default: all")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="made where it is missing")
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    parser.set_defaults(run=_export)


def _export(settings: ServerSettings, options: argparse.Namespace) -> int:
    paths, shelf, manifest = version_of(settings, options.model)
    names = _names(manifest, options.precision, options.format)
    _check_free(options.out, [*names, LABELS, CARD], force=options.force)
    files = _made(settings, paths, shelf, manifest, names)
    registry = Registry(paths.registry)
    contents = {made.name: made.data for made in files}
    contents[LABELS] = "".join(f"{label}\n" for label in manifest.labels).encode()
    contents[CARD] = card(manifest, files, registry, shelf, settings.privacy).encode()
    options.out.mkdir(parents=True, exist_ok=True)
    _check_free(options.out, list(contents), force=options.force)  # making them took minutes
    for name, data in contents.items():
        write_atomically(options.out / name, data)
        _say(f"{options.out / name}: {len(data):,} bytes")
    return 0


def _names(manifest: Manifest, precision: str, form: str) -> dict[str, Precision | None]:
    """What to make: the precision of each .tflite by its file's name, None for the Keras file."""
    names: dict[str, Precision | None] = {}
    wanted: list[Precision] = ["float32", "int8"]
    for each in wanted if form != "keras" else []:
        if precision in (each, "both"):
            names[f"model-{manifest.version}-{each}.tflite"] = each
    if form != "tflite":
        names[f"model-{manifest.version}.keras"] = None
    return names


def _check_free(folder: Path, names: list[str], *, force: bool) -> None:
    """Raise ConfigError where something is in the way."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, not a folder", means="Nothing was written", do="Give another --out")
    there = [name for name in names if (folder / name).exists()]
    if there and not force:
        raise ConfigError(
            f"{folder} has {', '.join(there)} already",
            means="Nothing was written",
            do="Give another folder, or --force to replace them",
        )


def _made(
    settings: ServerSettings,
    paths: ServerPaths,
    shelf: Shelf,
    manifest: Manifest,
    names: dict[str, Precision | None],
) -> list[Made]:
    part = shelf.part(manifest.parts["backbone"])
    own = precision_of(part)
    pictures, labels = labelled_pictures(paths, manifest.input, limit=_TRIED)
    theirs = Head.from_bytes(shelf.part(manifest.parts["head"])).scores(answers(part, pictures)).argmax(axis=1)
    files = []
    for name, precision in names.items():
        _say(f"making {name}")
        if precision is None:
            data = keras_file(paths, shelf, manifest, fleet=settings.fleet, say=_say)
            files.append(Made(name, "Keras 3, float32; its answers were compared with TensorFlow Lite's", data))
            continue
        data = tflite(paths, shelf, manifest, precision, fleet=settings.fleet, say=_say)
        backbone = "the very backbone that the cameras run" if precision == own else f"the cameras run {own}"
        what = f"TensorFlow Lite, {precision}; {backbone}"
        files.append(_tried(Made(name, what, data), pictures, labels, theirs.tolist(), manifest.labels))
    return files


def _tried(made: Made, pictures: Pixels, labels: list[str], theirs: list[int], names: tuple[str, ...]) -> Made:
    ours = answers(made.data, pictures).argmax(axis=1).tolist() if len(pictures) else []
    right = sum(names[number] == label for number, label in zip(ours, labels, strict=True))
    alike = int(np.equal(ours, theirs).sum())
    return Made(made.name, made.what, made.data, len(pictures), right, alike)


def _say(text: str) -> None:
    print(text, flush=True)
