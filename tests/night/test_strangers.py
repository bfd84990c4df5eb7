"""Who is not let in by a real SuperLink, and what each side says of it.

No bound here is a measure of speed: each only ends a test that hangs.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import socket
import ssl
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key
from flwr.proto.fleet_pb2 import PullMessagesRequest, RegisterNodeFleetRequest
from flwr.proto.node_pb2 import Node
from google.protobuf.message import Message  # type: ignore[import-untyped]  # it ships none

from appliance.errors import NightError
from appliance.fleet import enrol, make_node_key
from appliance.join_code import read_code
from appliance.paths import CameraPaths
from server.admission import Admission
from server.certificates import make_certificates
from server.demo.site import DemoCamera
from server.enrol import fleet_bundle
from server.paths import ServerPaths
from server.roster import Roster
from server.superlink import SuperLink
from tests.night.running import TinySite, wait_until
from trainer import flower

pytestmark = pytest.mark.night


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: bytes) -> Iterator[TinySite]:
    with TinySite(tmp_path_factory.mktemp("strangers"), tiny_backbone, cameras=2) as site:
        yield site
    site.kill_what_is_left()


@pytest.fixture(scope="module")
def plain_site(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: bytes) -> Iterator[TinySite]:
    """The same with flower-superlink as it is shipped."""
    with pytest.MonkeyPatch.context() as patch:
        ours = SuperLink.command

        def command(link: SuperLink) -> list[str]:
            options = list(itertools.dropwhile(lambda word: not word.startswith("--"), ours(link)))
            return [flower.program("flower-superlink"), *options]

        patch.setattr(SuperLink, "command", command)
        with TinySite(tmp_path_factory.mktemp("plain"), tiny_backbone, cameras=1) as site:
            yield site
    site.kill_what_is_left()


class Caller:
    """Somebody who speaks the Fleet API with a camera's key.

    Args:
        site: Whose SuperLink.
        key: OpenSSH private key file.
    """

    def __init__(self, site: TinySite, key: Path) -> None:
        self._site = site
        loaded = load_ssh_private_key(key.read_bytes(), password=None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        self._key = loaded
        self.public_key = loaded.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def signed(self, *, seconds: float = 0.0) -> dict[str, str]:
        """Headers as a SuperNode signs them, whose clock is so many seconds fast."""
        at = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
        return {
            "flwr-public-key": b64encode(self.public_key).decode(),
            "flwr-timestamp": at,
            "flwr-signature": b64encode(self._key.sign(at.encode(), ec.ECDSA(hashes.SHA256()))).decode(),
        }

    def post(self, path: str, message: Message, headers: dict[str, str], *, scheme: str = "https") -> httpx.Response:
        kind = "application/protobuf"
        context = ssl.create_default_context(cafile=str(self._site.paths.ca_certificate))
        return httpx.post(
            f"{scheme}://{self._site.superlink.address}/v1/fleet/{path}",
            content=message.SerializeToString(),
            headers={"Content-Type": kind, "Accept": kind} | headers,
            verify=context,
            timeout=60,
            trust_env=False,
        )


def caller(site: TinySite, number: int = 0) -> tuple[Caller, PullMessagesRequest]:
    """An enrolled camera's caller, and its question for messages."""
    camera = site.cameras[number]
    (node,) = (each.node_id for each in Roster(site.paths.registry).cameras() if each.name == camera.name)
    return Caller(site, CameraPaths(camera.state).node_key), PullMessagesRequest(node=Node(node_id=node))


def other_form(signature: str) -> str:
    """The same signature with n - s for s: everybody can make it, and it verifies."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973  # P-384
    r, s = decode_dss_signature(b64decode(signature))
    return b64encode(encode_dss_signature(r, order - s)).decode()


def stranger(site: TinySite, name: str) -> DemoCamera:
    """A camera that has this fleet's bundle, and a key that nobody let in."""
    config = site.root / f"{name}.toml"
    config.write_text(site.cameras[0].config.read_text().replace(site.cameras[0].name, name))
    paths = CameraPaths(site.root / name)
    make_node_key(paths)
    bundle = site.root / f"{name}.bundle"
    bundle.write_bytes(fleet_bundle(site.settings))
    enrol(paths, bundle)
    return dataclasses.replace(site.cameras[0], name=name, config=config, state=paths.root)


def node_log(camera: DemoCamera) -> str:
    return (CameraPaths(camera.state).flower / "supernode.log").read_text()


def refused(site: TinySite, camera: DemoCamera) -> None:
    """It says so at once, and gives up after two minutes, which nobody waits for here: the server might only believe
    that it is there still."""
    wait_until(lambda: "refuses this camera" in site.status(camera).message, what="its word")
    assert "does not let this camera in yet" in site.status(camera).message
    assert "[code: 2004] Failed to activate SuperNode" in node_log(camera)
    assert site.stop_night(camera) is not None


def test_an_unknown_key_is_refused_and_both_say_so(site: TinySite) -> None:
    camera = stranger(site, "stranger")
    site.start_night(camera)
    refused(site, camera)
    assert "No SuperNode found with the given public key" in site.superlink.log.read_text()


def test_a_camera_can_not_let_itself_in(site: TinySite, tmp_path: Path) -> None:
    paths = CameraPaths(tmp_path)
    make_node_key(paths)
    someone = Caller(site, paths.node_key)
    answer = someone.post("register-node", RegisterNodeFleetRequest(public_key=someone.public_key), someone.signed())
    assert answer.status_code == 412
    assert "must be registered via the CLI" in answer.text


