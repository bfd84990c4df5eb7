"""What a camera knows of its fleet: name, server, certificate authority and signing key.

Enrolment brings these in one file, the *bundle*, which holds nothing secret: the camera's own private key is made
on the camera and never leaves it.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from appliance.errors import CertificateError, ModelError
from appliance.files import write_atomically
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from appliance.paths import CameraPaths

_FACTS = ("fleet.json", "ca.pem", "signing.pem")
_FILES = (*_FACTS, "manifest.json", "manifest.sig")
_MAX_BUNDLE_BYTES = 200 * 2**20


@dataclass(frozen=True)
class Fleet:
    """A camera's fleet.

    Attributes:
        name: As its people call it.
        address: Host and port of the server's Fleet API.
        signing_key: Models must be signed by it.
        door: Host and port where the server lets cameras in and signs their pages' certificates. A bundle of before
            0.2 does not say; then what is tried is the Fleet API's, which is right behind a proxy.
    """

    name: str
    address: tuple[str, int]
    signing_key: Ed25519PublicKey
    door: tuple[str, int]


def load_fleet(folder: Path) -> Fleet:
    """Read what enrolment brought.

    Raises:
        CertificateError: The camera isn't enrolled, or a file is damaged.
    """
    try:
        return _fleet({name: (folder / name).read_bytes() for name in _FACTS})
    except FileNotFoundError as error:
        raise CertificateError(
            f"This camera isn't enrolled: {error.filename} is missing",
            means="It has no fleet to train with and no model to run",
            do="Run sitecam enrol with a code that sitecam-server code shows, or with a bundle of sitecam-server enrol",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, ModelError) as error:
        raise CertificateError(
            f"The fleet's files in {folder} can't be read ({error})", do="Enrol this camera again"
        ) from error


def make_node_key(paths: CameraPaths) -> Path:
    """Make this camera's key pair where it has none; return the public half's path.

    NIST P-384, as Flower's node authentication wants it; the public half in OpenSSH's form.
    """
    if not paths.node_key.exists():
        paths.node_key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = ec.generate_private_key(ec.SECP384R1())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        write_atomically(paths.node_public_key, public + b"\n")
        write_atomically(paths.node_key, private, mode=0o600)
    return paths.node_public_key


def read_node_public_key(paths: CameraPaths) -> str:
    """The public half of this camera's key, made where there is none: OpenSSH's form, one line, no comment."""
    return " ".join(make_node_key(paths).read_text(encoding="ascii").split()[:2])


def node_signature(paths: CameraPaths, data: bytes) -> bytes:
    """Sign with this camera's key: ECDSA with SHA-256.

    Raises:
        CertificateError: The key can't be used.
    """
    try:
        key = serialization.load_ssh_private_key(paths.node_key.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise CertificateError(
            f"This camera's key {paths.node_key} can't be read ({error})",
            do=f"Remove {paths.node_key.parent}: a new key is made then",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{paths.node_key} holds another kind of key", do="Remove it: a new one is made then")
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def make_bundle(
    *,
    name: str,
    host: str,
    port: int,
    certificate_authority: bytes,
    signing_key: bytes,
    manifest: bytes,
    signature: bytes,
    parts: Mapping[str, bytes],
    door_port: int = 0,
) -> bytes:
    """What a new camera of this fleet needs, as the content of a zip file.

    Args:
        name: The fleet's.
        host: Of the server, as cameras reach it.
        port: Likewise.
        certificate_authority: PEM.
        signing_key: The public half, PEM.
        manifest: Of the model to start with, as signed.
        signature: Over it.
        parts: Its parts' content by SHA-256.
        door_port: Where on ``host`` cameras are let in; 0 where it is ``port`` too.
    """
    buffer = io.BytesIO()
    facts = {"name": name, "host": host, "port": port, "door_port": door_port or port}
    fleet = json.dumps(facts, sort_keys=True).encode()
    contents = (fleet, certificate_authority, signing_key, manifest, signature)
    with zipfile.ZipFile(buffer, "w") as bundle:
        for file, data in zip(_FILES, contents, strict=True):
            bundle.writestr(zipfile.ZipInfo(file), data)
        for digest, data in sorted(parts.items()):
            bundle.writestr(zipfile.ZipInfo(f"parts/{digest}"), data)
    return buffer.getvalue()


def write_bundle(path: Path, **facts: Any) -> None:
    """Write a bundle to a file; ``facts`` as :func:`make_bundle` takes them."""
    write_atomically(path, make_bundle(**facts))


def enrol(paths: CameraPaths, bundle: Path, *, expected: Mapping[str, bytes] | None = None) -> int:
    """Make this camera a member of the fleet that wrote the bundle, and put its first model on the shelf.

    Args:
        paths: The camera's.
        bundle: A file that :func:`make_bundle` made.
        expected: Files that must be in it byte for byte, by name.

    Returns:
        The version that runs from now on.

    Raises:
        CertificateError: The bundle can't be read, or the camera belongs to another fleet already.
        ModelError: Its model is damaged or not newer than what this camera has had.
    """
    files = _read_bundle(bundle)
    if any(files.get(name) != data for name, data in (expected or {}).items()):
        raise CertificateError(
            "The bundle is another fleet's than the one that the join code proved",
            means="Nothing was changed",
            do="Ask for a new code on the server, and report this: somebody may be in between",
        )
    paths.fleet.mkdir(parents=True, exist_ok=True)
    known = paths.fleet / "signing.pem"
    if known.exists() and known.read_bytes() != files["signing.pem"]:
        raise CertificateError(
            "This camera belongs to another fleet already",
            means="Nothing was changed",
            do=f"If it should move, remove {paths.fleet} and {paths.models} first",
        )
    key = load_public_key(files["signing.pem"])
    shelf = Shelf(paths.models, key)
    parts = {name.removeprefix("parts/"): data for name, data in files.items() if name.startswith("parts/")}
    if not shelf.versions():
        shelf.note_factory(shelf.accept(files["manifest.json"], files["manifest.sig"], parts).version)
    if shelf.current is None:
        shelf.activate(shelf.versions()[-1])
    for name in ("ca.pem", "signing.pem", "fleet.json"):  # fleet.json last: it is what says "enrolled"
        write_atomically(paths.fleet / name, files[name])
    load_fleet(paths.fleet)
    current = shelf.current
    if current is None:
        raise CertificateError("No model is active after enrolment", do="Enrol this camera again")
    return current


def _fleet(files: Mapping[str, bytes]) -> Fleet:
    body = json.loads(files["fleet.json"])
    x509.load_pem_x509_certificate(files["ca.pem"])
    host, port = str(body["host"]), int(body["port"])
    return Fleet(
        name=str(body["name"]),
        address=(host, port),
        signing_key=load_public_key(files["signing.pem"]),
        door=(host, int(body.get("door_port", port))),
    )


def _read_bundle(bundle: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(bundle) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_BUNDLE_BYTES:
                raise ValueError("larger than any bundle")
            files = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        missing = [name for name in _FILES if name not in files]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing")
        _fleet(files)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise CertificateError(
            f"{bundle} is not an enrolment bundle ({error})",
            means="Nothing was changed",
            do="Copy it again from the server; sitecam-server enrol writes it",
        ) from error
    return files
