"""Ears on the wire: one that stands in for the fleet's server, one that plays the way out to the world."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
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


class Spy(_Listener):
    """Says to a camera that it is the fleet's server (it has the server's key), and passes everything on.

    Args:
        paths: The server's, for its TLS files.
        port: The real SuperLink's.
    """

    def __init__(self, paths: ServerPaths, port: int) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._pieces: list[bytes] = []
        self._real = port
        self._as_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._as_server.load_cert_chain(paths.tls_certificate, paths.tls_key)
        self._as_camera = ssl.create_default_context(cafile=str(paths.ca_certificate))

    @property
    def sent(self) -> bytes:
        """All that the camera sent, decrypted."""
        with self._lock:
            return b"".join(self._pieces)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError):  # either end hangs up when it likes, and so does the test
            camera = self._as_server.wrap_socket(connection, server_side=True)
            plain = socket.create_connection(("127.0.0.1", self._real), timeout=60)
            server = self._as_camera.wrap_socket(plain, server_hostname="127.0.0.1")
            self._open += [camera, server]
            other_end = {camera: server, server: camera}
            while True:  # one thread for both ways: OpenSSL's objects must not be read and written at once
                talking = [end for end in other_end if end.pending()] or select.select([*other_end], [], [])[0]
                for end in talking:
                    data = _read(end)
                    if data == b"":
                        for each in other_end:
                            each.shutdown(socket.SHUT_RDWR)
                        return
                    if data and end is camera:
                        with self._lock:
                            self._pieces.append(data)
                    if data:
                        other_end[end].sendall(data)


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
