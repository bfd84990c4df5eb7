"""The model card: what the exported model is, what it came of, how good it is, and what it is not for. Markdown."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from appliance.errors import ModelError
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from server.config import PrivacySettings
from server.registry import ModelRecord, Registry

_MODES = {
    "fit-shortest": "the largest centred box of that shape is cut out, then made smaller by averaging areas",
    "fit-longest": "the whole picture is made smaller by averaging areas, and black bars fill the rest",
    "squash": "the whole picture is made to fit by averaging areas, distorted where its shape differs",
}
_PRIVATE = """\
The pictures that it learned from never left the cameras: only trained numbers and counts did. Trained numbers can still
tell something of what they were trained on; nobody has shown that these don't."""
_NIGHTS = """\
Each version was trained from the one below it, by the fleet's cameras together, each on its own labelled frames.

| version | night | outcome | metrics | the gate's reason |
|---|---|---|---|---|"""
_NOT_FOR = """\
- It is no protective device and replaces none: nothing that keeps people safe may depend on its answer alone.
- Not for watching or rating single persons, and not for finding out who somebody is.
- It must answer with one of its labels, whatever the picture shows, and can be sure and wrong. The cameras add a
  threshold, a check whether a picture is like those that were taught, and agreement over several frames; these files
  have none of that.
- It knows the places, cameras, light and clothes that its fleet's frames show. Elsewhere it is unproven: try it on
  labelled pictures of the new place first."""


@dataclass(frozen=True)
class Made:
    """A file of the export.

    Attributes:
        name: Of the file.
        what: In words.
        data: Its content.
        frames: The server's test frames that it was tried on; None where it was not.
        right: Of those, named right.
        alike: Of those, named as the cameras' own model names them.
    """

    name: str
    what: str
    data: bytes
    frames: int | None = None
    right: int = 0
    alike: int = 0


@dataclass(frozen=True)
class Ancestor:
    """A version in the chain that led to the exported one.

    Attributes:
        version: Its number.
        manifest: Its own; None where it isn't on the shelf any more.
        record: What the registry knows of it; None for version 1, which no night made.
    """

    version: int
    manifest: Manifest | None
    record: ModelRecord | None


def card(manifest: Manifest, files: Sequence[Made], registry: Registry, shelf: Shelf, privacy: PrivacySettings) -> str:
    """Write it.

    Args:
        manifest: Of the exported version.
        files: What is exported.
        registry: The server's, for nights and figures.
        shelf: The server's, for the versions before.
        privacy: The settings of tonight; what was spent stands in the registry.
    """
    chain = ancestors(manifest, registry, shelf)
    sections = {
        f"# {manifest.fleet}, version {manifest.version}": _summary(manifest),
        "## Files": _files(manifest, files),
        "## In and out": _input(manifest),
        "## Training nights": "\n".join([_NIGHTS, *map(_night, chain)]),
        "## Privacy": f"{_PRIVATE}\n\n{_noise(registry, chain, privacy)}",
        "## Limits, and what it is not for": _limits(manifest, files),
    }
    return "\n\n".join(f"{title}\n\n{text}" for title, text in sections.items()) + "\n"


def ancestors(manifest: Manifest, registry: Registry, shelf: Shelf) -> list[Ancestor]:
    """The version and all it was trained from, newest first."""
    records = {record.version: record for record in registry.models()}
    chain: list[Ancestor] = []
    version: int | None = manifest.version
    while version:
        known, record = _manifest(shelf, version), records.get(version)
        chain.append(Ancestor(version, known, record))
        version = known.parent if known else record.parent if record else None
    return chain


def _manifest(shelf: Shelf, version: int) -> Manifest | None:
    try:
        return shelf.manifest(version)
    except ModelError:
        return None  # cleared away, or damaged: the registry's row speaks for it


def _summary(manifest: Manifest) -> str:
    layers = f"one hidden layer of {manifest.hidden_units}" if manifest.hidden_units else "linear"
    night = f"in night {manifest.night}" if manifest.night else "before any night: its head was never trained"
    backbone, head = (manifest.parts[role].sha256 for role in ("backbone", "head"))
    size = f"{manifest.input.width} x {manifest.input.height}"
    return f"""\
Names what a camera of the fleet "{manifest.fleet}" sees: {_listed(manifest.labels)}. One label per picture, with a
probability for each; it finds no places in a picture and counts nothing.

- made: {manifest.created_utc:%Y-%m-%d %H:%M} UTC, {night}
- backbone: MobileNetV2 1.0, {size}, {manifest.feature_count} features; the same in every version
  (SHA-256 of the cameras' own `{backbone}`)
- head: {layers}; what the nights train (SHA-256 `{head}`)"""


def _files(manifest: Manifest, files: Sequence[Made]) -> str:
    lines = ["| file | what it is | bytes | on the server's test frames | SHA-256 |", "|---|---|---|---|---|"]
    for made in files:
        digest = hashlib.sha256(made.data).hexdigest()
        lines.append(f"| `{made.name}` | {made.what} | {len(made.data):,} | {_tried(made)} | `{digest}` |")
    return "\n".join([*lines, "", f"`labels.txt`: the {len(manifest.labels)} labels in the order of the output."])


def _tried(made: Made) -> str:
    if made.frames is None:
        return "-"
    if not made.frames:
        return "there are none"
    return f"{made.right} of {made.frames} right; {made.alike} named as the cameras' own model does"


def _input(manifest: Manifest) -> str:
    spec = manifest.input
    order = ", ".join(f"{index} `{label}`" for index, label in enumerate(manifest.labels))
    return f"""\
- in: float32 [1, {spec.height}, {spec.width}, 3], RGB, **0 to 255** as a picture file has them: nothing is divided,
  the scaling is inside (Edge Impulse Studio: "Pixels ranging 0..255"). In a Keras file the first size is free
- resize mode `{spec.resize_mode}`: {_MODES[spec.resize_mode]}.
  The model was trained on pictures prepared this way; others cost accuracy
- out: float32 [1, {len(manifest.labels)}], probabilities that sum to 1: {order}
- int8 files: the backbone's weights and activations are int8; head, input and output are float32"""


def _night(each: Ancestor) -> str:
    night = each.manifest.night if each.manifest else None
    metrics = each.manifest.metrics if each.manifest else each.record.metrics if each.record else {}
    outcome, reason = (each.record.outcome, each.record.reason) if each.record else ("-", "-")
    cells = (str(each.version), night or "-", outcome, _metrics(metrics), reason)
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.5g}" for name, value in metrics.items())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|") or "-"


def _noise(registry: Registry, chain: Sequence[Ancestor], privacy: PrivacySettings) -> str:
    nights = {each.record.night for each in chain if each.record}
    spent = [record.epsilon for night in nights for record in registry.rounds(night) if record.epsilon is not None]
    if not spent:
        return "No noise was added to the cameras' updates."
    return f"""\
Noise was added to the cameras' updates: epsilon {max(spent):.3g} at delta {privacy.delta:g}, camera by camera, counted
since the fleet began."""


def _limits(manifest: Manifest, files: Sequence[Made]) -> str:
    lines = [_NOT_FOR]
    if not any(made.frames for made in files):
        lines.append("- How good these files are was not measured: the server has no test frames, or was not asked.")
    if not manifest.night:
        lines.append("- **This version was never trained: its answers are chance.**")
    return "\n".join(lines)


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)
