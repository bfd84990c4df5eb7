"""The one way out at night: a loopback proxy that reaches the fleet's server only, and counts every byte.

The SuperNode speaks TLS through it (HTTP CONNECT, RFC 9110 section 9.3.6), so it sees no content; what it
counts is what the network sees, envelopes and handshakes included. A SuperNode that wanted to reach any other
address would be refused here.
"""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass

from appliance.errors import NightError
from trainer.flower import endpoint

logger = logging.getLogger(__name__)

_BUFFER_BYTES = 65536


@dataclass(frozen=True)
class Traffic:
    """Bytes on the wire since the night began.

    Attributes:
        up_bytes: From this camera.
        down_bytes: To it.
    """

    up_bytes: int
    down_bytes: int


class Wire:
    """A CONNECT proxy for one destination.

    Args:
        host: The fleet's server.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._counts = {"up": 0, "down": 0}
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._closed = threading.Event()
        threading.Thread(target=self._accept, name="wire", daemon=True).start()

    @property
    def url(self) -> str:
        """For HTTPS_PROXY."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def traffic(self) -> Traffic:
        """What went over it so far."""
        with self._lock:
            return Traffic(self._counts["up"], self._counts["down"])

    def close(self) -> None:
        """Refuse new connections and end those that are open."""
        self._closed.set()
        _end(self._listener)  # closing alone would let the accept that waits take one more
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            _end(connection)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                if not self._closed.is_set():
                    logger.exception("The night's proxy stopped listening")
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(30)
        try:
            request = _read_head(client)
            if not self._is_for_the_server(request):
                logger.warning("Refused at night: %s", request.split(b"\r\n", 1)[0][:200])
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                client.close()
                return
            try:
                server = socket.create_connection(self._target, timeout=10)
            except OSError as error:
                # No 502: a SuperNode takes that for final and ends, where it comes back after a broken connection.
                logger.warning("The fleet's server can't be reached: %s", error)
                client.close()
                return
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        except OSError as error:
            logger.info("A connection ended before it began: %s", error)
            client.close()
            return
        for end in (client, server):
            end.settimeout(None)
        with self._lock:
            self._open |= {client, server}
        threading.Thread(target=self._pump, args=(server, client, "down"), daemon=True).start()
        self._pump(client, server, "up")

    def _is_for_the_server(self, request: bytes) -> bool:
        host, port = self._target
        forms = {endpoint(host, port), f"{host}:{port}"}  # httpx leaves an IPv6 address without its brackets
        return any(request.startswith(f"CONNECT {form} ".encode()) for form in forms)

    def _pump(self, source: socket.socket, target: socket.socket, direction: str) -> None:
        try:
            while data := source.recv(_BUFFER_BYTES):
                with self._lock:  # before it is sent: who has received it may ask for the count
                    self._counts[direction] += len(data)
                target.sendall(data)
        except OSError as error:
            logger.debug("A night's connection ended: %s", error)
        finally:
            _end(target)
            with self._lock:
                self._open.discard(source)
            if direction == "up":
                _end(source)


def _read_head(client: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 8192:
        data = client.recv(4096)
        if not data:
            raise ConnectionResetError("closed in its first line")
        head += data
    return head


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        logger.debug("A connection was closed already")
    connection.close()


class WireProcess:
    """A :class:`Wire` in a process of its own, which ends with this one.

    The night process forks a child for every message, and a process with threads must not fork.

    Args:
        host: The fleet's server.
        port: Its port.

    Raises:
        NightError: It did not start.
    """

    def __init__(self, host: str, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "trainer.wire", host, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self._read_line()

    def close(self) -> Traffic:
        """End it; what went over it."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            return Traffic(**json.loads(self._read_line()))
        finally:
            self._process.wait(10)
            if self._process.stdout:
                self._process.stdout.close()

    def _read_line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise NightError("The night's proxy ended unexpectedly", means="Tonight ends here for this camera")
        return line.strip()


def main(arguments: list[str]) -> int:
    """The proxy's process: prints its address, and the traffic once its standard input ends."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    wire = Wire(arguments[0], int(arguments[1]))
    print(wire.url, flush=True)
    sys.stdin.read()
    wire.close()
    print(json.dumps(asdict(wire.traffic)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
