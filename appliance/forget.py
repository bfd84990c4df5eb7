"""Forgets a camera: wipes everything in its state folder, and leaves a proof of what was there and what is left.

A marker is written first, with an account of what is there. While it stands, every start goes on wiping before it
does anything else, so that a power cut in the middle leaves nothing half forgotten. Secret keys go first: without
them the card's finder can't speak as this camera. The proof comes last, and then the marker goes.

Files that hold secrets are overwritten before they are unlinked. That is worth less than it looks: a card's
controller writes elsewhere and keeps the old blocks until it needs them. The proof says so.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.errors import StoreError
from appliance.files import sync_folder, write_atomically
from appliance.forget_account import KINDS, OTHER, Found, account, counted, files_below, fingerprints, kind_of, versions
from appliance.paths import CameraPaths

logger = logging.getLogger(__name__)

MARKER = "forgetting.json"
PROOF = "forgotten.json"
FORGOTTEN_EXIT_CODE = 78  # EX_CONFIG of sysexits.h: there is nothing to run; RestartPreventExitStatus= names it

_SECRET = ("keys", "joining.json", "flower", "fleet")
_FLASH = (
    "Secrets were overwritten and everything was deleted. Flash memory may keep copies of both until it uses those"
    " blocks again: who must be certain destroys the card, or keeps its state folder encrypted."
)
_PAGE_LEFT = "What the page itself still needs to answer goes as its process ends, in a moment."
_OTHERS_LEFT = "Another process goes on writing here: stop it (sitecam-night?); the camera's next start wipes the rest."
_PASSES = 5  # another process may still write while we wipe


@dataclass(frozen=True)
class Proof:
    """That a camera was forgotten. Times are UTC, ISO 8601.

    Attributes:
        id: Tells one forgetting from another.
        camera: Its name.
        by: Who asked.
        asked_utc: When.
        finished_utc: When the folder was looked through afterwards; empty before.
        was: What was there, by kind.
        frames: Pictures that the store knew; None where that could not be counted.
        labelled: Of which so many were labelled; likewise.
        versions: Model versions that this camera held.
        fingerprints: SHA-256 of its public keys and certificates, by file.
        remains: Files that are still there, the proof aside; empty where everything is gone.
        sentences: What else to know.
    """

    id: str
    camera: str
    by: str
    asked_utc: str
    finished_utc: str = ""
    was: Mapping[str, Found] = field(default_factory=dict)
    frames: int | None = None
    labelled: int | None = None
    versions: tuple[int, ...] = ()
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    remains: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For programs, the marker and the proof's file."""
        return asdict(self)

    @staticmethod
    def from_json(body: Mapping[str, Any]) -> Proof:
        """Read what :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError: It isn't one.
        """
        was = {str(kind): Found(**found) for kind, found in body["was"].items()}
        lists = {name: tuple(body[name]) for name in ("versions", "remains", "sentences")}
        return Proof(**{**body, "was": was, **lists})

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{self.camera} was forgotten, as {self.by} asked at {self.asked_utc}."]
        lines += [
            f"  {kind:<18} {found.files:>7} files {found.size_bytes:>14,} bytes" for kind, found in self.was.items()
        ]
        lines += [f"  {name}: SHA-256 {digest}" for name, digest in self.fingerprints.items()]
        left = f"still there: {', '.join(self.remains)}" if self.remains else "nothing is left but this proof"
        return "\n".join([*lines, f"Looked through at {self.finished_utc}: {left}.", *self.sentences])


def begin(
    paths: CameraPaths, *, camera: str, by: str, token: str = "", step: Callable[[str], None] = lambda _: None
) -> Proof:
    """Write the marker, with an account of what is there: from here on there is no way back.

    Where the disk is too full for it, pictures go first until it fits. A marker that is there already stands.

    Args:
        paths: The camera's state folder.
        camera: Its name.
        by: Who asked.
        token: The forgetting's id; a new one if left out.
        step: Told of every step; for tests that pull the plug.

    Raises:
        OSError: The disk refused; the camera is not forgotten.
    """
    if is_forgetting(paths):
        return _read_marker(paths.root)
    was = account(paths.root)
    frames, labelled = counted(paths)
    proof = Proof(
        id=token or secrets.token_hex(8),
        camera=camera,
        by=by,
        asked_utc=_now(),
        was=was,
        frames=frames,
        labelled=labelled,
        versions=versions(paths),
        fingerprints=fingerprints(paths),
        sentences=(_server_knows(paths, camera), _FLASH),
    )
    pictures = (paths.store / "frames").glob("*/*.jpg")
    while True:
        try:
            write_atomically(paths.root / MARKER, json.dumps(proof.to_json(), indent=1).encode() + b"\n")
        except OSError as error:
            victim = next(pictures, None)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or victim is None:
                raise
            victim.unlink(missing_ok=True)
        else:
            step("marker")
            return proof


