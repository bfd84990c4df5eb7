"""The camera process is asked over loopback how it is; whatever it says or doesn't becomes a sentence."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from trainer.live_health import live_health


@contextmanager
def page(status: int, body: bytes) -> Iterator[int]:
    """A page that answers like this; its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name in the base class
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b'{"healthy": true}', ""),
        (503, json.dumps({"error": {"what": "No picture for 40 s", "do": "x"}}).encode(), "No picture for 40 s"),
        (500, b"oops", "The live loop's page answers 500"),
        (503, b'["nothing"]', "The live loop's page answers 503"),
        (404, b'{"error": {}}', "The live loop's page answers 404"),
    ],
)
def test_what_the_page_says_is_passed_on(status: int, body: bytes, said: str) -> None:
    with page(status, body) as port:
        assert live_health(port) == said


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with page(200, b"{}") as port:
        assert live_health(port) == ""


def test_a_page_that_is_not_there_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert live_health(port) == "The live loop doesn't answer"


def test_a_page_that_says_nothing_does_not_hold_the_night_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.live_health._PATIENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert live_health(silent.getsockname()[1]) == "The live loop doesn't answer"


def test_a_page_that_speaks_no_http_does_not_answer() -> None:
    def rubbish(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1024)
            connection.sendall(b"220 mail.example ready\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=rubbish, args=(listener,))
        thread.start()
        assert live_health(listener.getsockname()[1]) == "The live loop doesn't answer"
        thread.join()
