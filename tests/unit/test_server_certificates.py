"""The fleet's certificate authority: its chain, held up against Python's own TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import CertificateError
from appliance.page_material import make_own
from appliance.page_names import general_names
from appliance.paths import CameraPaths
from server import certificates
from server.certificates import (
    check_certificate,
    load_authority,
    make_certificates,
    names_allowed_by,
    renew_tls,
    sign_server_certificate,
)
from server.paths import ServerPaths
from tests.fakes.tree import tree_of


def made(root: Path, host: str = "127.0.0.1") -> ServerPaths:
    paths = ServerPaths(root)
    paths.root.mkdir(parents=True)
    make_certificates(paths, fleet="north gate", host=host)
    return paths


@pytest.fixture
def paths(tmp_path: Path) -> ServerPaths:
    return made(tmp_path / "server")


@contextlib.contextmanager
def tls_server(paths: ServerPaths) -> Iterator[int]:
    """A real TLS server with these files, for one client; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths.tls_certificate, paths.tls_key)

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):  # a client that refuses us hangs up
            context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(5)


def shake_hands(paths: ServerPaths, authority: Path, name: str) -> None:
    context = ssl.create_default_context(cafile=str(authority))
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # Python's default from 3.13 on
    with (
        tls_server(paths) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        assert secure.version() == "TLSv1.3"


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_clients_that_know_the_authority_trust_the_server(paths: ServerPaths, name: str) -> None:
    shake_hands(paths, paths.ca_certificate, name)


@pytest.mark.parametrize("host", ["server.site.example", "192.168.7.4", "fd00::7"])
def test_the_name_by_which_cameras_reach_it_is_in_it(tmp_path: Path, host: str) -> None:
    paths = made(tmp_path / "server", host)
    shake_hands(paths, paths.ca_certificate, host)
    shake_hands(paths, paths.ca_certificate, "127.0.0.1")  # programs on the server itself


def test_another_name_is_refused(paths: ServerPaths) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'other\\.example'"):
        shake_hands(paths, paths.ca_certificate, "other.example")


def test_another_fleets_authority_does_not_vouch_for_it(paths: ServerPaths, tmp_path: Path) -> None:
    other = made(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        shake_hands(paths, other.ca_certificate, "127.0.0.1")


def test_no_name_is_in_it_twice(paths: ServerPaths) -> None:
    certificate = x509.load_pem_x509_certificate(paths.tls_certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert len(names) == 2


def test_a_host_name_longer_than_a_common_name_may_be_still_works(tmp_path: Path) -> None:
    host = f"{'a' * 60}.{'b' * 60}.example"
    paths = made(tmp_path / "server", host)
    shake_hands(paths, paths.ca_certificate, host)


def test_private_keys_are_their_owners_alone(paths: ServerPaths) -> None:
    assert stat.S_IMODE(paths.keys.stat().st_mode) == 0o700
    for key in (paths.ca_key, paths.tls_key):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    for public in (paths.ca_certificate, paths.tls_certificate):
        assert b"PRIVATE" not in public.read_bytes()


def test_a_camera_whose_clock_is_a_little_behind_trusts_it_too(paths: ServerPaths) -> None:
    for path in (paths.ca_certificate, paths.tls_certificate):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        assert certificate.not_valid_before_utc <= datetime.now(UTC) - timedelta(minutes=4)


def test_renewing_keeps_the_authority_so_that_cameras_stay_enrolled(paths: ServerPaths) -> None:
    authority, key = paths.ca_certificate.read_bytes(), paths.ca_key.read_bytes()
    before = (paths.tls_certificate.read_bytes(), paths.tls_key.read_bytes())
    renew_tls(paths, host="gate.local")
    assert (paths.ca_certificate.read_bytes(), paths.ca_key.read_bytes()) == (authority, key)
    assert paths.tls_certificate.read_bytes() != before[0]
    assert paths.tls_key.read_bytes() != before[1]
    check_certificate(paths)
    shake_hands(paths, paths.ca_certificate, "gate.local")


@pytest.mark.parametrize("host", ["gate.example", "8.8.8.8", "site-server"])
def test_an_authority_renews_for_no_public_name_that_it_was_not_made_with(paths: ServerPaths, host: str) -> None:
    before = tree_of(paths.root)
    with pytest.raises(CertificateError, match=rf"was not made for {host}\. Nothing was changed\. Set superlink\.host"):
        renew_tls(paths, host=host)
    assert tree_of(paths.root) == before


@pytest.mark.parametrize("host", ["site-server", "fleet.site.example", "203.0.113.9", "Gate.Local"])
def test_the_name_that_it_was_made_with_stays_good(tmp_path: Path, host: str) -> None:
    paths = made(tmp_path / "server", host)
    renew_tls(paths, host=host)
    shake_hands(paths, paths.ca_certificate, host)


def test_an_authority_of_before_the_limit_signs_as_it_did(tmp_path: Path) -> None:
    camera = CameraPaths(tmp_path)
    make_own(camera, ["gate.local"], datetime.now(UTC))  # says nothing of what it may sign, as those said nothing
    without = x509.load_pem_x509_certificate(camera.page_certificate.read_bytes())
    assert names_allowed_by(without, "anything.example")


@pytest.mark.parametrize("name", ["bank.example", "8.8.8.8", "10.bank.example", "evil-site-server", "2001:db8::1"])
def test_whoever_trusts_the_authority_is_shown_no_other_site_by_it(tmp_path: Path, name: str) -> None:
    """Somebody has stolen the authority's key: OpenSSL, which cameras use, refuses what it was not made for."""
    paths = made(tmp_path / "server", "site-server")
    sign_whatever(paths, name)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        shake_hands(paths, paths.ca_certificate, name)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        shake_hands(paths, paths.ca_certificate, "127.0.0.1")
    assert not names_allowed_by(load_authority(paths)[0], name)


@pytest.mark.parametrize("name", ["gate-1.local", "gate-1.yard.internal", "gate.home.arpa", "192.168.1.7", "fd00::7"])
def test_names_of_private_networks_are_good(paths: ServerPaths, name: str) -> None:
    sign_whatever(paths, name)
    shake_hands(paths, paths.ca_certificate, name)
    assert names_allowed_by(load_authority(paths)[0], name)


def sign_whatever(paths: ServerPaths, name: str) -> None:
    """Put a certificate for loopback and a name in the place of the server's."""
    ca, ca_key = load_authority(paths)
    key = serialization.load_pem_private_key(paths.tls_key.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    certificate = sign_server_certificate(
        ca,
        ca_key,
        key.public_key(),
        names=general_names(["127.0.0.1", name]),
        common_name="Sitecam page of gate-1",
        now=datetime.now(UTC),
        days=90,
    )
    paths.tls_certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def gone(path: Path) -> None:
    path.unlink()


def rubbish(path: Path) -> None:
    path.write_bytes(b"-----BEGIN NOTHING-----\n")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("harm", [gone, rubbish, cut_short])
@pytest.mark.parametrize("file", ["tls_certificate", "tls_key", "ca_certificate"])
def test_a_file_that_cannot_be_used_is_found_before_a_night_relies_on_it(
    paths: ServerPaths, file: str, harm: Callable[[Path], None]
) -> None:
    check_certificate(paths)
    harm(getattr(paths, file))
    with pytest.raises(CertificateError, match=f"Restore {paths.root} from a backup"):
        check_certificate(paths)


@pytest.mark.parametrize("file", ["tls_certificate", "tls_key", "ca_certificate"])
def test_a_file_of_another_fleet_is_found_too(paths: ServerPaths, tmp_path: Path, file: str) -> None:
    other = made(tmp_path / "other")
    getattr(paths, file).write_bytes(getattr(other, file).read_bytes())
    with pytest.raises(CertificateError, match=f"Restore {paths.root} from a backup"):
        check_certificate(paths)


def test_a_certificate_that_ran_out_says_how_to_renew_it(paths: ServerPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "_TLS_DAYS", 1 / 24 / 60)
    renew_tls(paths, host="127.0.0.1")  # valid from five minutes ago until four minutes ago
    with pytest.raises(CertificateError, match=r"ran out on .* run sitecam-server init --renew-tls"):
        check_certificate(paths)


@pytest.mark.parametrize("harm", [gone, rubbish, cut_short])
@pytest.mark.parametrize("file", ["ca_key", "ca_certificate"])
def test_an_authority_that_cannot_be_used_leaves_the_certificate_as_it_is(
    paths: ServerPaths, file: str, harm: Callable[[Path], None]
) -> None:
    harm(getattr(paths, file))
    before = tree_of(paths.root)
    with pytest.raises(CertificateError, match=f"Restore {paths.root} from a backup"):
        renew_tls(paths, host="127.0.0.1")
    assert tree_of(paths.root) == before


def test_an_authority_key_of_another_kind_is_refused(paths: ServerPaths) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    paths.ca_key.write_bytes(pem)
    with pytest.raises(CertificateError, match="not our kind of key"):
        renew_tls(paths, host="127.0.0.1")
