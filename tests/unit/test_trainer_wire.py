"""The night's one way out, with real sockets on loopback."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainer.wire import Traffic, Wire, WireProcess

PROJECT = Path(__file__).resolve().parents[2]


class EchoServer:
    """Sends back whatever it gets."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=_echo, args=(connection,)).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(); closing alone would not
        self._listener.close()
        self._thread.join(5)
        for connection in self.connections:
            _hang_up(connection)


def _echo(connection: socket.socket) -> None:
    try:
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)
    except OSError:
        return  # the test hung up


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may have ended by itself
        connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server() -> Iterator[EchoServer]:
    server = EchoServer()
    yield server
    server.close()


@pytest.fixture
def wire(server: EchoServer) -> Iterator[Wire]:
    wire = Wire("127.0.0.1", server.port)
    yield wire
    wire.close()


def ask(wire: Wire | WireProcess, request: str) -> tuple[socket.socket, bytes]:
    """Send a first line; the open connection and the head of the answer."""
    host, port = wire.url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    client.sendall(f"{request}\r\nHost: x\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        data = client.recv(1)
        if not data:
            break
        head += data
    return client, head


def connect(wire: Wire | WireProcess, port: int) -> socket.socket:
    client, head = ask(wire, f"CONNECT 127.0.0.1:{port} HTTP/1.1")
    assert head.startswith(b"HTTP/1.1 200 "), head
    return client


def read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = client.recv(65536)
        assert piece, f"ended after {len(data)} of {count} bytes"
        data += piece
    return data


def wait_until(good: Callable[[], bool]) -> None:
    ends = time.monotonic() + 10
    while not good():
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.mark.parametrize("size", [1, 1000, 1_000_003])
def test_every_byte_is_carried_and_counted_once(wire: Wire, server: EchoServer, size: int) -> None:
    sent = bytes(number % 251 for number in range(size))
    with connect(wire, server.port) as client:
        threading.Thread(target=client.sendall, args=(sent,)).start()
        assert read(client, size) == sent
        wait_until(lambda: wire.traffic == Traffic(size, size))
    assert wire.traffic == Traffic(size, size)


def test_several_connections_are_counted_together(wire: Wire, server: EchoServer) -> None:
    clients = [connect(wire, server.port) for _ in range(5)]
    for number, client in enumerate(clients, start=1):
        client.sendall(b"x" * number)
    for number, client in enumerate(clients, start=1):
        assert read(client, number) == b"x" * number
        client.close()
    wait_until(lambda: wire.traffic == Traffic(15, 15))


@pytest.mark.parametrize(
    "request_line",
    [
        "CONNECT telemetry.flower.ai:443 HTTP/1.1",
        "CONNECT 127.0.0.1:1 HTTP/1.1",
        "CONNECT 127.0.0.1:{port}0 HTTP/1.1",
        "CONNECT localhost:{port} HTTP/1.1",
        "GET http://127.0.0.1:{port}/ HTTP/1.1",
        "POST http://example.org/ HTTP/1.1",
        "\x16\x03\x01",
    ],
)
def test_any_other_destination_is_refused(wire: Wire, server: EchoServer, request_line: str) -> None:
    client, head = ask(wire, request_line.format(port=server.port))
    with client:
        assert head.startswith(b"HTTP/1.1 403 ")
        assert client.recv(1) == b""
    assert wire.traffic == Traffic(0, 0)


def test_a_server_that_is_not_there_is_a_broken_connection() -> None:
    """A SuperNode comes back after one; a 502 would end it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers there
        port = int(taken.getsockname()[1])
        wire = Wire("127.0.0.1", port)
        client, head = ask(wire, f"CONNECT 127.0.0.1:{port} HTTP/1.1")
        with client:
            assert head == b""
        wire.close()


def test_closing_ends_open_connections(wire: Wire, server: EchoServer) -> None:
    with connect(wire, server.port) as client:
        client.sendall(b"hello")
        assert read(client, 5) == b"hello"
        wire.close()
        assert client.recv(1) == b""


def test_nobody_gets_in_after_closing(wire: Wire, server: EchoServer) -> None:
    connect(wire, server.port).close()
    port = int(wire.url.rsplit(":", 1)[1])
    wire.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_a_client_that_leaves_in_its_first_line_harms_nobody(wire: Wire, server: EchoServer) -> None:
    host, port = wire.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as rude:
        rude.sendall(b"CONN")
    with connect(wire, server.port) as client:
        client.sendall(b"still here")
        assert read(client, 10) == b"still here"


def test_a_server_that_hangs_up_ends_the_clients_connection(wire: Wire, server: EchoServer) -> None:
    with connect(wire, server.port) as client:
        client.sendall(b"x")
        assert read(client, 1) == b"x"
        _hang_up(server.connections[0])
        assert client.recv(1) == b""


def test_in_a_process_of_its_own_it_counts_the_same(server: EchoServer) -> None:
    wire = WireProcess("127.0.0.1", server.port)
    with connect(wire, server.port) as client:
        client.sendall(b"x" * 100_000)
        assert read(client, 100_000) == b"x" * 100_000
    assert wire.close() == Traffic(100_000, 100_000)


def test_that_process_ends_with_its_parent(server: EchoServer) -> None:
    code = (
        "import os, signal; from trainer.wire import WireProcess\n"
        f"print(WireProcess('127.0.0.1', {server.port}).url, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    port = int(killed.stdout.strip().rsplit(":", 1)[1])

    def refuses() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            return True
        return False

    wait_until(refuses)
