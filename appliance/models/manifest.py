"""The manifest: what a model version is made of, as signed by its fleet; or by one camera, for a local version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from appliance.errors import ConfigError, ManifestError
from appliance.vision import InputSpec

FORMAT = 1
ROLES = ("backbone", "head", "trainer")
LOCAL_ROLES = ("impulse",)
MACHINES = ("aarch64", "armv7l", "x86_64")  # as uname -m says it: Edge Impulse builds for these
FIRST_LOCAL = 1_000_000  # versions from here on belong to one camera; no fleet lives for so many nights

DEFAULT_LABELS = ("head", "hardhat", "nobody")  # unless the server's settings say otherwise

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """A file named by its content.

    Attributes:
        sha256: Lower-case hex digest of the content.
        size_bytes: Its length.
    """

    sha256: str
    size_bytes: int

    @staticmethod
    def of(data: bytes) -> Part:
        """The name of ``data``."""
        return Part(hashlib.sha256(data).hexdigest(), len(data))


@dataclass(frozen=True)
class Foreign:
    """An ``.eim`` that was made elsewhere.

    Attributes:
        name: What people call it.
        labels: Every label of its: ours that it counts for, or empty for none.
    """

    name: str
    labels: Mapping[str, str]


def impulse_role(machine: str) -> str:
    """The role of an ``.eim`` that Edge Impulse built of a version for one kind of machine; it need not be there."""
    return f"impulse-{machine}"


_BUILT = frozenset(map(impulse_role, MACHINES))


def is_local(version: int) -> bool:
    """Whether a version number is one of a camera's own."""
    return version >= FIRST_LOCAL


class _Parts(dict[str, Part]):
    """Parts by role; asking for one that a version doesn't have is an error that people understand."""

    def __missing__(self, role: str) -> Part:
        raise ManifestError(
            f"This version has no {role}: its parts are {', '.join(self)}",
            means="It came as a whole .eim, so nothing can be computed with its parts",
        )