def wipe(
    paths: CameraPaths,
    *,
    keep: tuple[str, ...] = (),
    step: Callable[[str], None] = lambda _: None,
) -> Proof:
    """Wipe everything, as the marker asks, look through the folder, write the proof, and remove the marker.

    Doing it again goes on where a power cut ended it.

    Args:
        paths: The camera's state folder.
        keep: Files or folders that a running process still needs, relative to it: the proof then lists them as
            remaining, and the marker stays.
        step: Told of every step; for tests that pull the plug.

    Returns:
        The proof.

    Raises:
        StoreError: There is no marker: nobody asked.
        OSError: The disk refused; the marker stays, and the next start goes on.
    """
    root = paths.root
    proof = _read_marker(root)
    for _ in range(_PASSES):
        for path in _in_order(root, keep):
            _remove(root, path, step)
        _remove_folders(root, keep)
        if not list(_in_order(root, keep)):
            break
    left = [path for path in files_below(root) if path not in (root / MARKER, root / PROOF)]
    remains = tuple(sorted(str(path.relative_to(root)) for path in left))
    sentences = proof.sentences
    if remains:
        sentences = (*sentences, _PAGE_LEFT if keep else _OTHERS_LEFT)
    proof = replace(proof, finished_utc=_now(), remains=remains, sentences=sentences)
    write_atomically(root / PROOF, json.dumps(proof.to_json(), indent=1).encode() + b"\n")
    step("proof")
    if not remains:
        (root / MARKER).unlink()
        sync_folder(root)
        step("done")
    return proof


def is_forgetting(paths: CameraPaths) -> bool:
    """Whether somebody asked for it, and it is not finished: nothing else may be started here."""
    return (paths.root / MARKER).exists()


def read_proof(paths: CameraPaths) -> Proof | None:
    """The proof of the last forgetting; None where there is none.

    Raises:
        StoreError: It can't be read.
    """
    return _read(paths.root / PROOF)


def _read_marker(root: Path) -> Proof:
    """The marker; where damage made it unreadable it still asks, and only the account is lost."""
    try:
        proof = _read(root / MARKER)
    except StoreError as error:
        logger.error("%s", error)
        sentences = ("The account of what was there could not be read any more.", _FLASH)
        return Proof(secrets.token_hex(8), "?", "?", _now(), sentences=sentences)
    if proof is None:
        raise StoreError("Nobody asked to forget this camera", means="Nothing was deleted")
    return proof


def _read(path: Path) -> Proof | None:
    try:
        return Proof.from_json(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} can't be read ({error!r})", do="Ask again to forget this camera") from error


def _server_knows(paths: CameraPaths, camera: str) -> str:
    if not (paths.fleet / "fleet.json").exists():
        return "This camera was in no fleet: no server knows it."
    return (
        "The fleet's server still has this camera's name, its public key, counts and verdicts, and models that learned"
        f" from its frames. `sitecam-server revoke {camera}` there puts it out for good."
    )


# Wiping


def _in_order(root: Path, keep: tuple[str, ...]) -> list[Path]:
    """What has to go, secrets first."""
    order = {kind: number for number, kind in enumerate((*KINDS, OTHER))}
    kept = tuple(root / name for name in keep)
    wanted = [
        path
        for path in files_below(root)
        if path not in (root / MARKER, root / PROOF) and not any(path == each or each in path.parents for each in kept)
    ]
    return sorted(wanted, key=lambda path: (order[kind_of(root, path)], path))


def _remove(root: Path, path: Path, step: Callable[[str], None]) -> None:
    name = path.relative_to(root)
    try:
        if path.is_symlink():
            target = path.readlink()
            if target.name == path.name:  # the status, which lies in memory
                target.unlink(missing_ok=True)
        elif name.parts[0] in _SECRET and path.is_file():
            _overwrite(path)
            step(f"overwritten {name}")
        path.unlink()
    except FileNotFoundError:
        return  # another process took it away itself
    if name.parts[0] in _SECRET:
        sync_folder(path.parent)  # before anything else goes
    step(f"gone {name}")


def _overwrite(path: Path) -> None:
    with path.open("r+b", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        written = 0
        while written < size:
            written += file.write(os.urandom(min(65536, size - written)))
        os.fsync(file.fileno())


def _remove_folders(root: Path, keep: tuple[str, ...]) -> None:
    """Empty folders; one that isn't has just got a file, and is looked at again."""
    kept = tuple(root / name for name in keep)
    for folder, _, _ in os.walk(root, topdown=False):
        path = Path(folder)
        if path != root and path not in kept and not any(path in each.parents for each in kept):
            try:
                path.rmdir()
            except OSError as error:
                logger.info("%s is not empty yet (%s)", path, error.strerror)
    sync_folder(root)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
