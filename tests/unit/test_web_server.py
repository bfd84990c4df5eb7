from __future__ import annotations

import io
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from appliance.errors import ConfigError, PortTakenError
from appliance.frame import Doubt
from appliance.web.server import PageServer
from tests.fakes.camera_page import LetIn, let_in_app
from tests.fakes.page_source import FakePageSource, decision


@pytest.fixture
def source() -> FakePageSource:
    return FakePageSource()


@pytest.fixture
def app(source: FakePageSource, tmp_path: Path) -> LetIn:
    """The page as somebody sees it who is logged in; tests/security is about everybody else."""
    return let_in_app(source, tmp_path)


@pytest.fixture
def server(app: LetIn) -> Iterator[PageServer]:
    """A real server on a free loopback port."""
    running = PageServer(app, "127.0.0.1", 0)
    running.start()
    yield running
    running.stop()
    assert not running.alive


@pytest.fixture
def client(server: PageServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=10, trust_env=False) as ready:
        yield ready


def pictures(response: httpx.Response) -> Iterator[bytes]:
    """The JPEG files of a multipart stream, checked against their Content-Length."""
    buffer = b""
    chunks = response.iter_raw()
    while True:
        while b"\r\n\r\n" not in buffer:
            buffer += next(chunks)
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        assert head.startswith(b"--picture\r\nContent-Type: image/jpeg\r\n")
        length = int(head.split(b"Content-Length: ")[1])
        while len(buffer) < length + 2:
            buffer += next(chunks)
        yield buffer[:length]
        assert buffer[length : length + 2] == b"\r\n"
        buffer = buffer[length + 2 :]


def stalled_viewer(server: PageServer) -> socket.socket:
    """A connection that asks for the stream and never reads a byte of it."""
    viewer = socket.socket()
    viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    viewer.connect(("127.0.0.1", server.port))
    viewer.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return viewer


def make_pictures_large_and_frequent(app: LetIn, source: FakePageSource) -> None:
    """Half a megabyte each: a viewer who doesn't read has every buffer on the way full after a few."""
    noise = np.random.default_rng(1).integers(0, 256, (2, 720, 960, 3), dtype=np.uint8)
    source._scenes = list(noise)
    app.state.pictures._interval_s = 0.001


def wait_for_viewers(server: PageServer, count: int) -> None:
    stream = server._app.state.pictures
    for _ in range(500):
        if stream.viewers == count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{stream.viewers} viewers, not {count}")


def test_the_stream_delivers_jpegs(client: httpx.Client) -> None:
    with client.stream("GET", "/stream.mjpg") as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "multipart/x-mixed-replace; boundary=picture"
        got = list(islice(pictures(response), 5))
    assert all(Image.open(io.BytesIO(picture)).size == (320, 240) for picture in got)
    assert len(set(got)) > 1


def test_a_stalled_viewer_does_not_slow_another(
    app: LetIn, server: PageServer, client: httpx.Client, source: FakePageSource
) -> None:
    make_pictures_large_and_frequent(app, source)
    stalled = [stalled_viewer(server) for _ in range(3)]
    wait_for_viewers(server, 3)
    with client.stream("GET", "/stream.mjpg") as response:
        assert sum(len(picture) for picture in islice(pictures(response), 30)) > 10_000_000
    for viewer in stalled:
        viewer.close()
    wait_for_viewers(server, 0)


def test_a_viewer_who_leaves_is_forgotten(server: PageServer, client: httpx.Client) -> None:
    with client.stream("GET", "/stream.mjpg") as response:
        shown = pictures(response)  # kept: dropping the iterator would close the connection
        next(shown)
        wait_for_viewers(server, 1)
    wait_for_viewers(server, 0)


