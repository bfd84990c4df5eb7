"""What a camera's state folder holds, by kind: for the proof that it was forgotten."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import load_pem_x509_certificate

from appliance.join_code import key_fingerprint
from appliance.paths import CameraPaths

logger = logging.getLogger(__name__)

#: Kinds in the order in which they are wiped, and where they lie; what lies elsewhere is "other", and goes last.
KINDS = {
    "keys, accounts": ("keys", "joining.json"),
    "pictures": ("store/frames", "store/thumbnails", "store/incoming"),
    "frames and labels": ("store/frames.sqlite",),
    "features": ("store/features.sqlite", "class-means"),
    "events": ("events", "events.jsonl"),
    "models": ("models",),
    "fleet": ("fleet",),
    "ledger": ("ledger.jsonl",),
    "flower": ("flower",),
}
OTHER = "other"


@dataclass(frozen=True)
class Found:
    """What was there of one kind.

    Attributes:
        files: How many.
        size_bytes: Of all of them.
    """

    files: int = 0
    size_bytes: int = 0


def files_below(root: Path) -> Iterator[Path]:
    """Everything below that is no folder; links are not followed, and count as files."""
    for name, folders, files in os.walk(root):
        folder = Path(name)
        yield from (folder / file for file in files)
        yield from (folder / inner for inner in folders if (folder / inner).is_symlink())


def kind_of(root: Path, path: Path) -> str:
    """What a file below the state folder is."""
    name = path.relative_to(root).as_posix()
    for kind, places in KINDS.items():
        # A database comes with -wal and -shm beside it.
        if any(name == place or name.startswith((f"{place}/", f"{place}-")) for place in places):
            return kind
    return OTHER


def account(root: Path) -> dict[str, Found]:
    """How much there is of each kind."""
    found: dict[str, Found] = {}
    for path in files_below(root):
        kind = kind_of(root, path)
        before = found.get(kind, Found())
        found[kind] = Found(before.files + 1, before.size_bytes + path.lstat().st_size)
    return {kind: found[kind] for kind in (*KINDS, OTHER) if kind in found}


def counted(paths: CameraPaths) -> tuple[int | None, int | None]:
    """Frames, and labelled ones, as the store's database has them."""
    file = paths.store / "frames.sqlite"
    if not file.exists():
        return 0, 0
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as database:
            frames, labelled = database.execute("SELECT COUNT(*), COUNT(label) FROM frames").fetchone()
            return int(frames), int(labelled)
    except sqlite3.Error as error:
        logger.warning("The frames could not be counted (%s); they are forgotten all the same", error)
        return None, None


def versions(paths: CameraPaths) -> tuple[int, ...]:
    """Model versions on the shelf, rising."""
    folder = paths.models / "versions"
    return tuple(sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit()))


def fingerprints(paths: CameraPaths) -> dict[str, str]:
    """Of what is public: who holds the server's list can compare."""
    found = {}
    for path in (paths.node_public_key, paths.page_certificate):
        try:
            if path == paths.node_public_key:
                found[path.name] = key_fingerprint(path.read_text(encoding="ascii"))
            else:
                found[path.name] = load_pem_x509_certificate(path.read_bytes()).fingerprint(hashes.SHA256()).hex()
        except FileNotFoundError:
            continue
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            logger.warning("%s has no fingerprint (%s)", path.name, error)
    return found
