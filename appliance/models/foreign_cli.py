"""``sitecam models add``: an .eim from elsewhere, from its file to its verdict."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from appliance.by_hand import ask, camera_lock, do_it
from appliance.config import Settings
from appliance.eim.cell import Cell, cell_state
from appliance.eim.runner import RunningImpulse, start_impulse
from appliance.errors import ConfigError
from appliance.models.foreign import add, look_at, map_labels
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.paths import CameraPaths


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", type=Path, metavar="FILE.eim")
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="THEIRS=OURS",
        help="a label of the file's counts for that one of ours; THEIRS= for none (may be given several times)",
    )
    parser.add_argument("--name", default="", help="what to call it here (default: its project's name)")


def add_foreign(settings: Settings, shelf: Shelf, options: argparse.Namespace) -> str:
    """Look at the file, put it on the shelf, have the camera try it.

    Returns:
        What became of it, for a person.

    Raises:
        ConfigError: A label of its is unknown here, or an option makes no sense.
        ImpulseError: It can't be used; nothing was written.
        ModelError, SwapError: It did not earn its place, with the reason; it stays on the shelf.
    """
    given = read_map(options.map)
    running = shelf.manifest(shelf.current or 0)
    found = look_at(options.file, lambda path: _start(settings, path))
    theirs = map_labels(found.info.labels, running.labels, given)
    key = CameraPaths(settings.state_dir).root / "keys" / "local-models.key"
    manifest = add(shelf, key, found, labels=running.labels, theirs=theirs, name=options.name, fleet=running.fleet)
    print(described(manifest), flush=True)
    cell = cell_state()
    if not cell.works:
        print(f"  {cell.why.rstrip('.')}: it sees what the camera's user sees, pictures too. Do you trust its maker?")
    if manifest.version == shelf.current:
        return f"Version {manifest.version} runs already."
    with camera_lock(settings.state_dir) as mine:
        if mine:
            return do_it(shelf, "try", manifest.version, threads=settings.model.threads)
    return ask(shelf, "try", manifest.version)


def read_map(options: Iterable[str]) -> dict[str, str]:
    """``THEIRS=OURS`` as pairs.

    Raises:
        ConfigError: One has no "=", or two speak of the same label.
    """
    pairs: dict[str, str] = {}
    for option in options:
        theirs, equals, ours = option.rpartition("=")
        if not equals or not theirs or theirs in pairs:
            raise ConfigError(
                f"--map {option} can't be used",
                means="It says nothing, or something else than another --map",
                do="Write --map THEIRS=OURS once for each label; --map THEIRS= for one that counts for none",
            )
        pairs[theirs] = ours
    return pairs


def described(manifest: Manifest) -> str:
    """A local version, for a terminal."""
    foreign, spec = manifest.foreign, manifest.input
    if foreign is None:
        raise ValueError(f"version {manifest.version} is the fleet's")
    size = f"{spec.resize_mode} to {spec.width} x {spec.height}"
    lines = [
        f"{foreign.name} is version {manifest.version}, this camera's own ({size}).",
        *(f"  {theirs} counts for {ours or 'none of our labels'}" for theirs, ours in foreign.labels.items()),
    ]
    unsaid = [label for label in manifest.labels if label not in foreign.labels.values()]
    if unsaid:
        lines.append(f"  It never says {' or '.join(unsaid)}.")
    return "\n".join(lines)


def _start(settings: Settings, path: Path) -> RunningImpulse:
    model = settings.model
    return start_impulse(
        path,
        start_deadline_s=model.start_deadline_s,
        reply_deadline_s=model.reply_deadline_s,
        memory_bytes=model.memory_mb * 2**20,
        cell=Cell.of(settings),
    )
