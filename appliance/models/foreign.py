"""An .eim that was made elsewhere becomes a local version: looked at, its labels mapped, signed, on the shelf.

A local version belongs to one camera. It has a number from a million on, so that no night's number meets it, and is
signed with a key that this camera made itself: that shows whether a file was changed since a person added it, and the
network can't bring one. From there on it goes the way of every version: probe, judge, soak.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.eim.replies import ImpulseInfo
from appliance.eim.runner import Impulse, check_file
from appliance.errors import ConfigError, ModelError, NotAnImpulseError, SignatureError
from appliance.files import write_atomically
from appliance.models.manifest import Foreign, Manifest, Part, is_local
from appliance.models.shelf import Shelf
from appliance.models.signing import load_signing_key, new_signing_key, public_pem

MOST_BYTES = 128 * 2**20  # a camera with 512 MB of memory must be able to hash it
MOST_SIDE = 1024
_NAME = 60


@dataclass(frozen=True, eq=False)
class Found:
    """A file that runs here and classifies pictures.

    Attributes:
        info: What it says of itself.
        data: The file.
    """

    info: ImpulseInfo
    data: bytes


def look_at(path: Path, start: Callable[[Path], Impulse]) -> Found:
    """Run a file and ask it about two pictures; write nothing that stays.

    Args:
        path: The file; it needs no executable bit, because Studio's downloads have none.
        start: Starts an ``.eim``, in its cell.

    Raises:
        NotAnImpulseError: Not an ``.eim`` for this machine, or one that doesn't classify pictures.
        ImpulseError: It doesn't run, or answers rubbish.
    """
    check_file(path, executable=False)
    if path.stat().st_size > MOST_BYTES:
        raise NotAnImpulseError(
            f"{path} has {path.stat().st_size / 2**20:.0f} MB",
            means=f"More than {MOST_BYTES // 2**20} MB don't fit a camera's memory beside what it needs",
            do="Build it for Linux boards, with a smaller model",
        )
    with tempfile.TemporaryDirectory(prefix="sitecam-") as folder:
        copy = Path(folder) / path.name  # what is tried is what is kept, whatever becomes of the file meanwhile
        shutil.copyfile(path, copy)
        copy.chmod(0o755)
        impulse = start(copy)
        try:
            info = impulse.info
            if max(info.input.width, info.input.height) > MOST_SIDE:
                raise NotAnImpulseError(
                    f"{path.name} wants pictures of {info.input.width} x {info.input.height}",
                    means=f"A camera's small pictures have at most {MOST_SIDE} pixels a side",
                    do="Train it with a smaller input",
                )
            shape = (info.input.height, info.input.width, 3)
            for picture in (np.zeros(shape, np.uint8), np.random.default_rng(0).integers(0, 256, shape, np.uint8)):
                impulse.classify(picture)
        finally:
            impulse.close()
        return Found(info, copy.read_bytes())


def map_labels(theirs: Sequence[str], ours: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Which of our labels each of theirs counts for.

    A label without a word in ``given`` counts for the one of ours with its name, whatever its case, spaces, dashes
    and underscores.

    Args:
        theirs: The ``.eim``'s.
        ours: The fleet's.
        given: Theirs to ours, or to nothing.

    Returns:
        Every one of theirs: one of ours, or empty for none.

    Raises:
        ConfigError: A label of theirs is unknown here, or one that was given is nobody's.
    """
    for label, meant in given.items():
        if label not in theirs:
            raise ConfigError(f"The .eim has no label {label!r}", do=f"Its labels: {', '.join(theirs)}")
        if meant and meant not in ours:
            raise ConfigError(f"There is no label {meant!r} here", do=f"Ours: {', '.join(ours)}")
    by_name = {_plain(label): label for label in ours}
    mapped = {label: given.get(label, by_name.get(_plain(label))) for label in theirs}
    unknown = [label for label, meant in mapped.items() if meant is None]
    if unknown:
        example = unknown[0]
        raise ConfigError(
            f"Nobody here knows what the .eim means by {', '.join(unknown)}",
            means="Nothing was written",
            do=f"Say it for each: --map '{example}=LABEL' with one of {', '.join(ours)}, or --map '{example}=' so that"
            " it counts for none of them",
        )
    known = {label: meant or "" for label, meant in mapped.items()}
    if not any(known.values()):
        raise ConfigError("Every label of the .eim counts for none of ours", do=f"Map one to {' or '.join(ours)}")
    return known


def add(
    shelf: Shelf,
    key_path: Path,
    found: Found,
    *,
    labels: tuple[str, ...],
    theirs: Mapping[str, str],
    name: str,
    fleet: str,
) -> Manifest:
    """Put it on the shelf, or find it there: the same file with the same map is the same version.

    Args:
        shelf: The camera's.
        key_path: Of the key that signs local versions; made where it is missing.
        found: The file.
        labels: Ours.
        theirs: What each label of its counts for.
        name: What people will call it; empty for its project's.
        fleet: Its camera's.

    Raises:
        ModelError: It can't be.
        OSError: The disk refused. The shelf is as it was.
    """
    with _alone(shelf):
        key = _key(shelf, key_path)
        part, foreign = Part.of(found.data), Foreign(_named(name or found.info.name), dict(theirs))
        version = shelf.next_local
        here = _same(shelf, part, foreign, labels)
        if here:
            if not shelf.has(part.sha256):
                write_atomically(shelf.root / "parts" / part.sha256, found.data)
            return here
        manifest = Manifest(
            fleet=fleet,
            version=version,
            parent=None,
            labels=labels,
            input=found.info.input,
            hidden_units=0,
            feature_count=0,
            parts={"impulse": part},
            metrics={},
            night=None,
            created_utc=datetime.now(UTC),
            foreign=foreign,
        )
        text = manifest.to_bytes()
        return shelf.add_local(text, key.sign(text), found.data)


def _plain(label: str) -> str:
    return "".join(letter for letter in label.casefold() if letter not in " -_")


def _named(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable()).strip()[:_NAME] or "unnamed"


def _same(shelf: Shelf, part: Part, foreign: Foreign, labels: tuple[str, ...]) -> Manifest | None:
    for version in filter(is_local, shelf.versions()):
        try:
            there = shelf.manifest(version)
        except ModelError:  # damaged, or signed with a key that is gone: it counts as another
            continue
        if (there.parts["impulse"], there.foreign, there.labels) == (part, foreign, labels):
            shelf.discard_damaged(part)
            return there
    return None


def _key(shelf: Shelf, path: Path) -> Ed25519PrivateKey:
    """This camera's key for local versions; a new one where it is missing or was damaged."""
    try:
        key = load_signing_key(path)
    except SignatureError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new_signing_key(path)
        key = load_signing_key(path)
    pem = public_pem(key.public_key())
    if not shelf.local_key.exists() or shelf.local_key.read_bytes() != pem:
        write_atomically(shelf.local_key, pem)
    return key


@contextmanager
def _alone(shelf: Shelf) -> Iterator[None]:
    """One at a time: two would give the same number to two versions."""
    with (shelf.root / "local.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
