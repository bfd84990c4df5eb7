"""The page's TLS key and certificate on disk: made here, read here, and what they are worth.

The key is P-256, because every browser takes it and a Pi Zero signs with it in a millisecond; it stays the same when
the certificate is renewed, so that the two files fit each other whenever the power goes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.errors import CertificateError
from appliance.files import write_atomically
from appliance.page_names import general_names, names_in
from appliance.paths import CameraPaths

logger = logging.getLogger(__name__)

_OWN_DAYS = 825  # what browsers and phones accept


@dataclass(frozen=True)
class PageMaterial:
    """The certificate that the page shows.

    Attributes:
        fleets: Whether the fleet's authority signed it; else this camera did itself.
        names: In it.
        begins_utc: From when it counts.
        ends_utc: Until when.
        fingerprint: SHA-256 of it, 64 hex digits.
    """

    fleets: bool
    names: tuple[str, ...]
    begins_utc: datetime
    ends_utc: datetime
    fingerprint: str

    def share_left(self, now: datetime) -> float:
        """How much of its life is left, 0 to 1; 0 too where it does not count yet."""
        if now < self.begins_utc:
            return 0.0
        return max(0.0, (self.ends_utc - now) / (self.ends_utc - self.begins_utc))


def read_material(paths: CameraPaths) -> PageMaterial | None:
    """What is on disk; None where there is no certificate, or none that fits the key.

    Raises:
        CertificateError: The files are there and may not be read by this user.
    """
    try:
        key = _read_key(paths)
        certificate = x509.load_pem_x509_certificate(paths.page_certificate.read_bytes())
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if certificate.public_key() != key.public_key():
            raise ValueError("the key is another certificate's")
        return PageMaterial(
            fleets=_by_the_fleet(paths, certificate),
            names=tuple(names_in(alternatives)),
            begins_utc=certificate.not_valid_before_utc,
            ends_utc=certificate.not_valid_after_utc,
            fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        )
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise CertificateError(
            f"The page's key can't be read ({error})", do="Run this as root, or as the user of the camera service"
        ) from error
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound) as error:
        logger.warning("The page's certificate can't be used (%s); another is made", error)
        return None


def make_own(paths: CameraPaths, names: Sequence[str], now: datetime) -> PageMaterial:
    """Sign a certificate for the page with its own key, making the key where there is none.

    Args:
        paths: The camera's.
        names: What goes into it.
        now: UTC.

    Raises:
        CertificateError: The files can't be written.
    """
    key = page_key(paths)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sitecam, signed by this camera itself")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))  # a browser whose clock is a little behind
        .not_valid_after(now + timedelta(days=_OWN_DAYS))
        .add_extension(x509.SubjectAlternativeName(general_names(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(paths, certificate)
    made = read_material(paths)
    if made is None:
        raise CertificateError("The page's certificate was written and can't be read", do="Check the disk")
    return made


def make_csr(paths: CameraPaths, names: Sequence[str]) -> str:
    """A request for a certificate with these names, signed with the page's key: PEM (RFC 2986).

    Raises:
        CertificateError: The key can't be made.
    """
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(general_names(names)), critical=False)
    return builder.sign(page_key(paths), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def take_fleets(paths: CameraPaths, pem: str, now: datetime) -> PageMaterial:
    """Put a certificate from the fleet in place of what is there.

    Args:
        paths: The camera's.
        pem: As the server sent it.
        now: UTC.

    Raises:
        CertificateError: It is not this fleet's, not for this key, or does not count now; nothing was changed.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        if not _by_the_fleet(paths, certificate):
            raise ValueError("another authority signed it")
        if certificate.public_key() != page_key(paths).public_key():
            raise ValueError("it is for another key")
        if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
            raise ValueError(f"it counts from {certificate.not_valid_before_utc} to {certificate.not_valid_after_utc}")
    except (ValueError, TypeError) as error:
        raise CertificateError(
            f"The server sent a certificate that can't be used: {error}",
            means="The page keeps the one that it has",
            do="Check this camera's clock; upgrade the server",
        ) from error
    _write(paths, certificate)
    made = read_material(paths)
    if made is None:
        raise CertificateError("The page's certificate was written and can't be read", do="Check the disk")
    return made


def page_key(paths: CameraPaths) -> ec.EllipticCurvePrivateKey:
    """The page's key, readable by its owner only; made where there is none, or none that can be used.

    Raises:
        CertificateError: It can't be written.
    """
    try:
        return _read_key(paths)
    except (FileNotFoundError, ValueError, TypeError) as error:
        if not isinstance(error, FileNotFoundError):
            logger.warning("The page's key can't be used (%s); another is made", error)
    except OSError as error:
        raise _unwritable(error) from error
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    try:
        paths.page_key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(paths.page_key, pem, mode=0o600)
    except OSError as error:
        raise _unwritable(error) from error
    return key


def _read_key(paths: CameraPaths) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(paths.page_key.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("it is no elliptic-curve key")
    return key


def _by_the_fleet(paths: CameraPaths, certificate: x509.Certificate) -> bool:
    """Whether the authority of the fleet that this camera belongs to now signed it."""
    try:
        authority = x509.load_pem_x509_certificate((paths.fleet / "ca.pem").read_bytes())
        certificate.verify_directly_issued_by(authority)
    except (FileNotFoundError, ValueError, TypeError, InvalidSignature):
        return False
    return True


def _write(paths: CameraPaths, certificate: x509.Certificate) -> None:
    try:
        write_atomically(paths.page_certificate, certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise _unwritable(error) from error


def _unwritable(error: OSError) -> CertificateError:
    return CertificateError(
        f"The page's key and certificate can't be written ({error})",
        means="The page can't be served over HTTPS",
        do="Make room on the disk, and let the camera's user write to its state folder",
    )
