"""An enrolled camera in a folder, made as a person makes one: a bundle from a server, and ``enrol``."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from PIL import Image

from appliance.fleet import enrol, write_bundle
from appliance.models.signing import public_pem
from appliance.paths import CameraPaths
from server.certificates import make_certificates
from server.paths import ServerPaths


class Fleet(Protocol):
    """Whoever signs versions."""

    public_key: Ed25519PublicKey

    def version(self, number: int) -> tuple[bytes, bytes, dict[str, bytes]]:
        """(manifest, signature, parts by SHA-256)."""


def join(root: Path, fleet: Fleet, *, name: str, port: int = 9443) -> CameraPaths:
    """Enrol the camera whose state folder is ``state``, with version 1; its bundle stays beside it."""
    server = ServerPaths(root / "server")
    server.root.mkdir()
    make_certificates(server, fleet=name, host="127.0.0.1")
    manifest, signature, parts = fleet.version(1)
    write_bundle(
        root / "camera.bundle",
        name=name,
        host="127.0.0.1",
        port=port,
        certificate_authority=server.ca_certificate.read_bytes(),
        signing_key=public_pem(fleet.public_key),
        manifest=manifest,
        signature=signature,
        parts=parts,
    )
    paths = CameraPaths(root / "state")
    enrol(paths, root / "camera.bundle")
    return paths


def replay(root: Path, fleet: Fleet, *, page_port: int, rate_fps: float, more: str = "") -> Path:
    """An enrolled camera that replays two small pictures: its sitecam.toml, ``more`` at the end."""
    join(root, fleet, name="test fleet")
    (root / "pictures").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "pictures" / f"{number}.png")
    path = root / "sitecam.toml"
    path.write_text(
        f'state_dir = "state"\n[camera]\nname = "gate"\nsource = "folder"\npath = "pictures"\nrate_fps = {rate_fps}\n'
        f"[page]\nport = {page_port}\n{more}",
        encoding="utf-8",
    )
    return path
