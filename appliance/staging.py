"""Assembles the .eim of a version from its parts, and tells whether the file is still what was assembled."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

from appliance.eim.label_map import LabelMap, map_path
from appliance.eim.pack import pack
from appliance.files import write_atomically
from appliance.models.manifest import Foreign, Manifest, Part
from appliance.models.shelf import Shelf


def stage(shelf: Shelf, manifest: Manifest, *, threads: int) -> Path:
    """Assemble a version's ``.eim`` from its verified parts, whatever lies there.

    Raises:
        ModelError: A part is missing or damaged.
        OSError: The disk refused.
    """
    path = shelf.impulse_path(manifest.version)
    built = manifest.built_for(platform.machine())
    if manifest.foreign:
        _stage_whole(shelf, manifest, manifest.parts["impulse"], manifest.foreign, path)
        return path
    if built and shelf.has(built.sha256):
        same = Foreign(manifest.fleet, {label: label for label in manifest.labels})
        _stage_whole(shelf, manifest, built, same, path)
        return path
    map_path(path).unlink(missing_ok=True)
    backbone, head = (shelf.part(manifest.parts[role]) for role in ("backbone", "head"))
    pack(manifest, backbone, head, path, threads=threads)
    write_atomically(_hash_path(path), _hash_of(path).encode())
    return path


def _stage_whole(shelf: Shelf, manifest: Manifest, part: Part, foreign: Foreign, path: Path) -> None:
    """An ``.eim`` that was built elsewhere is its own part; what its labels mean lies beside it."""
    data = shelf.part(part)
    label_map = LabelMap(foreign.name, manifest.version, manifest.labels, foreign.labels)
    write_atomically(map_path(path), label_map.to_bytes())
    write_atomically(path, data, mode=0o755)
    write_atomically(_hash_path(path), _hash_of(path).encode())


def is_intact(path: Path) -> bool:
    """Whether an assembled ``.eim`` is there, byte for byte: a card forgets, and the file is read at every start."""
    try:
        return _hash_path(path).read_bytes() == _hash_of(path).encode()
    except OSError:
        return False


def _hash_path(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    if map_path(path).exists():
        digest.update(map_path(path).read_bytes())
    return digest.hexdigest()
