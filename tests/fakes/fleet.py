"""A fleet in a folder: a signing key, and versions made of tiny parts, signed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from appliance.models.manifest import Manifest, Part
from appliance.models.shelf import Shelf
from appliance.models.signing import load_signing_key, new_signing_key
from tests.fakes import parts


class TinyFleet:
    """Signs versions.

    Args:
        root: Where its key goes.
        backbone: The tiny backbone.
    """

    def __init__(self, root: Path, backbone: bytes) -> None:
        self._key_path = root / "fleet-signing.key"
        self.public_key = new_signing_key(self._key_path)
        self.backbone = backbone

    def version(self, number: int, **changes: object) -> tuple[bytes, bytes, dict[str, bytes]]:
        """(manifest, signature, parts by SHA-256) of a version whose head differs from the others'."""
        head = parts.tiny_head(seed=number).to_bytes()
        manifest = dataclasses.replace(
            parts.tiny_manifest(self.backbone, head, version=number),
            **changes,  # type: ignore[arg-type]  # a test changes what it likes
        )
        text = manifest.to_bytes()
        contents = (self.backbone, head, b"no test of the .eim needs one")
        by_hash = {part.sha256: data for part, data in zip(_parts(manifest), contents, strict=True)}
        return text, self.sign(text), by_hash

    def sign(self, data: bytes) -> bytes:
        """The fleet's signature."""
        return load_signing_key(self._key_path).sign(data)

    def shelf(self, root: Path, *versions: int) -> Shelf:
        """A shelf that holds these versions; the last one runs."""
        shelf = Shelf(root, self.public_key)
        for number in versions:
            shelf.accept(*self.version(number))
            shelf.activate(number)
        return shelf


def _parts(manifest: Manifest) -> list[Part]:
    return [manifest.parts[role] for role in ("backbone", "head", "trainer")]
