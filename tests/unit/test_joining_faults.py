"""Joining a fleet with a code while somebody is in between, alters or replays it, or the power goes."""

from __future__ import annotations

import io
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from appliance import joining
from appliance.errors import CertificateError, ConfigError
from appliance.join_client import JoinServer
from appliance.joining import pending_path
from server import reception
from server.certificates import make_certificates
from server.enrol import fleet_bundle
from server.fleet.join import MAX_BODY_BYTES
from tests.fakes.gatehouse import Gatehouse, Visitor


@pytest.fixture
def house(tmp_path: Path, tiny_backbone: bytes) -> Iterator[Gatehouse]:
    house = Gatehouse(tmp_path, tiny_backbone)
    house.open()
    yield house
    house.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def test_a_replayed_request_is_refused(house: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    ask = JoinServer.ask

    def listening(server: JoinServer, path: str, body: object = None, *, token: str = "") -> dict[str, object]:
        if path == "request":
            sent.append(body)
        return ask(server, path, body, token=token)

    monkeypatch.setattr(JoinServer, "ask", listening)
    visitor = Visitor(house)
    with pytest.raises(CertificateError, match="Nobody approved"):
        visitor.join(house.invitation(cameras=5), wait_s=0)
    before = house.admission.requests(open_only=False)
    again = ask(JoinServer("127.0.0.1", house.port, house.paths.ca_certificate.read_bytes()), "request", sent[0])
    assert again == {"again": True}
    assert house.admission.requests(open_only=False) == before
    (code,) = house.admission.open_codes()
    assert code.uses_left == 4


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"proof": "AAAA"}, "does not know this code's secret"),
        ({"name": "gate-9"}, "does not know this code's secret"),
        ({"signature": "AAAA"}, "does not have the private half"),
        ({"server_nonce": "AAAAAAAAAAAAAAAAAAAAAA=="}, "forgets this camera"),
        ({"camera_nonce": "AAAAAAAAAAAAAAAAAAAAAA=="}, "forgets this camera"),
        ({"camera_nonce": "AAAA"}, "not as the join protocol has it: camera_nonce has 3 bytes"),
        ({"proof": "*"}, "not as the join protocol has it: proof is not base64"),
        ({"name": 7}, "not as the join protocol has it: name is missing"),
        ({"name": "\ud800"}, "not as the join protocol has it: name is missing, or no text"),
        ({"public_key": "ssh-rsa AAAA"}, "not as the join protocol has it: public_key"),
        ({"padding": "x" * MAX_BODY_BYTES}, "longer than"),
    ],
)
def test_an_altered_request_is_refused(
    house: Gatehouse, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], why: str
) -> None:
    ask = JoinServer.ask

    def altering(server: JoinServer, path: str, body: object = None, *, token: str = "") -> dict[str, object]:
        return ask(server, path, {**body, **change} if path == "request" else body, token=token)  # type: ignore[dict-item]

    monkeypatch.setattr(JoinServer, "ask", altering)
    with pytest.raises((CertificateError, ConfigError), match=why):
        Visitor(house).join(house.invitation())
    assert house.admission.requests(open_only=False) == []


