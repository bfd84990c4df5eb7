"""Reads what cameras say at the enrol door, field by field; nothing in it is believed yet."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from appliance.errors import ConfigError
from appliance.join_code import NONCE_BYTES
from server.enrol import read_key


def garbled(why: str) -> ConfigError:
    """The refusal of a message that isn't the protocol's."""
    return ConfigError(
        f"This message is not as the join protocol has it: {why}",
        means="Camera and server may be of different releases",
        do="Upgrade both",
    )


def text_of(message: Any, field: str) -> str:
    """A text.

    Raises:
        ConfigError: It isn't there, or no text.
    """
    value = message.get(field) if isinstance(message, dict) else None
    if not isinstance(value, str) or any("\ud800" <= symbol <= "\udfff" for symbol in value):
        raise garbled(f"{field} is missing, or no text")
    return value


def bytes_of(message: Any, field: str) -> bytes:
    """Bytes, from base64.

    Raises:
        ConfigError: It isn't there, or no base64.
    """
    try:
        return b64decode(text_of(message, field), validate=True)
    except (binascii.Error, ValueError) as error:
        raise garbled(f"{field} is not base64") from error


def nonce_of(message: Any, field: str) -> bytes:
    """A nonce.

    Raises:
        ConfigError: It isn't there, or of another length.
    """
    value = bytes_of(message, field)
    if len(value) != NONCE_BYTES:
        raise garbled(f"{field} has {len(value)} bytes")
    return value


def public_key_of(message: Any) -> str:
    """The camera's key in its one form, see :func:`server.enrol.read_key`.

    Raises:
        ConfigError: It isn't there, or no key.
    """
    try:
        return read_key(text_of(message, "public_key"))
    except ValueError as error:
        raise garbled(f"public_key: {error}") from error


def signed_by(public_key: str, signature: bytes, words: bytes) -> bool:
    """Whether whoever has the private half of a camera's key signed these words.

    Args:
        public_key: As :func:`public_key_of` gives it.
        signature: ECDSA with SHA-256.
        words: What was signed.
    """
    key = load_ssh_public_key(public_key.encode())
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False  # read_key has made sure that it is one
    try:
        key.verify(signature, words, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True
