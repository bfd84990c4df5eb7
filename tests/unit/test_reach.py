"""Is the fleet's server there, and do the clocks agree? With a small real TLS server behind the night's one way out."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from appliance.errors import CertificateError, NightError
from server.certificates import make_certificates
from server.paths import ServerPaths
from trainer.flower import endpoint
from trainer.reach import clock_ahead_s, wait_for_server
from trainer.wire import Wire


@pytest.fixture
def ours(tmp_path: Path) -> ServerPaths:
    return authority(tmp_path / "ours", "127.0.0.1")


def authority(root: Path, host: str) -> ServerPaths:
    paths = ServerPaths(root)
    paths.root.mkdir()
    make_certificates(paths, fleet="f", host=host)
    return paths


class Server:
    """Answers every request over TLS with the same bytes.

    Args:
        paths: Its certificate.
        answer: The bytes; None answers without TLS.
        host: Loopback, IPv4 or IPv6.
    """

    def __init__(self, paths: ServerPaths, answer: bytes, *, host: str = "127.0.0.1", tls: bool = True) -> None:
        self.answer, self._tls = answer, tls
        self.requests: list[bytes] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(paths.tls_certificate, paths.tls_key)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.host, self.port = host, int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(5)
            with connection, contextlib.suppress(OSError):
                client = self._context.wrap_socket(connection, server_side=True) if self._tls else connection
                self.requests.append(client.recv(4096))
                client.sendall(self.answer)
                client.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it may be closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@contextlib.contextmanager
def serving(
    paths: ServerPaths, answer: bytes, *, host: str = "127.0.0.1", tls: bool = True
) -> Iterator[tuple[Server, Wire]]:
    server = Server(paths, answer, host=host, tls=tls)
    wire = Wire(host, server.port)
    yield server, wire
    wire.close()
    server.close()


def dated(seconds: float) -> bytes:
    """A web server's answer whose clock is so many seconds fast."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    return f"HTTP/1.1 404 Not Found\r\nDate: {date}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def wait(server: Server, wire: Wire, paths: ServerPaths, *, seconds: float, said: list[str]) -> None:
    wait_for_server(
        server.host,
        server.port,
        paths.ca_certificate,
        wire.url,
        ends=time.monotonic() + seconds,
        stopping=threading.Event(),
        say=said.append,
    )


@pytest.mark.parametrize("seconds", [0, 2, -2, 200])  # 200: a camera that is minutes late is taken, as Flower takes it
def test_a_server_whose_clock_agrees_is_there(ours: ServerPaths, seconds: float) -> None:
    said: list[str] = []
    with serving(ours, dated(seconds)) as (server, wire):
        wait(server, wire, ours, seconds=30, said=said)
        assert server.requests[-1].startswith(b"GET /v1/fleet/ HTTP/1.1\r\n")
        assert wire.traffic.up_bytes > len(server.requests[-1])  # what is asked here counts too
    assert said == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-7, "clock is 6 s ahead of the server's"), (-3600, "s ahead of the server's"), (400, "s behind the server's")],
)
def test_a_clock_that_differs_is_said_with_its_way_and_what_to_do(
    ours: ServerPaths, seconds: float, words: str
) -> None:
    said: list[str] = []
    with serving(ours, dated(seconds)) as (server, wire), pytest.raises(NightError) as caught:
        wait(server, wire, ours, seconds=0.1, said=said)
    for text in (str(caught.value), said[0]):
        assert words in text.replace("7 s", "6 s")  # the server's second may have just begun, or be nearly over
        assert "timedatectl" in text