@dataclass(frozen=True)
class Manifest:
    """One model version.

    Attributes:
        fleet: The fleet's name.
        version: Counts up from 1.
        parent: The version it was trained from; None for the first.
        labels: In the order of the head's outputs.
        input: Size and resize mode; the backbone takes float32 RGB, 0 to 255.
        hidden_units: Of the head; 0 for a linear one.
        feature_count: Numbers that the backbone gives per frame.
        parts: ``backbone`` (.tflite), ``head`` (.npz) and ``trainer`` (.tflite, the head's training step), maybe
            ``impulse-aarch64`` and the like (.eim, see :func:`impulse_role`); of a local version ``impulse`` (.eim)
            alone.
        metrics: What the server measured, by name.
        night: The night that made it; None for the first.
        created_utc: Timezone-aware UTC.
        foreign: Of a local version: what its ``.eim`` is. Its size and mode are ``input``; it has no features.
    """

    fleet: str
    version: int
    parent: int | None
    labels: tuple[str, ...]
    input: InputSpec
    hidden_units: int
    feature_count: int
    parts: Mapping[str, Part]
    metrics: Mapping[str, float]
    night: str | None
    created_utc: datetime
    foreign: Foreign | None = None

    @property
    def needed(self) -> dict[str, Part]:
        """The parts without which a version can't be used: not what was built of them elsewhere."""
        return {role: part for role, part in self.parts.items() if role not in _BUILT}

    def built_for(self, machine: str) -> Part | None:
        """The ``.eim`` that Edge Impulse built for a machine; None where it built none."""
        return self.parts[role] if (role := impulse_role(machine)) in self.parts else None

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ManifestError(
                f"The manifest of version {self.version} contradicts itself: {problem}",
                means="This version can't be used; the running model stays",
            )

    def _problem(self) -> str:
        if self.version < 1:
            return "versions start at 1"
        if self.parent is not None and not 1 <= self.parent < self.version:
            return f"version {self.parent} can't be its parent"
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels) or not all(self.labels):
            return "it needs two or more different labels"
        if is_local(self.version) != (self.foreign is not None):
            return f"versions from {FIRST_LOCAL} on are a camera's own, and no others"
        roles = LOCAL_ROLES if self.foreign else ROLES
        if set(self.parts) - (frozenset() if self.foreign else _BUILT) != set(roles):
            return f"its parts are {sorted(self.parts)}, not {sorted(roles)}"
        if self.foreign and not {""} < {"", *self.foreign.labels.values()} <= {"", *self.labels}:
            return "its labels are mapped to none of these, or to others"
        if self.created_utc.utcoffset() != timedelta(0):
            return "its time is not UTC"
        sizes = (self.input.width, self.input.height, *(() if self.foreign else (self.feature_count,)))
        if min(sizes) < 1 or self.hidden_units < 0:
            return "a size is not positive"
        return ""

    def to_bytes(self) -> bytes:
        """Canonical JSON: the bytes that are signed."""
        body: dict[str, Any] = {
            "format": FORMAT,
            "fleet": self.fleet,
            "version": self.version,
            "parent": self.parent,
            "labels": list(self.labels),
            "input": {
                "width": self.input.width,
                "height": self.input.height,
                "resize_mode": self.input.resize_mode,
            },
            "hidden_units": self.hidden_units,
            "feature_count": self.feature_count,
            "parts": {
                role: {"sha256": part.sha256, "size_bytes": part.size_bytes} for role, part in self.parts.items()
            },
            "metrics": dict(self.metrics),
            "night": self.night,
            "created_utc": self.created_utc.isoformat(timespec="seconds"),
        }
        if self.foreign:
            body["foreign"] = {"name": self.foreign.name, "labels": dict(self.foreign.labels)}
        return json.dumps(body, sort_keys=True, indent=1, allow_nan=False).encode() + b"\n"

    @staticmethod
    def from_bytes(data: bytes) -> Manifest:
        """Read a manifest.

        Raises:
            ManifestError: It isn't one, or is of a format that this release doesn't know.
        """
        try:
            return _from_json(json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
            raise ManifestError(
                f"The manifest can't be read ({error!r})",
                means="This version can't be used; the running model stays",
                do="Fetch it again; if that doesn't help, upgrade Sitecam on this camera",
            ) from error


def _from_json(body: Mapping[str, Any]) -> Manifest:
    if body["format"] != FORMAT:
        raise ValueError(f"format {body['format']!r}, this release reads {FORMAT}")
    return Manifest(
        fleet=_typed(body, "fleet", str),
        version=_typed(body, "version", int),
        parent=None if body["parent"] is None else _typed(body, "parent", int),
        labels=tuple(_typed({"label": label}, "label", str) for label in _typed(body, "labels", list)),
        input=InputSpec(
            _typed(body["input"], "width", int),
            _typed(body["input"], "height", int),
            body["input"]["resize_mode"],
        ),
        hidden_units=_typed(body, "hidden_units", int),
        feature_count=_typed(body, "feature_count", int),
        parts=_Parts(
            {
                role: Part(_digest(part), _typed(part, "size_bytes", int))
                for role, part in _typed(body, "parts", dict).items()
            }
        ),
        metrics={name: float(value) for name, value in _typed(body, "metrics", dict).items()},
        night=None if body["night"] is None else _typed(body, "night", str),
        created_utc=datetime.fromisoformat(_typed(body, "created_utc", str)),
        foreign=_foreign(body["foreign"]) if "foreign" in body else None,
    )


def _foreign(body: Mapping[str, Any]) -> Foreign:
    labels = _typed(body, "labels", dict)
    return Foreign(_typed(body, "name", str), {label: _typed(labels, label, str) for label in labels})


def _typed(body: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = body[key]
    if type(value) is not kind:  # exact: a bool is not an int here
        raise TypeError(f"{key} is {value!r}, not {kind.__name__}")
    return value


def _digest(part: Mapping[str, Any]) -> str:
    digest = _typed(part, "sha256", str)
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise ValueError(f"{digest!r} is not a SHA-256")  # it becomes a file name: nothing else may pass
    return digest
