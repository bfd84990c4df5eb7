"""What another machine can reach of the server: two network namespaces, a real SuperLink, and nginx in front of it.

No bound here is a measure of speed: each only ends a test that hangs.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.proto.control_pb2 import ListNodesRequest, ListRunsRequest, RegisterNodeRequest, StartRunRequest
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest, GetNodesRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.runtime.runtime_http_client import RuntimeHttpClient
from flwr.supernode.fleet_http_client import FleetHttpClient

from appliance.fleet import load_fleet
from appliance.paths import CameraPaths
from server import proxy
from server.admission import Admission
from tests.fakes.gatehouse import Desk
from tests.fakes.namespaces import TwoMachines
from tests.night.running import HANG_S, TinySite, free_port, wait_until

pytestmark = pytest.mark.night

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")


class GuardedSite(TinySite):
    """A site whose server other machines reach through nginx.

    Args:
        machines: Where it is.
        root: Its folder.
        backbone: The tiny backbone.
    """

    def __init__(self, machines: TwoMachines, root: Path, backbone: bytes) -> None:
        self.machines = machines
        self._front, self._page = free_port(), free_port()
        super().__init__(root, backbone, cameras=1)

    def write_rules(self, **changes: float | str) -> None:
        """As any site's, with an address on the cable and a proxy."""
        super().write_rules(**({"quorum": 1} | changes))
        text = self._config.read_text().replace(
            "[superlink]\n", f'[superlink]\nhost = "{self.machines.server_address}"\n'
        )
        front = f'[proxy]\nport = {self._front}\nlisten = ["{self.machines.server_address}"]\n'
        self._config.write_text(f"{text}{front}[page]\nport = {self._page}\n")

    @property
    def front(self) -> str:
        """Where other machines reach it."""
        return f"{self.machines.server_address}:{self._front}"

    @contextlib.contextmanager
    def nginx(self) -> Iterator[None]:
        """The proxy, while this lasts."""
        with (self.root / "nginx.err").open("w") as log:
            process = subprocess.Popen(proxy.prepare(self.settings), stderr=log)
        try:
            wait_until(self._front_answers, what="nginx")
            yield
        finally:
            process.terminate()
            process.wait(30)

    def _front_answers(self) -> bool:
        try:
            socket.create_connection((self.machines.server_address, self._front), timeout=10).close()
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def naked_superlink(self) -> Iterator[str]:
        """A SuperLink on every address, as people run it who don't know; where it is."""
        port = free_port()
        command = self.superlink.command()
        for option, value in (("--host", "0.0.0.0"), ("--port", str(port))):  # noqa: S104  # that is the point
            command[command.index(option) + 1] = value
        command[command.index("--database") + 1] = str(self.root / "naked.sqlite")
        with (self.root / "naked.log").open("w") as log:
            process = subprocess.Popen(command, env=self.superlink.environment(), stdout=log, stderr=log)
        try:
            wait_until(lambda: "Uvicorn running" in (self.root / "naked.log").read_text(), what="the SuperLink")
            yield f"{self.machines.server_address}:{port}"
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: bytes) -> Iterator[GuardedSite]:
    if NGINX is None:
        pytest.skip("nginx isn't installed")
    with TwoMachines() as machines, machines.on_server():
        site = GuardedSite(machines, tmp_path_factory.mktemp("guarded"), tiny_backbone)
        with site, site.nginx():
            yield site
        site.kill_what_is_left()


Call = Callable[[str, bytes], object]


def control(call: Callable[[ControlHttpClient], object]) -> Call:
    """A call of Flower's own client of the Control API."""

    def made(address: str, authority: bytes) -> object:
        with ControlHttpClient.from_server_address(
            address, False, authority, [RuntimeVersionHttpInterceptor("Flower CLI")]
        ) as client:
            return call(client)

    return made


def runtime(call: Callable[[RuntimeHttpClient], object]) -> Call:
    """Likewise of the Runtime API."""

    def made(address: str, authority: bytes) -> object:
        with RuntimeHttpClient.from_server_address(
            address, False, authority, [RuntimeVersionHttpInterceptor("SuperExec")]
        ) as client:
            return call(client)

    return made


def _strangers_key() -> bytes:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


