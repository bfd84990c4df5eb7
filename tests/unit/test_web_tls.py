"""The page over TLS: renewed without a restart, and held up by nobody who connects and then says nothing."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from appliance.errors import CertificateError
from appliance.page_tls import PageCertificate
from appliance.paths import CameraPaths
from appliance.web import listener, server
from appliance.web.server import PageServer
from tests.fakes.camera_page import LetIn, let_in_app
from tests.fakes.page_source import FakePageSource
from tests.fakes.waiting import wait_until


@pytest.fixture
def certificate(tmp_path: Path) -> PageCertificate:
    return PageCertificate(CameraPaths(tmp_path / "camera"), camera="North gate")


@pytest.fixture
def page(tmp_path: Path, certificate: PageCertificate) -> Iterator[PageServer]:
    app = let_in_app(FakePageSource(), tmp_path, https=True)
    running = PageServer(app, "127.0.0.1", 0, certificate=certificate.certificate_file, key=certificate.key_file)
    running.start()
    yield running
    running.stop()
    assert not running.alive


def shown(page: PageServer) -> bytes:
    """The certificate that the page shows now, DER."""
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE  # to look at it, not to trust it
    with (
        socket.create_connection(("127.0.0.1", page.port), timeout=10) as plain,
        unchecked.wrap_socket(plain) as wire,
    ):
        return wire.getpeercert(binary_form=True) or b""


def asks(page: PageServer, certificate: Path) -> int:
    trust = ssl.create_default_context(cafile=str(certificate))
    trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return httpx.get(f"{page.url}api/status", verify=trust, trust_env=False, timeout=20).status_code


def test_it_is_served_over_tls_and_not_without(page: PageServer, certificate: PageCertificate) -> None:
    assert page.url.startswith("https://127.0.0.1:")
    assert asks(page, certificate.certificate_file) == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(page.url.replace("https", "http"), trust_env=False)


def test_tls_older_than_1_2_is_not_spoken(page: PageServer) -> None:
    assert page._tls is not None
    assert page._tls.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_a_renewed_certificate_is_shown_without_a_restart(
    page: PageServer, certificate: PageCertificate, tmp_path: Path
) -> None:
    before = shown(page)
    other = PageCertificate(CameraPaths(tmp_path / "other"), camera="North gate")
    certificate.certificate_file.write_bytes(other.certificate_file.read_bytes())
    certificate.key_file.write_bytes(other.key_file.read_bytes())
    page.renew()
    wait_until(lambda: shown(page) != before)
    assert asks(page, certificate.certificate_file) == 200


def test_a_pair_that_does_not_fit_is_refused_and_the_old_one_stays(
    page: PageServer, certificate: PageCertificate, tmp_path: Path
) -> None:
    before = shown(page)
    other = PageCertificate(CameraPaths(tmp_path / "other"), camera="North gate")
    certificate.certificate_file.write_bytes(other.certificate_file.read_bytes())
    with pytest.raises(CertificateError, match="can't be used"):
        page.renew()
    assert shown(page) == before


def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match=r"page\.pem"):
        PageServer(
            let_in_app(FakePageSource(), tmp_path),
            "127.0.0.1",
            0,
            certificate=tmp_path / "page.pem",
            key=tmp_path / "k",
        )


def test_a_crowd_that_never_ends_its_handshakes_holds_up_nobody_and_is_bounded(
    page: PageServer, certificate: PageCertificate
) -> None:
    with contextlib.ExitStack() as crowd:
        silent = []
        for _ in range(3 * listener.MOST_WAITED_FOR):
            client = crowd.enter_context(socket.create_connection(("127.0.0.1", page.port), timeout=10))
            client.sendall(b"\x16\x03\x01")  # a handshake's first bytes
            silent.append(client)
        assert asks(page, certificate.certificate_file) == 200
        ended = 0
        for client in silent[: 2 * listener.MOST_WAITED_FOR]:
            with contextlib.suppress(ConnectionError):
                assert client.recv(100) is not None  # returns at the end only: nothing answers half a handshake
            ended += 1
        assert ended == 2 * listener.MOST_WAITED_FOR


def test_a_viewer_is_not_hung_up_for_a_crowd(tmp_path: Path) -> None:
    app: LetIn = let_in_app(FakePageSource(), tmp_path)
    page = PageServer(app, "127.0.0.1", 0)
    page.start()
    with contextlib.ExitStack() as crowd:
        client = crowd.enter_context(httpx.Client(base_url=page.url, trust_env=False, timeout=20))
        stream = crowd.enter_context(client.stream("GET", "/stream.mjpg"))
        pieces = stream.iter_raw()
        next(pieces)
        for _ in range(2 * listener.MOST_WAITED_FOR):
            slow = crowd.enter_context(socket.create_connection(("127.0.0.1", page.port), timeout=10))
            slow.sendall(b"GET / HTTP/1.1\r\nHost: loc")  # slow-loris
        assert httpx.get(f"{page.url}healthz", trust_env=False, timeout=20).status_code == 200
        for _ in range(20):
            next(pieces)
    page.stop()


def test_a_client_that_takes_nothing_of_its_answer_is_hung_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TAKES_NOTHING_S", 0.2)
    app = let_in_app(FakePageSource(size=(1280, 960)), tmp_path)
    page = PageServer(app, "127.0.0.1", 0)
    page.start()
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", page.port))
        stalled.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: app.state.pictures.viewers == 1)
        wait_until(lambda: app.state.pictures.viewers == 0, within_s=30)
    page.stop()