def test_events_carry_the_state(client: httpx.Client, source: FakePageSource) -> None:
    with client.stream("GET", "/api/live") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = (line for line in response.iter_lines() if line.startswith("data: "))
        first = json.loads(next(lines).removeprefix("data: "))
        source.page = replace(source.page, model_version=8)
        versions = [json.loads(next(lines).removeprefix("data: "))["model"]["version"] for _ in range(3)]
    assert first["decision"]["label"] == "hardhat"
    assert first["model"]["version"] == 7
    assert versions[-1] == 8


def test_status_is_the_same_state(client: httpx.Client) -> None:
    state = client.get("/api/status").json()
    assert state["camera"] == "North gate"
    assert state["decision"]["scores"]["hardhat"] == 0.97
    assert state["night"]["message"] == "208 labelled frames take part"
    assert state["alarm"] is None
    assert [event["lasted_s"] for event in state["events"]] == [12.0, 3600.0, 95.0]


def test_a_familiarity_that_is_no_number_breaks_neither_status_nor_events(
    client: httpx.Client, source: FakePageSource
) -> None:
    source.decision = decision(None, 0.5, doubt=Doubt.UNFAMILIAR, familiarity=float("nan"))
    assert client.get("/api/status").json()["decision"]["familiarity"] is None
    with client.stream("GET", "/api/live") as response:
        line = next(line for line in response.iter_lines() if line.startswith("data: "))
    assert "NaN" not in line


def test_the_page_and_its_files_come_from_here(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "http://" not in page.text.replace("http://www.w3.org", "")
    assert "https://" not in page.text
    named = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text))
    assert {"/static/page.css", "/static/page.js", "/static/icon.svg"} <= named
    kinds = {"css": "text/css", "js": "javascript", "svg": "image/svg+xml"}
    seen: set[str] = set()
    while named - seen:
        address = (named - seen).pop()
        seen.add(address)
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert kinds[address.rpartition(".")[2]] in answer.headers["content-type"]
        if address.endswith(".js"):  # a module names the modules that it needs
            named |= {f"/static/{other}" for other in re.findall(r'from "\./([^"]+)"', answer.text)}


def test_the_page_has_no_inline_script_or_style(client: httpx.Client) -> None:
    text = client.get("/").text
    assert "<style" not in text
    assert " style=" not in text
    assert " onclick=" not in text
    assert text.count("<script") == text.count("<script src=")