def test_a_revoked_camera_is_refused_at_its_next_message(site: TinySite) -> None:
    camera = site.cameras[1]
    admission = Admission(site.settings, site.superlink)
    node = admission.roster.camera(camera.name).node_id
    site.start_night(camera)
    wait_until(lambda: f"Activated node_id={node}" in site.superlink.log.read_text(), what="the camera")
    wait_until(lambda: "SuperNode ID" in node_log(camera), what="its own line")

    admission.revoke(camera.name, "stolen", who="command line")
    assert site.finish_night(camera) == 1
    assert "SuperNode terminated gracefully" in node_log(camera)  # Flower's words for a 401 in mid-night
    assert site.status(camera).phase == "failed"
    said = site.superlink.log.read_text().split("/v1/control/unregister-node")[1]
    assert 'POST /v1/fleet/pull-messages HTTP/1.1" 401' in said or 'send-node-heartbeat HTTP/1.1" 401' in said
    assert admission.roster.trail()[0].text == f"{camera.name} was revoked: stolen"

    site.start_night(camera)  # and the next night, or after a restart of the camera
    refused(site, camera)

    key = CameraPaths(camera.state).node_public_key
    with pytest.raises(NightError, match="Public key already in use"):
        site.superlink.register(key, "again")  # its key never comes back, whoever would let it


def test_an_approval_that_was_cut_off_after_the_superlink_is_completed(site: TinySite) -> None:
    """Registered there, unknown to the roster: the next approval finds the key instead of failing on it."""
    paths = CameraPaths(site.root / "late")
    key = make_node_key(paths)
    admission = Admission(site.settings, site.superlink)
    code = admission.new_code()
    public_key = " ".join(key.read_text().split()[:2])
    request = admission.tables.ask(read_code(code.text).id, "late", public_key, "192.0.2.7", "token")
    assert request is not None
    node = site.superlink.register(key, "late")
    camera = admission.approve(request, who="command line")
    assert (camera.node_id, camera.name) == (node, "late")
    admission.revoke("late", "the test is over", who="command line")
    (known,) = [each for each in site.superlink.registered() if each.node_id == node]
    assert known.unregistered
    with pytest.raises(NightError, match="Node ID not found"):
        site.superlink.unregister(node)


def test_a_used_signature_is_refused_whatever_body_it_comes_with(site: TinySite) -> None:
    camera, question = caller(site)
    headers = camera.signed()
    assert camera.post("pull-messages", question, headers).status_code == 200
    again = camera.post("pull-messages", question, headers)
    assert (again.status_code, again.json()) == (401, {"detail": "This request was sent before"})
    turned = headers | {"flwr-signature": other_form(headers["flwr-signature"])}
    assert camera.post("pull-messages", question, turned).status_code == 401
    assert camera.post("push-messages", question, headers).status_code in (401, 422)
    assert "a signature that had been used before" in site.superlink.log.read_text()
    assert camera.post("pull-messages", question, camera.signed()).status_code == 200


def test_plain_flower_takes_it_again(plain_site: TinySite) -> None:
    """Else the test above could not fail. It shows too that the signature says nothing about the body."""
    camera, question = caller(plain_site)
    headers = camera.signed()
    for _ in range(2):
        assert camera.post("pull-messages", question, headers).status_code == 200
    turned = headers | {"flwr-signature": other_form(headers["flwr-signature"])}
    assert camera.post("pull-messages", question, turned).status_code == 200


@pytest.mark.parametrize(("seconds", "status"), [(-320, 401), (-60, 200), (30, 401)])
def test_a_signature_counts_around_its_time_only(site: TinySite, seconds: float, status: int) -> None:
    camera, question = caller(site)
    assert camera.post("pull-messages", question, camera.signed(seconds=seconds)).status_code == status


def test_one_camera_can_not_ask_for_another(site: TinySite) -> None:
    camera, question = caller(site)
    question = PullMessagesRequest(node=Node(node_id=question.node.node_id + 1))
    assert camera.post("pull-messages", question, camera.signed()).status_code == 401


def test_without_a_signature_nothing_is_answered(site: TinySite) -> None:
    camera, question = caller(site)
    answer = camera.post("pull-messages", question, {})
    assert (answer.status_code, answer.json()) == (401, {"detail": "Invalid SuperNode authentication"})


def test_plain_http_is_not_answered(site: TinySite) -> None:
    camera, question = caller(site)
    with pytest.raises(httpx.TransportError):
        camera.post("pull-messages", question, camera.signed(), scheme="http")
    with socket.create_connection(("127.0.0.1", site.settings.superlink.port), timeout=60) as plain:
        plain.sendall(b"GET /v1/fleet/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP/" not in plain.recv(4096)


def test_a_server_with_another_authority_is_not_talked_to(site: TinySite) -> None:
    camera = stranger(site, "misled")
    make_certificates(other := ServerPaths(site.root / "other"), fleet="other", host="127.0.0.1")
    (camera.state / "fleet" / "ca.pem").write_bytes(other.ca_certificate.read_bytes())
    site.start_night(camera)
    assert site.finish_night(camera) == 1
    assert "a certificate that this fleet's authority did not sign" in site.status(camera).message
    ledger = CameraPaths(camera.state).ledger
    assert not ledger.exists() or all(json.loads(line)["kind"] == "total" for line in ledger.read_text().splitlines())


def test_a_camera_with_good_papers_is_let_in_all_the_while(site: TinySite) -> None:
    """Else the tests above could pass on a SuperLink that refuses everybody."""
    camera = site.cameras[0]
    before = site.superlink.log.read_text().count("Activated node_id")
    site.start_night(camera)
    wait_until(lambda: site.superlink.log.read_text().count("Activated node_id") > before, what="the camera")
    assert site.stop_night(camera) == 0
