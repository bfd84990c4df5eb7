"""The nginx.conf that we write: nginx takes it, and what it lets through."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance.errors import ConfigError, PortTakenError
from server import proxy
from server.certificates import make_certificates
from server.config import ServerSettings, load
from server.paths import ServerPaths
from tests.fakes.site import write_server_settings

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    config = write_server_settings(tmp_path / "sitecam-server.toml")
    ports = free_ports(4)
    with config.open("a", encoding="utf-8") as file:
        file.write(
            f"[superlink]\nport = {ports[0]}\n[page]\nport = {ports[1]}\n"
            f'[proxy]\nport = {ports[2]}\npage_port = {ports[3]}\nlisten = ["127.0.0.1"]\n'
        )
    settings = load(config)
    paths = ServerPaths(settings.state_dir)
    paths.root.mkdir()
    make_certificates(paths, fleet="tiny site", host="127.0.0.1")
    return settings


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:  # all at once: a port let go may be given again
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def with_proxy(settings: ServerSettings, **changes: object) -> ServerSettings:
    return dataclasses.replace(settings, proxy=dataclasses.replace(settings.proxy, **changes))  # type: ignore[arg-type]


@pytest.mark.skipif(NGINX is None, reason="nginx isn't installed")
def test_nginx_takes_the_configuration(settings: ServerSettings) -> None:
    command = proxy.prepare(settings)
    done = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr
    assert "[emerg]" not in done.stderr


@pytest.mark.skipif(NGINX is None, reason="nginx isn't installed")
def test_nginx_takes_the_default_addresses_too(settings: ServerSettings) -> None:
    defaults = with_proxy(settings, listen=("0.0.0.0", "[::]"))  # noqa: S104  # never started
    done = subprocess.run([*proxy.prepare(defaults), "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_everything_that_nginx_writes_is_in_the_state_folder(settings: ServerSettings) -> None:
    text = proxy.configuration(settings)
    folder = str(proxy.folder_of(settings))
    for directive in ("pid", "client_body_temp_path", "proxy_temp_path", "fastcgi_temp_path"):
        assert f'{directive} "{folder}/' in text
    assert folder.startswith(str(settings.state_dir))


def test_without_a_port_for_people_there_is_no_page(settings: ServerSettings) -> None:
    text = proxy.configuration(with_proxy(settings, page_port=0))
    assert "# For people." not in text
    assert str(settings.proxy.page_port) not in text.replace(str(settings.state_dir), "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"port": 0}, "proxy.port is not set"),
        ({"listen": ("0.0.0.0; include /etc/passwd",)}, "is not an address"),
        ({"listen": ("site.example",)}, "is not an address"),
    ],
)
def test_a_setting_that_nginx_would_misread_is_refused(
    settings: ServerSettings, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        proxy.configuration(with_proxy(settings, **changes))


@pytest.mark.parametrize("name", ["port", "page_port"])
def test_two_servers_on_one_port_are_refused(settings: ServerSettings, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"are both {settings.superlink.port}"):
        proxy.configuration(with_proxy(settings, **{name: settings.superlink.port}))


@pytest.mark.parametrize("folder", ['quo"te', "dol$lar", "back\\slash"])
def test_a_folder_that_nginx_would_misread_is_refused(settings: ServerSettings, tmp_path: Path, folder: str) -> None:
    with pytest.raises(ConfigError, match="nginx can't use the path"):
        proxy.configuration(dataclasses.replace(settings, state_dir=tmp_path / folder))


@pytest.mark.skipif(NGINX is None, reason="nginx isn't installed")
def test_a_folder_with_a_space_is_fine(settings: ServerSettings, tmp_path: Path) -> None:
    shutil.copytree(settings.state_dir, tmp_path / "my site; really {}")
    moved = dataclasses.replace(settings, state_dir=tmp_path / "my site; really {}")
    done = subprocess.run([*proxy.prepare(moved), "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_taken_port_is_named_with_its_setting(settings: ServerSettings) -> None:
    with (
        socket.create_server(("127.0.0.1", settings.proxy.page_port)),
        pytest.raises(PortTakenError, match=r"another proxy\.page_port"),
    ):
        proxy.prepare(settings)


def test_without_nginx_it_says_how_to_get_it(settings: ServerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ConfigError, match="sudo apt install"):
        proxy.prepare(settings)


# What it lets through: echoing servers stand in for the SuperLink and the page.


class Echo:
    """An HTTPS server that says which path reached it, and in whose name."""

    def __init__(self, settings: ServerSettings, port: int, name: str) -> None:
        paths = ServerPaths(settings.state_dir)

        async def echo(request: Request) -> Response:
            body = await request.body()
            path = request.scope["raw_path"].decode()
            client = request.client.host if request.client else ""
            return JSONResponse({"server": name, "path": path, "bytes": len(body), "from": client})

        config = uvicorn.Config(
            Starlette(routes=[Route("/{path:path}", echo, methods=["GET", "POST"])]),
            port=port,
            ssl_certfile=paths.tls_certificate,
            ssl_keyfile=paths.tls_key,
            log_config=None,
            lifespan="off",
            ws="none",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        wait_for(lambda: self._server.started)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)


def wait_for(good: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not good():
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.02)


class Door:
    """nginx, running on our configuration."""

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self._log = (settings.state_dir / "nginx.err").open("w")
        self._process = subprocess.Popen(proxy.prepare(settings), stderr=self._log)
        context = ssl.create_default_context(cafile=str(ServerPaths(settings.state_dir).ca_certificate))
        self.client = httpx.Client(verify=context, trust_env=False, timeout=30)
        wait_for(self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.said()
        try:
            self.client.get(self.url("/"))
        except httpx.TransportError:
            return False
        return True

    def url(self, path: str, *, people: bool = False) -> str:
        port = self.settings.proxy.page_port if people else self.settings.proxy.port
        return f"https://127.0.0.1:{port}{path}"

    def said(self) -> str:
        return (self.settings.state_dir / "nginx.err").read_text()

    def stop(self) -> None:
        self.client.close()
        self._process.terminate()
        self._process.wait(20)
        self._log.close()


@pytest.fixture
def door(settings: ServerSettings) -> Iterator[Door]:
    if NGINX is None:
        pytest.skip("nginx isn't installed")
    echoes = [Echo(settings, settings.superlink.port, "superlink"), Echo(settings, settings.page.port, "page")]
    door = Door(settings)
    yield door
    door.stop()
    for echo in echoes:
        echo.stop()


def raw(door: Door, request: str, *, tls: bool = True) -> bytes:
    """The answer to bytes on a connection: no client puts its own idea of a good path in between."""
    plain = socket.create_connection(("127.0.0.1", door.settings.proxy.port), timeout=30)
    context = ssl.create_default_context(cafile=str(ServerPaths(door.settings.state_dir).ca_certificate))
    with context.wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain as connection:
        connection.sendall(request.encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_cameras_reach_the_fleet_and_the_enrolment_and_nothing_else(door: Door) -> None:
    fleet = door.client.post(door.url("/v1/fleet/pull-messages"), content=b"x").json()
    assert (fleet["server"], fleet["path"]) == ("superlink", "/v1/fleet/pull-messages")
    enrol = door.client.get(door.url("/v1/enrol/request/1")).json()
    assert (enrol["server"], enrol["path"]) == ("page", "/v1/enrol/request/1")
    for path in (
        "/",
        "/v1/",
        "/v1/fleet",
        "/v1/control/list-runs",
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/flwr.proto.Control/ListRuns",
        "/flwr.proto.ServerAppIo/PullAppInputs",
        "/health",
        "/docs",
        "/openapi.json",
        "/V1/FLEET/pull-messages",
    ):
        for method in ("GET", "POST"):
            assert door.client.request(method, door.url(path)).status_code in (404, 301), path
    assert (
        door.client.get(door.url("/v1/fleet"), follow_redirects=False).headers.get("location", "").endswith("/fleet/")
    )


@pytest.mark.parametrize(
    "path",
    [
        "/v1/fleet/../control/list-runs",
        "/v1/fleet/..%2fcontrol/list-runs",
        "/v1/fleet/%2e%2e/control/list-runs",
        "/v1/fleet/%2e%2e%2fcontrol%2flist-runs",
        "/v1/fleet/./../control/list-runs",
        "/v1/fleet//../../v1/control/list-runs",
        "/v1/control/list-runs?/v1/fleet/",
        "/v1/control/list-runs#/v1/fleet/",
        "/v1/control/list-runs/../../fleet",
        "//v1//control/list-runs",
        "/v1/fleet\\..\\control\\list-runs",
        "/v1/fleet/..;/control/list-runs",
        "/v1/control/list-runs%00/../../fleet/x",
        "https://127.0.0.1/v1/control/list-runs",
    ],
)
def test_no_spelling_of_a_path_gets_round_it(door: Door, path: str) -> None:
    """What reaches the SuperLink, if anything, begins with /v1/fleet/ after every decoding."""
    answer = raw(door, f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    if b'"server":"superlink"' in answer:
        arrived = answer.split(b'"path":"')[1].split(b'"')[0]
        assert arrived.startswith(b"/v1/fleet/")
        assert b"/../" not in arrived
        assert b"%2e" not in arrived.lower()
        assert b"%2f" not in arrived.lower()
    else:
        assert answer.split()[1] in (b"404", b"400", b"301"), answer


def test_two_requests_in_one_are_both_looked_at(door: Door) -> None:
    smuggled = "POST /v1/control/list-runs HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    head = (
        f"POST /v1/fleet/x HTTP/1.1\r\nHost: x\r\nContent-Length: {len(smuggled)}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    answer = raw(door, f"{head}0\r\n\r\n{smuggled}")
    assert b'"path":"/v1/control' not in answer


def test_people_reach_the_page_and_no_api(door: Door) -> None:
    assert door.client.get(door.url("/cameras", people=True)).json()["server"] == "page"
    for path in ("/v1/fleet/pull-messages", "/v1/enrol/hello", "/v1/control/list-runs", "/x/../v1/enrol/hello"):
        assert door.client.post(door.url(path, people=True)).status_code == 404


def test_both_behind_it_learn_the_callers_true_address(door: Door) -> None:
    claim = {"X-Forwarded-For": "203.0.113.9"}
    for path in ("/v1/fleet/x", "/v1/enrol/x"):
        assert door.client.get(door.url(path), headers=claim).json()["from"] == "127.0.0.1"


def test_bodies_are_bounded_and_large_messages_pass(door: Door) -> None:
    big = door.client.post(door.url("/v1/fleet/push-object"), content=bytes(12 * 2**20))
    assert (big.status_code, big.json()["bytes"]) == (200, 12 * 2**20)
    for path, size in (("/v1/fleet/push-object", (proxy.MAX_BODY_MIB + 1) * 2**20), ("/v1/enrol/request", 2**15)):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
        assert raw(door, head).split()[1] == b"413"


def test_plain_http_is_refused_with_its_reason(door: Door) -> None:
    answer = raw(door, "POST /v1/fleet/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", tls=False)
    assert answer.split()[1] == b"400"
    assert b"plain HTTP request was sent to HTTPS port" in answer


def test_old_tls_is_refused(door: Door) -> None:
    context = ssl.create_default_context(cafile=str(ServerPaths(door.settings.state_dir).ca_certificate))
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", door.settings.proxy.port), timeout=30) as plain,
        pytest.raises(ssl.SSLError, match=r"(?i)version"),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_camera_of_another_fleet_hangs_up_and_both_say_why(door: Door, tmp_path: Path) -> None:
    make_certificates(other := ServerPaths(tmp_path / "other"), fleet="other", host="127.0.0.1")
    context = ssl.create_default_context(cafile=str(other.ca_certificate))
    with (
        socket.create_connection(("127.0.0.1", door.settings.proxy.port), timeout=30) as plain,
        pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")
    wait_for(lambda: "alert unknown ca" in door.said())
    assert "client: 127.0.0.1" in door.said()


def test_guessing_codes_is_slowed_down_and_waiting_cameras_are_not(door: Door) -> None:
    hellos = [door.client.post(door.url("/v1/enrol/hello"), content=b"{}").status_code for _ in range(60)]
    assert 429 in hellos
    assert door.client.get(door.url("/v1/enrol/request/1")).status_code == 200
    assert door.client.get(door.url("/v1/fleet/x")).status_code == 200


def test_refused_calls_are_noted_and_good_ones_are_not(door: Door) -> None:
    log = proxy.folder_of(door.settings) / "refused.log"
    if not log.exists():
        pytest.skip("this machine has a system log, and they go there")
    door.client.post(door.url("/v1/control/list-runs"))
    door.client.post(door.url("/v1/fleet/x"))
    wait_for(lambda: "/v1/control/list-runs" in log.read_text())
    assert '127.0.0.1 404 "POST /v1/control/list-runs HTTP/1.1"' in log.read_text()
    assert "/v1/fleet/x" not in log.read_text()


def test_it_believes_only_a_superlink_with_this_fleets_certificate(settings: ServerSettings, tmp_path: Path) -> None:
    if NGINX is None:
        pytest.skip("nginx isn't installed")
    shutil.copytree(settings.state_dir, tmp_path / "other")
    other = dataclasses.replace(settings, state_dir=tmp_path / "other")
    make_certificates(ServerPaths(other.state_dir), fleet="other", host="127.0.0.1")
    echo = Echo(other, settings.superlink.port, "impostor")
    door = Door(settings)
    try:
        assert door.client.post(door.url("/v1/fleet/x")).status_code == 502
        assert "upstream SSL certificate verify error" in door.said()
    finally:
        door.stop()
        echo.stop()
