"""What a join code is, and what server and camera prove to each other with it: the words that both sides share.

A code has 60 bits: four symbols are its public name, eight are a secret of 40. Whoever knows the secret derives a key
from it with scrypt (RFC 7914) and proves that with an HMAC (RFC 2104) over everything that the two have told each
other. The secret itself never travels.

Why 40 bits are enough. A stranger in the middle sees both proofs, and may guess the secret at home until one fits. A
guess costs a scrypt of 32 MB, about 50 ms of a core: all of them would take 1,700 core-years, and the code is worth
nothing any more after a quarter of an hour, or once it was used. Guessing at the server fails after a few tries. A
PAKE would make guessing at home impossible; no library of ours has one, and we don't write our own.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from appliance.errors import CertificateError, ConfigError

SCHEME = "sitecam-join"
DOOR_PORT = 9443  # where an installed server lets cameras in
NONCE_BYTES = 16
PREFIX = "/v1/enrol/"

_SYMBOLS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base32: no I, L, O, U
_READ_AS = str.maketrans("OIL", "011")
_ID_SYMBOLS = 4
_SECRET_SYMBOLS = 8
_SCRYPT = {"n": 2**15, "r": 8, "p": 1, "maxmem": 64 * 2**20, "dklen": 32}  # 32 MB: a 512 MB Pi can afford it once


@dataclass(frozen=True)
class Code:
    """A join code.

    Attributes:
        id: Its public name, four symbols.
        secret: Eight symbols.
    """

    id: str
    secret: str

    def __str__(self) -> str:
        text = self.id + self.secret
        return "-".join(text[start : start + 4] for start in range(0, len(text), 4))

    def __repr__(self) -> str:
        """Without the secret: a code must not end up in a log."""
        return f"Code({self.id})"

    def key(self) -> bytes:
        """What both sides prove that they know, 32 bytes."""
        return hashlib.scrypt(self.secret.encode(), salt=f"sitecam join {self.id}".encode(), **_SCRYPT)


@dataclass(frozen=True)
class Invitation:
    """A code, where to take it, and what must answer there.

    Attributes:
        code: The code.
        host: The server, as cameras reach it.
        port: Likewise.
        fingerprint: SHA-256 of the fleet's CA certificate, 64 hex digits; empty where a person typed the code.
    """

    code: Code
    host: str
    port: int
    fingerprint: str = ""

    @property
    def uri(self) -> str:
        """What the QR code holds."""
        return f"{SCHEME}://{address(self.host, self.port)}/{self.code}#{self.fingerprint}"


def new_code() -> Code:
    """A fresh code, from the system's random numbers."""
    symbols = "".join(secrets.choice(_SYMBOLS) for _ in range(_ID_SYMBOLS + _SECRET_SYMBOLS))
    return Code(symbols[:_ID_SYMBOLS], symbols[_ID_SYMBOLS:])


def read_code(text: str) -> Code:
    """Read a code as people type it: lower case, O for 0, I or L for 1, with or without dashes and spaces.

    Raises:
        ConfigError: It is no code.
    """
    symbols = re.sub(r"[\s\-]", "", text).upper().translate(_READ_AS)
    wrong = sorted(set(symbols) - set(_SYMBOLS))
    if wrong or len(symbols) != _ID_SYMBOLS + _SECRET_SYMBOLS:
        why = f"{' '.join(wrong)} can't be in one" if wrong else f"it has {len(symbols)} symbols, not 12"
        raise ConfigError(f"That is not a join code: {why}", do="Type it as the server shows it, like K7QF-2M9X-4PTR")
    return Code(symbols[:_ID_SYMBOLS], symbols[_ID_SYMBOLS:])


def read_uri(text: str) -> Invitation:
    """Read what a QR code holds.

    Raises:
        ConfigError: It is no invitation.
    """
    try:
        parts = urlsplit(text.strip())
        host, port, fingerprint = parts.hostname, parts.port, parts.fragment.lower()
    except ValueError as error:
        raise ConfigError(f"That is not an invitation ({error})", do="Take it from the server once more") from error
    if parts.scheme != SCHEME or not host or not port or not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
        raise ConfigError(
            "That is not an invitation to a fleet", do=f"It begins with {SCHEME}:// and ends with 64 hex digits"
        )
    return Invitation(read_code(parts.path.strip("/")), host, port, fingerprint)


def read_address(text: str) -> tuple[str, int]:
    """Read ``host:port`` or ``https://host:port/``, IPv6 in brackets; without a port the installed server's.

    Raises:
        ConfigError: It isn't one.
    """
    if text.startswith("http://"):
        raise ConfigError(
            f"{text!r} is not encrypted", means="Nothing was sent", do="Write it like https://site-server:9443"
        )
    try:
        parts = urlsplit(f"//{text.removeprefix('https://').removesuffix('/')}")
        if parts.hostname and not (parts.path or parts.query or parts.fragment or parts.username or parts.port == 0):
            return parts.hostname, parts.port or DOOR_PORT
    except ValueError:
        pass  # said below, with what to do
    raise ConfigError(f"{text!r} is not an address", do="Write it as https://host:port, as the server shows it")


def address(host: str, port: int) -> str:
    """``host:port``, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def server_proof(key: bytes, camera_nonce: bytes, server_nonce: bytes, ca: bytes, signing_key: bytes) -> bytes:
    """The server's: these are my fleet's authority and signing key, and I know the code."""
    return _proof(key, b"server", camera_nonce, server_nonce, ca, signing_key)


def camera_proof(key: bytes, camera_nonce: bytes, server_nonce: bytes, name: str, public_key: str) -> bytes:
    """The camera's: this is my name and my public key, and I know the code."""
    return _proof(key, b"camera", camera_nonce, server_nonce, name.encode(), public_key.encode())


def same(proof: bytes, other: bytes) -> bool:
    """Compare two proofs in constant time."""
    return hmac.compare_digest(proof, other)


def ca_fingerprint(ca: bytes) -> str:
    """SHA-256 of a certificate, 64 hex digits.

    Args:
        ca: PEM.

    Raises:
        CertificateError: It is no certificate.
    """
    try:
        return x509.load_pem_x509_certificate(ca).fingerprint(hashes.SHA256()).hex()
    except ValueError as error:
        raise CertificateError(f"The fleet's authority is not a certificate ({error})") from error


def key_fingerprint(public_key: str) -> str:
    """SHA-256 of a camera's public key, 64 hex digits.

    Args:
        public_key: OpenSSH's form, one line.

    Raises:
        ValueError: It is no key.
        UnsupportedAlgorithm: It is one of a kind that nobody here knows.
    """
    return _key_fingerprint(serialization.load_ssh_public_key(public_key.encode()))


def pem_fingerprint(public_key: bytes) -> str:
    """The same for a key in PEM, as Flower keeps it.

    Raises:
        ValueError: It is no key.
    """
    return _key_fingerprint(serialization.load_pem_public_key(public_key))


def short(fingerprint: str) -> str:
    """A fingerprint as people compare it: its first 16 hex digits in groups of four."""
    return " ".join(fingerprint[start : start + 4] for start in range(0, 16, 4)).upper()


def transcript(camera_nonce: bytes, server_nonce: bytes, name: str, public_key: str) -> bytes:
    """What a camera signs with its own key: it has the private half of the key that it shows."""
    return _joined(b"sitecam join request", camera_nonce, server_nonce, name.encode(), public_key.encode())


def _key_fingerprint(key: PublicKeyTypes) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _proof(key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, _joined(*parts), "sha256")


def _joined(*parts: bytes) -> bytes:
    """Each part with its length before it, so that no two lists of parts give the same bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