@pytest.mark.parametrize("path", ["/", "/api/status", "/static/page.js", "/nowhere", "/healthz"])
def test_every_answer_has_the_security_headers(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == ("no-cache" if path == "/static/page.js" else "no-store")
    assert "server" not in headers


def test_frames_are_never_kept(client: httpx.Client) -> None:
    with client.stream("GET", "/stream.mjpg") as response:
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4912", "127.0.0.1.evil.example", "[::2]", ""])
@pytest.mark.parametrize("path", ["/", "/stream.mjpg", "/api/status", "/static/page.js", "/healthz"])
def test_another_name_in_the_host_header_is_refused(client: httpx.Client, host: str, path: str) -> None:
    answer = client.get(path, headers={"Host": host})
    assert answer.status_code == 421
    error = answer.json()["error"]
    assert set(error) == {"what", "means", "do"}
    assert "localhost" in error["do"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:4912", "[::1]", "[::1]:4912"])
def test_its_own_names_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_a_configured_name_and_the_address_itself_are_answered_too(source: FakePageSource, tmp_path: Path) -> None:
    server = PageServer(let_in_app(source, tmp_path, hosts=["Gate.Site.internal"]), "127.0.0.2", 0)
    server.start()
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        for host, status in (("gate.site.internal:4912", 200), ("127.0.0.2", 200), ("127.0.0.3", 421)):
            assert client.get("/healthz", headers={"Host": host}).status_code == status
    server.stop()


def test_errors_have_one_shape(client: httpx.Client) -> None:
    missing = client.get("/nowhere")
    wrong = client.post("/api/status", json={}, headers={"Origin": str(client.base_url).rstrip("/")})
    assert (missing.status_code, wrong.status_code) == (404, 405)
    for answer in (missing, wrong, client.get("/static/nothing.js")):
        assert set(answer.json()["error"]) == {"what", "means", "do"}
    assert "/nowhere" in missing.json()["error"]["what"]
    assert wrong.headers["allow"] == "GET"


def test_a_mistake_in_a_route_keeps_the_shape_and_the_server(
    server: PageServer, client: httpx.Client, source: FakePageSource, caplog: pytest.LogCaptureFixture
) -> None:
    good = source.page
    source.page = None  # type: ignore[assignment]
    answer = client.get("/api/status")
    assert answer.status_code == 500
    assert set(answer.json()["error"]) == {"what", "means", "do"}
    assert "nosniff" in answer.headers["x-content-type-options"]
    source.page = good
    assert httpx.get(f"{server.url}api/status", trust_env=False).status_code == 200
    assert "AttributeError" in caplog.text


def test_a_head_request_for_an_endless_answer_ends(client: httpx.Client) -> None:
    assert client.head("/stream.mjpg").headers["content-type"].startswith("multipart/x-mixed-replace")
    assert client.head("/api/live").status_code == 200


def test_health_says_whether_it_watches(client: httpx.Client, source: FakePageSource) -> None:
    assert client.get("/healthz").json() == {"healthy": True}
    source.page = replace(source.page, camera_fault="The sensor stalled")
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["error"]["what"] == "This camera is not watching", "it is open to everybody: no more than that"


def test_a_taken_port_is_named_with_the_option_that_changes_it(app: LetIn, server: PageServer) -> None:
    second = PageServer(app, "127.0.0.1", server.port)
    with pytest.raises(PortTakenError, match=rf"Port {server.port} .*taken.*\[page\] port.*--port"):
        second.start()
    assert not second.alive
    second.stop()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::"])  # noqa: S104
def test_without_tls_nothing_but_loopback_is_served(app: LetIn, host: str) -> None:
    with pytest.raises(ConfigError, match="without HTTPS"):
        PageServer(app, host, 0)


@pytest.mark.parametrize("host", ["camera.local", "", "127.0.0.1; rm", "$(reboot)"])
def test_what_is_no_address_is_named(app: LetIn, host: str) -> None:
    with pytest.raises(ConfigError, match="no address of this machine"):
        PageServer(app, host, 0)


def test_localhost_and_ipv6_loopback_are_fine(app: LetIn) -> None:
    assert PageServer(app, "localhost", 4912).url == "http://127.0.0.1:4912/"
    assert PageServer(app, "::1", 4912).url == "http://[::1]:4912/"


def test_an_unknown_time_zone_is_named(source: FakePageSource, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Mars/Olympus.*\[page\] time_zone"):
        let_in_app(source, tmp_path, time_zone="Mars/Olympus")


def test_stopping_ends_open_streams_and_stalled_viewers_and_frees_the_port(
    app: LetIn, source: FakePageSource, tmp_path: Path
) -> None:
    server = PageServer(app, "127.0.0.1", 0)
    make_pictures_large_and_frequent(app, source)
    server.start()
    stalled = stalled_viewer(server)
    with (
        httpx.Client(base_url=server.url, timeout=10, trust_env=False) as client,
        client.stream("GET", "/stream.mjpg") as stream,
        client.stream("GET", "/api/live") as events,
    ):
        received, lines = pictures(stream), events.iter_lines()
        for _ in range(30):
            next(received)
        next(lines)
        wait_for_viewers(server, 2)
        server.stop(deadline_s=10)
        assert not server.alive
        for _ in lines:
            pass
        with pytest.raises(StopIteration):
            raise_at_the_end(received)
    stalled.close()
    again = PageServer(let_in_app(source, tmp_path), "127.0.0.1", server.port)
    again.start()
    again.stop()


def raise_at_the_end(received: Iterator[bytes]) -> None:
    try:
        for _ in received:
            pass
    except RuntimeError as error:  # a generator's own StopIteration arrives as this
        raise StopIteration from error
