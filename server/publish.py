"""Makes a new version out of a head: manifest, signature, and the message that takes it to a camera."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from flwr.app import ConfigRecord, RecordDict

from appliance.models.head import Head
from appliance.models.manifest import Manifest, Part, impulse_role
from appliance.models.shelf import Shelf
from appliance.models.signing import load_signing_key
from server.paths import ServerPaths
from trainer import messages


def publish(
    paths: ServerPaths, shelf: Shelf, parent: Manifest, head: Head, *, night: str, metrics: Mapping[str, float]
) -> Manifest:
    """Sign a new version and put it on the server's shelf, where it isn't the running one yet.

    Args:
        paths: For the signing key.
        shelf: The server's.
        parent: The version that it was trained from; backbone and training graph are its.
        head: The new one.
        night: The night's name.
        metrics: What was measured, for the manifest.

    Raises:
        ModelError: The signing key can't be used.
        OSError: The disk refused; nothing was published.
    """
    data = head.to_bytes()
    part = Part.of(data)
    manifest = Manifest(
        fleet=parent.fleet,
        version=shelf.highest + 1,
        parent=parent.version,
        labels=parent.labels,
        input=parent.input,
        hidden_units=parent.hidden_units,
        feature_count=parent.feature_count,
        parts={**parent.needed, "head": part},  # what was built elsewhere was built of the parent's head
        metrics=metrics,
        night=night,
        created_utc=datetime.now(UTC).replace(microsecond=0),
    )
    text = manifest.to_bytes()
    shelf.accept(text, load_signing_key(paths.signing_key).sign(text), {part.sha256: data})
    return manifest


def publish_built(paths: ServerPaths, shelf: Shelf, parent: Manifest, built: Mapping[str, bytes]) -> Manifest:
    """Sign a version that differs from its parent in nothing but what Edge Impulse built of it.

    Args:
        paths: For the signing key.
        shelf: The server's.
        parent: The version that it was built of.
        built: ``.eim`` files by machine, as ``uname -m`` says it.

    Raises:
        ModelError: The signing key can't be used.
        OSError: The disk refused; nothing was published.
    """
    parts = {impulse_role(machine): Part.of(data) for machine, data in built.items()}
    manifest = dataclasses.replace(
        parent,
        version=shelf.highest + 1,
        parent=parent.version,
        parts={**parent.needed, **parts},
        created_utc=datetime.now(UTC).replace(microsecond=0),
    )
    text = manifest.to_bytes()
    contents = {Part.of(data).sha256: data for data in built.values()}
    shelf.accept(text, load_signing_key(paths.signing_key).sign(text), contents)
    return manifest


def deployment(shelf: Shelf, version: int, held: Collection[str], machine: str = "") -> RecordDict:
    """The message that takes a version to a camera: only the parts that it doesn't hold yet.

    Args:
        shelf: The server's.
        version: Which.
        held: SHA-256 of the parts that the camera has.
        machine: What it is, as ``uname -m`` says it: it gets the ``.eim`` that was built for that, if any.
    """
    manifest, signature = shelf.signed_manifest(version)
    record = ConfigRecord({"manifest": manifest, "signature": signature})
    read = Manifest.from_bytes(manifest)
    built = read.built_for(machine)
    for part in [*read.needed.values(), *([built] if built else [])]:
        if part.sha256 not in held:
            record[part.sha256] = shelf.part(part)
    return RecordDict({messages.CONFIG: record})