CALLS: dict[str, Call] = {
    "control: list runs": control(lambda client: client.ListRuns(ListRunsRequest())),
    "control: list cameras": control(lambda client: client.ListNodes(ListNodesRequest())),
    "control: let a camera in": control(
        lambda client: client.RegisterNode(RegisterNodeRequest(public_key=_strangers_key()))
    ),
    "runtime: take a task": runtime(
        lambda client: client.AcquireTask(AcquireTaskRequest(supported_task_types=["serverapp"]))
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_stranger_gets_404_for_everything_but_the_fleet_api(site: GuardedSite, name: str) -> None:
    with site.machines.on_stranger(), pytest.raises(httpx.HTTPStatusError) as caught:
        CALLS[name](site.front, site.paths.ca_certificate.read_bytes())
    assert caught.value.response.status_code == 404


@pytest.mark.parametrize(
    "call",
    [
        control(lambda client: client.StartRun(StartRunRequest())),
        runtime(lambda client: client.GetNodes(GetNodesRequest())),
    ],
)
def test_so_it_does_for_calls_that_would_need_more(site: GuardedSite, call: Call) -> None:
    with site.machines.on_stranger(), pytest.raises(httpx.HTTPStatusError) as caught:
        call(site.front, site.paths.ca_certificate.read_bytes())
    assert caught.value.response.status_code == 404


def test_the_superlink_itself_is_not_on_the_cable(site: GuardedSite) -> None:
    address = f"{site.machines.server_address}:{site.settings.superlink.port}"
    with site.machines.on_stranger(), pytest.raises(httpx.ConnectError):
        CALLS["control: list runs"](address, site.paths.ca_certificate.read_bytes())


def test_the_fleet_api_answers_through_the_proxy(site: GuardedSite) -> None:
    """What answers is the SuperLink, not nginx: it knows why it refuses."""
    context = ssl.create_default_context(cafile=str(site.paths.ca_certificate))
    url = f"https://{site.front}/v1/fleet/activate-node"
    kind = {"Content-Type": "application/protobuf"}
    with site.machines.on_stranger():
        answer = httpx.post(url, content=b"", headers=kind, verify=context, trust_env=False)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid SuperNode authentication"})


def test_without_the_proxy_the_same_calls_succeed(site: GuardedSite) -> None:
    """Else the tests above could not fail, and nobody would know why the proxy is there."""
    with site.naked_superlink() as address, site.machines.on_stranger():
        for name, call in CALLS.items():
            assert call(address, site.paths.ca_certificate.read_bytes()) is not None, name
        with (
            FleetHttpClient.from_server_address(address, False, site.paths.ca_certificate.read_bytes(), []) as fleet,
            pytest.raises(httpx.HTTPStatusError) as caught,
        ):
            fleet.ActivateNode(ActivateNodeRequest(public_key=_strangers_key()))
        assert caught.value.response.status_code == 401  # that one API asks who calls


def test_a_camera_on_another_machine_joins_by_code(site: GuardedSite) -> None:
    """``sitecam enrol CODE`` there, ``approve`` here, nginx and a real SuperLink in between."""
    admission = Admission(site.settings, site.superlink)
    desk = Desk(admission, lambda: datetime.now(UTC))
    config = site.root / "gate-2.toml"
    config.write_text('state_dir = "gate-2"\n[camera]\nname = "gate-2"\nsource = "folder"\npath = "pictures"\n')
    code = admission.new_code()
    assert f"{code.host}:{code.port}" == site.front
    command = [sys.executable, "-m", "appliance.cli", "--config", str(config)]
    try:
        with site.machines.on_stranger():
            joining = subprocess.Popen(
                [*command, "enrol", code.text, "--server", site.front],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        try:
            wait_until(lambda: bool(admission.requests()), what="the request")
            (request,) = admission.requests()
            assert (request.name, request.address) == ("gate-2", "10.87.46.2")
            admission.approve(request.id, who="command line")
            printed, _ = joining.communicate(timeout=HANG_S)
        finally:
            joining.kill()
            joining.wait()
    finally:
        desk.close()
    assert joining.returncode == 0, printed
    assert "This camera belongs to tiny site and runs version 1." in printed
    fleet = load_fleet(CameraPaths(site.root / "gate-2").fleet)
    assert "{}:{}".format(*fleet.address) == site.front
    admission.revoke("gate-2", "the test is over", who="command line")


def test_a_night_passes_through_the_proxy(site: GuardedSite) -> None:
    (camera,) = site.cameras
    with site.machines.on_stranger():
        site.start_camera(camera)
        site.start_night(camera)
    held = site.finish_round(site.start_round())
    assert (held.exit_code, held.outcome) == (0, "published"), (held.message, held.events)
    verdict = held.verdicts[camera.name]
    assert verdict is not None
    assert site.finish_night(camera) == 0
    log = site.superlink.log.read_text()
    assert '10.87.46.2:0 - "POST /v1/fleet/activate-node' in log  # the proxy says whose it is
