"""The fleet's own certificate authority and the SuperLink's TLS certificate."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.errors import CertificateError
from appliance.files import write_atomically
from server.paths import ServerPaths

_CA_DAYS = 3650
_TLS_DAYS = 825  # what browsers and phones accept from a private authority


def make_certificates(paths: ServerPaths, *, fleet: str, host: str) -> None:
    """Make the authority and a certificate for ``host``, with loopback for programs on the server itself.

    Args:
        paths: Where they go; existing files are replaced.
        fleet: Named in the authority's certificate.
        host: Name or address by which cameras reach the server.
    """
    now = datetime.now(UTC) - timedelta(minutes=5)  # a camera whose clock is a little behind
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Sitecam {fleet}"[:64])])
    ca = (
        x509.CertificateBuilder()
        .subject_name(ca_name)
        .issuer_name(ca_name)
        .public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=_CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    paths.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(paths.ca_key, _private_pem(ca_key), mode=0o600)
    write_atomically(paths.ca_certificate, ca.public_bytes(serialization.Encoding.PEM))
    _issue(paths, ca, ca_key, host)


def renew_tls(paths: ServerPaths, *, host: str) -> None:
    """Make a new TLS certificate by the same authority: cameras need not be enrolled again.

    Raises:
        CertificateError: The authority's key or certificate can't be used.
    """
    try:
        ca = x509.load_pem_x509_certificate(paths.ca_certificate.read_bytes())
        ca_key = serialization.load_pem_private_key(paths.ca_key.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise CertificateError(
            f"The certificate authority can't be used ({error})", do=f"Restore {paths.root} from a backup"
        ) from error
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{paths.ca_key} is not our kind of key", do=f"Restore {paths.root} from a backup")
    _issue(paths, ca, ca_key, host)


def _issue(paths: ServerPaths, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, host: str) -> None:
    now = datetime.now(UTC) - timedelta(minutes=5)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=_TLS_DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    write_atomically(paths.tls_key, _private_pem(key), mode=0o600)
    write_atomically(paths.tls_certificate, certificate.public_bytes(serialization.Encoding.PEM))


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def check_certificate(paths: ServerPaths) -> None:
    """Look at the TLS certificate before a night relies on it.

    Raises:
        CertificateError: A file is missing or unreadable, or the certificate has run out.
    """
    try:
        certificate = x509.load_pem_x509_certificate(paths.tls_certificate.read_bytes())
        authority = x509.load_pem_x509_certificate(paths.ca_certificate.read_bytes())
        certificate.verify_directly_issued_by(authority)
        key = serialization.load_pem_private_key(paths.tls_key.read_bytes(), password=None)
        if key.public_key() != certificate.public_key():
            raise ValueError("the TLS key is not the certificate's")
    except Exception as error:  # OSError, ValueError, InvalidSignature, UnsupportedAlgorithm: all mean this
        raise CertificateError(
            f"The server's TLS files can't be used ({error or type(error).__name__})",
            means="The SuperLink can't start, so no camera can train",
            do=f"Restore {paths.root} from a backup; making new ones means enrolling every camera again",
        ) from error
    if certificate.not_valid_after_utc < datetime.now(UTC):
        raise CertificateError(
            f"The server's TLS certificate ran out on {certificate.not_valid_after_utc:%Y-%m-%d}",
            means="Cameras refuse it",
            do="Check the clock; if it is right, run sitecam-server init --renew-tls",
        )


def _names(host: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    try:
        own: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        own = x509.DNSName(host)
    return names if own in names else [*names, own]


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