def test_it_waits_until_the_clock_is_right(ours: ServerPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.reach._AGAIN_S", 0.05)
    said: list[str] = []
    with serving(ours, dated(-60)) as (server, wire):
        threading.Timer(0.3, lambda: setattr(server, "answer", dated(0))).start()
        wait(server, wire, ours, seconds=30, said=said)
    assert said
    assert all("ahead of the server's" in text for text in said)


def test_a_server_of_another_authority_is_refused_at_once(ours: ServerPaths, tmp_path: Path) -> None:
    stranger = authority(tmp_path / "stranger", "127.0.0.1")
    with (
        serving(stranger, dated(0)) as (server, wire),
        pytest.raises(CertificateError, match="this fleet's authority did not sign"),
    ):
        wait(server, wire, ours, seconds=60, said=[])
    assert server.requests == []


def test_a_server_by_another_name_is_refused(tmp_path: Path) -> None:
    other = authority(tmp_path / "other", "10.1.2.3")
    other_names = ServerPaths(tmp_path / "other")
    with serving(other, dated(0), host="127.0.0.2") as (server, wire), pytest.raises(CertificateError):
        wait(server, wire, other_names, seconds=60, said=[])


def test_nobody_there_is_said_with_the_reason_and_tried_until_the_end(
    ours: ServerPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.reach._AGAIN_S", 0.05)
    said: list[str] = []
    with serving(ours, b"") as (server, wire):
        server.close()
        with pytest.raises(NightError, match=r"could not be reached tonight \(.*refused"):
            wait(server, wire, ours, seconds=0.5, said=said)
    assert len(said) > 1
    assert "can't be reached" in said[0]


@pytest.mark.parametrize(("answer", "tls"), [(b"\0\1\2 rubbish\r\n\r\n", True), (b"", True), (b"SSH-2.0-x\r\n", False)])
def test_something_else_that_answers_is_no_server(ours: ServerPaths, answer: bytes, tls: bool) -> None:
    with (
        serving(ours, answer, tls=tls) as (server, wire),
        pytest.raises(NightError, match="could not be reached tonight"),
    ):
        wait(server, wire, ours, seconds=0.1, said=[])


@pytest.mark.parametrize("date", [b"", b"Date: soon\r\n"])
def test_a_server_that_tells_no_time_is_taken_as_it_is(ours: ServerPaths, date: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\n" + date + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    with serving(ours, answer) as (server, wire):
        assert clock_ahead_s("127.0.0.1", server.port, ours.ca_certificate, wire.url) == 0


def test_a_night_that_is_stopped_stops_waiting(ours: ServerPaths) -> None:
    stopping = threading.Event()
    stopping.set()
    with serving(ours, dated(-60)) as (server, wire), pytest.raises(NightError):
        wait_for_server(
            server.host,
            server.port,
            ours.ca_certificate,
            wire.url,
            ends=time.monotonic() + 3600,
            stopping=stopping,
            say=lambda _: None,
        )


# IPv6


@pytest.fixture
def six(tmp_path: Path) -> Iterator[tuple[Server, Wire, ServerPaths]]:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")
    paths = authority(tmp_path / "six", "::1")
    with serving(paths, dated(0), host="::1") as (server, wire):
        yield server, wire, paths


def test_an_ipv6_server_is_reached_through_the_one_way_out(six: tuple[Server, Wire, ServerPaths]) -> None:
    server, wire, paths = six
    wait(server, wire, paths, seconds=30, said=[])
    assert b"Host: [::1]" in server.requests[-1]


def test_flowers_own_client_gets_there_too(six: tuple[Server, Wire, ServerPaths]) -> None:
    """It leaves the brackets out of its CONNECT line."""
    server, wire, paths = six
    context = ssl.create_default_context(cafile=str(paths.ca_certificate))
    with httpx.Client(proxy=wire.url, verify=context, timeout=10, trust_env=False) as client:
        assert client.post(f"https://{endpoint('::1', server.port)}/v1/fleet/pull-messages").status_code == 404


@pytest.mark.parametrize("form", ["[::1]:{port}", "::1:{port}"])
def test_both_forms_of_an_ipv6_destination_are_taken(six: tuple[Server, Wire, ServerPaths], form: str) -> None:
    server, wire, _ = six
    assert connect(wire, form.format(port=server.port)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("form", ["[::2]:{port}", "::1:{port}1", "[::1]:1", "::11:{port}", "[::1]"])
def test_any_other_ipv6_destination_is_refused(six: tuple[Server, Wire, ServerPaths], form: str) -> None:
    server, wire, _ = six
    assert connect(wire, form.format(port=server.port)).startswith(b"HTTP/1.1 403 ")


def connect(wire: Wire, destination: str) -> bytes:
    url = httpx.URL(wire.url)
    with socket.create_connection((url.host, url.port or 0), timeout=10) as client:
        client.sendall(f"CONNECT {destination} HTTP/1.1\r\n\r\n".encode())
        return client.recv(4096)