def test_a_server_in_between_that_shows_its_own_authority_is_found_out(
    house: Gatehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passes everything on but puts its own authority in, which it can't prove."""
    make_certificates(other := replace(house.paths, root=house.root / "stranger"), fleet="f", host="127.0.0.1")
    ask = JoinServer.ask

    def in_between(server: JoinServer, path: str, body: object = None, *, token: str = "") -> dict[str, object]:
        return {**ask(server, path, body, token=token), "ca": other.ca_certificate.read_text()}

    monkeypatch.setattr(JoinServer, "ask", in_between)
    with pytest.raises(CertificateError, match=r"does not know this code's secret.*somebody is in between"):
        Visitor(house).join(house.invitation())
    assert house.admission.requests(open_only=False) == []


def test_a_scanned_fingerprint_of_another_authority_is_refused(house: Gatehouse) -> None:
    with pytest.raises(CertificateError, match="not the one that the invitation names"):
        Visitor(house).join(replace(house.invitation(), fingerprint="0" * 64))
    assert house.admission.requests(open_only=False) == []


def test_the_servers_name_must_be_the_certificates(house: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever has any certificate by this authority could be asked."""
    monkeypatch.setattr("appliance.joining.JoinServer", _elsewhere(house))
    with pytest.raises(CertificateError, match=r"certificate of not-its-name.*exactly as the server shows it"):
        Visitor(house).join(replace(house.invitation(), host="not-its-name"))
    assert house.admission.requests(open_only=False) == []


def _elsewhere(house: Gatehouse) -> Callable[[str, int, bytes | None], JoinServer]:
    """Servers of any name, all of them the gatehouse."""

    def connect(_: tuple[str, int], *rest: Any) -> socket.socket:
        return socket.create_connection(("127.0.0.1", house.port), *rest)

    def server(host: str, port: int, ca: bytes | None) -> JoinServer:
        made = JoinServer(host, port, ca)
        made._connection._create_connection = connect  # type: ignore[attr-defined]  # http.client's own seam
        return made

    return server


def test_a_restart_between_hello_and_request_is_survived(
    house: Gatehouse, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = JoinServer.ask
    restarted: list[bool] = []

    def restarting(server: JoinServer, path: str, body: object = None, *, token: str = "") -> dict[str, object]:
        if path == "request" and not restarted:
            restarted.append(True)
            house.close()
            house.open()
        return ask(server, path, body, token=token)

    monkeypatch.setattr(JoinServer, "ask", restarting)
    joined = Visitor(house).start(pool, house.invitation())
    house.admission.approve(house.waiting()[0].id, who="page")
    assert joined.result(30) == 1


def test_a_restart_while_a_camera_waits_is_survived(house: Gatehouse, pool: ThreadPoolExecutor) -> None:
    visitor = Visitor(house)
    joined = visitor.start(pool, house.invitation())
    (request,) = house.waiting()
    house.close()
    while not any("can't be reached" in line for line in visitor.said):
        assert not joined.done()
        time.sleep(0.02)
    house.open()
    while "It answers again" not in visitor.said:
        assert not joined.done()
        time.sleep(0.02)
    house.admission.approve(request.id, who="page")
    assert joined.result(30) == 1


def test_a_camera_that_was_cut_off_goes_on_with_its_request(house: Gatehouse) -> None:
    visitor = Visitor(house)
    invitation = house.invitation()
    with pytest.raises(CertificateError, match="Nobody approved this camera within"):
        visitor.join(invitation, wait_s=0)
    assert pending_path(visitor.paths).stat().st_mode & 0o777 == 0o600
    house.admission.approve(house.waiting()[0].id, who="page")
    assert visitor.join(invitation) == 1
    assert len(house.admission.requests(open_only=False)) == 1


def test_a_camera_that_never_heard_the_answer_asks_again_with_the_same_code(house: Gatehouse) -> None:
    visitor = Visitor(house)
    invitation = house.invitation()
    for _ in range(2):
        with pytest.raises(CertificateError, match="Nobody approved"):
            visitor.join(invitation, wait_s=0)
        pending_path(visitor.paths).unlink()
    first, second = house.admission.requests(open_only=False)
    assert (first.decision, second.decision) == ("replaced", None)


def test_a_half_written_request_file_is_not_fatal(house: Gatehouse, pool: ThreadPoolExecutor) -> None:
    visitor = Visitor(house)
    visitor.paths.root.mkdir()
    pending_path(visitor.paths).write_bytes(b'{"host": "')
    joined = visitor.start(pool, house.invitation())
    house.admission.approve(house.waiting()[0].id, who="page")
    assert joined.result(30) == 1


def test_another_camera_can_not_take_somebodys_bundle(house: Gatehouse) -> None:
    visitor = Visitor(house)
    with pytest.raises(CertificateError, match="Nobody approved"):
        visitor.join(house.invitation(), wait_s=0)
    (request,) = house.waiting()
    house.admission.approve(request.id, who="page")
    server = JoinServer("127.0.0.1", house.port, house.paths.ca_certificate.read_bytes())
    for token in ("", "guess", "é"):
        assert server.ask(f"request/{request.id}", token=token)["state"] == "unknown"
        with pytest.raises(CertificateError, match="was not let in"):
            server.fetch(f"request/{request.id}/bundle", house.root / "stolen", token=token)
    assert server.ask(f"request/{2**70}")["state"] == "unknown"
    assert not (house.root / "stolen").exists()


def test_a_bundle_of_another_fleet_is_refused_even_from_the_right_server(
    house: Gatehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = Visitor(house)
    invitation = house.invitation()
    with pytest.raises(CertificateError, match="Nobody approved"):
        visitor.join(invitation, wait_s=0)
    house.admission.approve(house.waiting()[0].id, who="page")
    make_certificates(other := replace(house.paths, root=house.root / "stranger"), fleet="f", host="127.0.0.1")
    bundle = fleet_bundle(house.settings)
    ours, theirs = house.paths.ca_certificate.read_bytes(), other.ca_certificate.read_bytes()

    def swapped(_: object) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(bundle)) as old, zipfile.ZipFile(out, "w") as new:
            for name in old.namelist():
                new.writestr(name, old.read(name).replace(ours, theirs))
        return out.getvalue()

    monkeypatch.setattr(reception, "fleet_bundle", swapped)
    with pytest.raises(CertificateError, match="another fleet's than the one that the join code proved"):
        visitor.join(invitation)
    assert not (visitor.paths.fleet / "fleet.json").exists()


def test_a_server_that_is_not_there_is_named(house: Gatehouse) -> None:
    invitation = house.invitation()
    house.close()
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{house.port} can't be reached"):
        Visitor(house).join(invitation)


def test_something_else_that_answers_is_not_taken_for_a_server(
    house: Gatehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "_hello", lambda *_: JoinServer("127.0.0.1", house.port, None).ask("nothing-here"))
    with pytest.raises(ConfigError, match="is not a Sitecam server: HTTP status 404"):
        Visitor(house).join(house.invitation())
