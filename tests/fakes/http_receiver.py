"""An HTTP server that answers a webhook as a test says, and remembers what it got."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Got:
    """A request."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at_s: float  # time.monotonic()


@dataclass
class Receiver:
    """What the server does, and got.

    Attributes:
        answers: Status and headers of the next answers; 204 after the last of them.
        instead: Called with the connection's handler in place of an answer, while it is set.
        port: TCP, on 127.0.0.1.
    """

    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    instead: Callable[[BaseHTTPRequestHandler], None] | None = None
    port: int = 0
    got: list[Got] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait(self, count: int, *, timeout_s: float = 30) -> list[Got]:
        """The requests, once there are so many."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.got) >= count, timeout_s), f"{len(self.got)} of {count} came"
            return list(self.got)


@contextlib.contextmanager
def receiving(*, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A server on a free port, or on the one given."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with receiver.changed:
                receiver.got.append(Got(self.path, dict(self.headers), body, time.monotonic()))
                receiver.changed.notify_all()
                instead = receiver.instead
                status, headers = receiver.answers.pop(0) if receiver.answers else (204, {})
            if instead is not None:
                instead(self)
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that cuts the connection is what some tests are about

    server = Server(("127.0.0.1", port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
