"""Ed25519 signatures of manifests: a camera runs models of its own fleet only."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.errors import SignatureError
from appliance.files import write_atomically


def new_signing_key(path: Path) -> Ed25519PublicKey:
    """Make a fleet's signing key, readable by its owner only; return the half that cameras get."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_atomically(path, pem, mode=0o600)
    return key.public_key()


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """Read the fleet's signing key.

    Raises:
        SignatureError: The file is missing or holds another kind of key.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise SignatureError(
            f"The signing key {path} can't be read ({error})", do="Restore it from the server's backup"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{path} is not an Ed25519 key", do="Restore it from the server's backup")
    return key


def public_pem(key: Ed25519PublicKey) -> bytes:
    """The public key as a PEM file's content."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def load_public_key(pem: bytes) -> Ed25519PublicKey:
    """Read a fleet's public signing key.

    Raises:
        SignatureError: It is not one.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as error:
        raise SignatureError("The fleet's public key can't be read", do="Enrol this camera again") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError("The fleet's public key is not Ed25519", do="Enrol this camera again")
    return key


def verify(data: bytes, signature: bytes, key: Ed25519PublicKey, *, whose: str = "this fleet's") -> None:
    """Return if ``signature`` is this key's over exactly ``data``.

    Args:
        data: What was signed.
        signature: 64 bytes.
        key: The public half.
        whose: Key it is, for the error.

    Raises:
        SignatureError: It isn't.
    """
    try:
        key.verify(signature, data)
    except InvalidSignature:
        raise SignatureError(
            f"The manifest's signature is not {whose}",
            means="Somebody else made it or changed it, so it isn't used; the running model stays",
            do="If the fleet's signing key was replaced, enrol this camera again",
        ) from None
