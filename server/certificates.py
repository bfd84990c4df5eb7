"""The fleet's own certificate authority, and the certificates that it signs.

People install the authority on their phones to open cameras' pages without a warning. So that this gives the site's
server no power over the rest of the internet, its own certificate says for what it may sign (name constraints, RFC
5280, 4.2.1.10): the server's name, names and addresses that exist on private networks only, and nothing else. OpenSSL
and Chromium refuse anything beyond. Authorities of before 0.2 have no such limit.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from appliance.errors import CertificateError
from appliance.files import write_atomically
from appliance.page_names import PRIVATE_NETWORKS, PRIVATE_SUFFIXES, general_names, plain_name
from server.paths import ServerPaths

_CA_DAYS = 3650
_TLS_DAYS = 825  # what browsers and phones accept from a private authority


def make_certificates(paths: ServerPaths, *, fleet: str, host: str) -> None:
    """Make the authority and a certificate for ``host``, with loopback for programs on the server itself.

    Args:
        paths: Where they go; existing files are replaced.
        fleet: Named in the authority's certificate.
        host: Name or address by which cameras reach the server; the authority can't sign for another public name later.
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
        .add_extension(x509.NameConstraints(_permitted(host), excluded_subtrees=None), critical=True)
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
        CertificateError: The authority's key or certificate can't be used, or it was not made for this host.
    """
    ca, ca_key = load_authority(paths)
    if not names_allowed_by(ca, plain_name(host)):
        raise CertificateError(
            f"The fleet's authority was not made for {host}",
            means="Nothing was changed",
            do="Set superlink.host to the name that the fleet was made with, to one that ends in .local or .internal,"
            f" or to a private address; or remove {paths.ca_certificate}, run sitecam-server init, and enrol every"
            " camera again",
        )
    _issue(paths, ca, ca_key, host)


def load_authority(paths: ServerPaths) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The fleet's authority and its key.

    Raises:
        CertificateError: They can't be used.
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
    return ca, ca_key


def sign_server_certificate(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey,
    *,
    names: Sequence[x509.GeneralName],
    common_name: str,
    now: datetime,
    days: int,
) -> x509.Certificate:
    """A certificate for a TLS server, which can sign no other.

    Args:
        ca: The authority.
        ca_key: Its key.
        public_key: The server's.
        names: By which it is reached.
        common_name: For people who look at it.
        now: UTC.
        days: How long it counts; never longer than the authority itself.
    """
    begins = now - timedelta(minutes=5)  # a clock that is a little behind
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])]))
        .issuer_name(ca.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(min(begins + timedelta(days=days), ca.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _issue(paths: ServerPaths, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, host: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = sign_server_certificate(
        ca, ca_key, key.public_key(), names=_names(host), common_name=host, now=datetime.now(UTC), days=_TLS_DAYS
    )
    write_atomically(paths.tls_key, _private_pem(key), mode=0o600)
    write_atomically(paths.tls_certificate, certificate.public_bytes(serialization.Encoding.PEM))


def names_allowed_by(ca: x509.Certificate, name: str) -> bool:
    """Whether the authority's name constraints (RFC 5280, 4.2.1.10) let it sign for a name or an address."""
    try:
        permitted = ca.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    except x509.ExtensionNotFound:
        return True
    (wanted,) = general_names([name])
    return any(_covers(subtree, wanted) for subtree in permitted)


def _covers(subtree: x509.GeneralName, name: x509.GeneralName) -> bool:
    if isinstance(subtree, x509.DNSName) and isinstance(name, x509.DNSName):
        return f".{name.value}".endswith(f".{subtree.value}")
    if isinstance(subtree, x509.IPAddress) and isinstance(name, x509.IPAddress):
        network, address = ipaddress.ip_network(str(subtree.value)), ipaddress.ip_address(str(name.value))
        return address.version == network.version and address in network
    return False


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


def _permitted(host: str) -> list[x509.GeneralName]:
    """What the authority may sign for."""
    names: list[x509.GeneralName] = [x509.DNSName(suffix) for suffix in ("localhost", "local", *PRIVATE_SUFFIXES)]
    names += [x509.IPAddress(ipaddress.ip_network(text)) for text in ("127.0.0.0/8", "::1/128")]
    names += [x509.IPAddress(network) for network in PRIVATE_NETWORKS]
    (own,) = general_names([plain_name(host)])
    if not any(_covers(subtree, own) for subtree in names):
        single = x509.IPAddress(ipaddress.ip_network(str(own.value))) if isinstance(own, x509.IPAddress) else own
        names.append(single)
    return names


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
