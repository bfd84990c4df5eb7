"""Ears on the wire: one that stands in for the fleet's server, one that plays the way out to the world."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from server.paths import ServerPaths


class _Listener:
    """Accepts connections on loopback, each in a thread of its own, until closed."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        for connection in (self._socket, *self._open):
            with contextlib.suppress(OSError):  # it may have ended by itself
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        raise NotImplementedError


class Recorder(_Listener):
    """Says to a camera that it is the fleet's server (it has the server's key), passes everything on, and keeps it.

    Args:
        paths: The server's, for its TLS files.
        port: The real SuperLink's.

    Attributes:
        up_bytes: That came from the camera, as TCP carried them.
        down_bytes: That went to it.
    """

    def __init__(self, paths: ServerPaths, port: int) -> None:
        super().__init__()
        self.up_bytes = self.down_bytes = 0
        self._lock = threading.Lock()
        self._streams: list[bytearray] = []
        self._real = port
        self._as_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._as_server.load_cert_chain(paths.tls_certificate, paths.tls_key)
        self._as_camera = ssl.create_default_context(cafile=str(paths.ca_certificate))

    @property
    def streams(self) -> list[bytes]:
        """All that the camera sent, decrypted, connection by connection."""
        with self._lock:
            return [bytes(stream) for stream in self._streams]

    def passes(self, stream: bytes, fresh: bytes) -> bool:
        """Whether what the camera sends is passed on; a connection on which something was not stands still.

        Args:
            stream: All of this connection so far.
            fresh: What has just come.
        """
        return bool(stream or fresh)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):  # either end hangs up when it likes, and so does the test
            camera = _ServerSide(connection, self._as_server, self._count)
            plain = socket.create_connection(("127.0.0.1", self._real), timeout=60)
            server = self._as_camera.wrap_socket(plain, server_hostname="127.0.0.1")
            self._open.append(server)
            stream = bytearray()
            with self._lock:
                self._streams.append(stream)
            while True:  # one thread for both ways: OpenSSL's objects must not be read and written at once
                ready = [server] if server.pending() else select.select([connection, server], [], [])[0]
                data = b""
                if connection in ready:
                    data, open_ = camera.read()
                    with self._lock:
                        stream += data
                    if data and not self.passes(bytes(stream), data):
                        return
                    server.sendall(data)
                    if not open_:
                        server.shutdown(socket.SHUT_RDWR)
                        return
                if server in ready:
                    answer = _read(server)
                    if answer == b"":
                        connection.shutdown(socket.SHUT_RDWR)
                        return
                    camera.write(answer or b"")

    def _count(self, up_bytes: int, down_bytes: int) -> None:
        with self._lock:
            self.up_bytes += up_bytes
            self.down_bytes += down_bytes


class Muffler(Recorder):
    """A recorder that lets a camera announce its trained head, and loses the head itself.

    Attributes:
        announced: Whether it did.
    """

    announced = False

    def passes(self, stream: bytes, fresh: bytes) -> bool:
        """Nothing of an object once a training reply was announced."""
        if b"POST /v1/fleet/push-messages" in stream and b"train 1" in stream:
            self.announced = True
        return not (self.announced and b"POST /v1/fleet/push-object" in fresh)


class _ServerSide:
    """TLS over a socket whose every byte is counted; Python's own SSLSocket doesn't tell."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, count: Callable[[int, int], None]) -> None:
        self._plain, self._count = plain, count
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._shaken = False

    def read(self) -> tuple[bytes, bool]:
        """What is there, once select said so; False at its end."""
        raw = self._plain.recv(65536)
        self._count(len(raw), 0)
        self._in.write(raw)
        data = b""
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            if not self._shaken:
                self._tls.do_handshake()
                self._shaken = True
            while piece := self._tls.read(65536):
                data += piece
        self._flush()
        return data, bool(raw)

    def write(self, data: bytes) -> None:
        """Send."""
        if data:
            self._tls.write(data)
        self._flush()

    def _flush(self) -> None:
        raw = self._out.read()
        if raw:
            self._plain.sendall(raw)
            self._count(0, len(raw))


def _read(end: ssl.SSLSocket) -> bytes | None:
    """What is there, empty at its end; None where only TLS itself had something to say."""
    end.settimeout(0)
    try:
        return end.recv(65536)
    except ssl.SSLWantReadError:
        return None
    finally:
        end.settimeout(60)


class Outside(_Listener):
    """A proxy to the world that lets nobody through, and remembers who wanted to go where."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[str] = []

    @property
    def url(self) -> str:
        """For the proxy variables."""
        return f"http://127.0.0.1:{self.port}"

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self.wanted.append(connection.recv(65536).split(b"\r\n")[0].decode(errors="replace"))
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
