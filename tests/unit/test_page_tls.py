"""The camera's half: the fleet's certificate over real HTTPS, its renewal, and what stands in the way."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette

from appliance import page_names, page_tls
from appliance.errors import CertificateError
from appliance.join_client import JoinServer
from appliance.join_code import ca_fingerprint
from appliance.page_material import take_fleets
from appliance.page_tls import RENEW_AT, PageCertificate, fleet_authority, tries_path
from appliance.paths import CameraPaths
from server.certificates import load_authority, sign_server_certificate
from server.page_certificates import DAYS
from tests.fakes.gatehouse import Gatehouse, Visitor
from tests.fakes.page_asker import Clock, page
from tests.fakes.waiting import wait_until


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "gate-1")
    monkeypatch.setattr(page_names, "own_addresses", lambda: ["192.168.1.7"])


@pytest.fixture
def house(tmp_path: Path, tiny_backbone: bytes, clock: Clock) -> Iterator[Gatehouse]:
    house = Gatehouse(tmp_path, tiny_backbone)
    house.clock = clock
    house.open()
    yield house
    house.close()


@pytest.fixture
def member(house: Gatehouse) -> CameraPaths:
    """A camera of the fleet."""
    visitor = Visitor(house)
    visitor.enrol(house)
    return visitor.paths


def ledger(paths: CameraPaths) -> list[dict[str, object]]:
    if not paths.ledger.exists():
        return []
    return [json.loads(line) for line in paths.ledger.read_text().splitlines()]


# The fleet's


def test_a_member_gets_the_fleets_certificate(house: Gatehouse, member: CameraPaths, clock: Clock) -> None:
    told: list[str] = []
    made = page(member, clock, "yard.local", told=told)
    key, own = made.key_file.read_bytes(), made.fingerprint()
    assert made.state().kind == "its own"
    made.look()
    state = made.state()
    assert (state.kind, state.problem, told) == ("fleet's", "", ["renewed"])
    assert state.names == ("yard.local", "gate-1.local", "192.168.1.7")
    assert state.days_left == pytest.approx(DAYS, abs=0.1)
    assert "Without gate-1: this fleet's authority was not made for it." in state.sentence
    assert made.key_file.read_bytes() == key
    assert state.fingerprint != own
    assert any("gate-1 got a page certificate for yard.local, gate-1.local, 192.168.1.7" in t for t in house.trail())
    made.look()  # nothing is due
    assert len(told) == 1
    assert page(member, clock, "yard.local").state() == state  # nor after a restart


def test_every_request_stands_in_the_ledger_before_it_leaves(
    house: Gatehouse, member: CameraPaths, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    ask = JoinServer.ask

    def listening(server: JoinServer, path: str, body: object = None, *, token: str = "") -> dict[str, object]:
        seen.append((len(json.dumps(body).encode()), len(ledger(member))))
        return ask(server, path, body, token=token)

    monkeypatch.setattr(JoinServer, "ask", listening)
    page(member, clock).look()
    (line,) = ledger(member)
    ((size, lines_before),) = seen
    assert lines_before == 1
    assert line["kind"] == "page certificate"
    assert (line["to"], line["up_bytes"]) == (f"127.0.0.1:{house.port}", size)
    assert line["names"] == ["gate-1", "gate-1.local", "192.168.1.7"]


def test_neither_key_leaves(member: CameraPaths, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    ask = JoinServer.ask

    def listening(server: JoinServer, path: str, body: object = None, *, token: str = "") -> dict[str, object]:
        sent.append(json.dumps(body))
        return ask(server, path, body, token=token)

    monkeypatch.setattr(JoinServer, "ask", listening)
    page(member, clock).look()
    assert "PRIVATE" not in sent[0]
    for path in (member.page_key, member.node_key):
        assert path.read_text().splitlines()[1] not in sent[0]


def serve(made: PageCertificate) -> tuple[uvicorn.Server, threading.Thread, int]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        Starlette(),
        ssl_certfile=made.certificate_file,
        ssl_keyfile=made.key_file,
        log_config=None,
        lifespan="off",
        ws="none",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    wait_until(lambda: server.started)
    return server, thread, int(listener.getsockname()[1])


def test_a_browser_that_has_the_fleets_authority_trusts_the_page_by_its_names_only(
    house: Gatehouse, member: CameraPaths, clock: Clock
) -> None:
    made = page(member, clock)
    made.look()
    authority = fleet_authority(member)
    assert authority is not None
    assert authority[1] == ca_fingerprint(house.paths.ca_certificate.read_bytes())
    context = ssl.create_default_context(cadata=authority[0].decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    server, thread, port = serve(made)
    try:
        for name in ("gate-1.local", "192.168.1.7"):
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname=name) as secure,
            ):
                assert secure.version() == "TLSv1.3"
        for name in ("gate-2.local", "127.0.0.1"):
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
                pytest.raises(ssl.SSLCertVerificationError, match="not valid for"),
            ):
                context.wrap_socket(plain, server_hostname=name)
    finally:
        server.should_exit = True
        thread.join(20)


def test_it_is_renewed_when_a_third_of_its_life_is_left(member: CameraPaths, clock: Clock) -> None:
    told: list[str] = []
    made = page(member, clock, told=told)
    made.look()
    first, began = made.fingerprint(), clock.now
    clock.now = began + timedelta(days=DAYS * (1 - RENEW_AT) - 1)
    made.look()
    assert (made.fingerprint(), len(told)) == (first, 1)
    clock.now = began + timedelta(days=DAYS * (1 - RENEW_AT) + 1)
    assert made.state().kind == "runs out"
    made.look()
    assert made.fingerprint() != first
    assert (made.state().kind, len(told)) == ("fleet's", 2)


def test_a_name_that_was_added_is_asked_for(member: CameraPaths, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    made = page(member, clock)
    wait_s = made.look()
    assert wait_s >= 5 * 3600  # or a network that flaps would use up what the server signs in a day
    monkeypatch.setattr(page_names, "own_addresses", lambda: ["192.168.1.7", "192.168.1.99"])
    made.look()
    assert "192.168.1.99" in made.state().names
    monkeypatch.setattr(page_names, "own_addresses", list)
    before = made.fingerprint()
    made.look()
    assert made.fingerprint() == before  # one name less is no reason


def test_while_the_server_is_dead_it_tries_ever_more_rarely_and_says_so(
    house: Gatehouse, member: CameraPaths, clock: Clock
) -> None:
    house.close()
    made = page(member, clock)
    own = made.fingerprint()
    waits = [made.look() for _ in range(12)]
    assert 30 <= waits[0] <= 60
    assert 60 <= waits[1] <= 120
    assert all(3 * 3600 <= wait_s <= 6 * 3600 for wait_s in waits[-2:])
    assert len(set(waits)) == len(waits)  # with jitter
    state = made.state()
    assert (state.kind, state.fingerprint) == ("its own", own)
    assert f"The server 127.0.0.1:{house.port} can't be reached" in state.sentence
    assert page(member, clock).state() == state  # a restart knows it too
    house.open()
    made.look()
    assert (made.state().kind, made.state().problem) == ("fleet's", "")


def test_a_server_that_is_dead_for_the_last_month_costs_a_warning_and_then_the_fleets_name(
    house: Gatehouse, member: CameraPaths, clock: Clock
) -> None:
    made = page(member, clock)
    made.look()
    house.close()
    clock.now += timedelta(days=80)
    made.look()
    state = made.state()
    assert state.kind == "runs out"
    assert state.sentence.startswith("The page's certificate runs out in 10 days and could not be renewed yet. The ser")
    clock.now += timedelta(days=20)
    made.look()
    assert made.state().kind == "its own"  # better than one that has run out: HTTPS goes on
    house.open()
    made.look()
    assert made.state().kind == "fleet's"


def test_a_revoked_camera_keeps_what_it_has_and_says_why(house: Gatehouse, member: CameraPaths, clock: Clock) -> None:
    house.admission.revoke("gate-1", "stolen", who="page")
    made = page(member, clock)
    made.look()
    assert made.state().kind == "its own"
    assert "This camera was revoked: stolen" in made.state().sentence


def test_a_camera_whose_clock_is_wrong_says_so(house: Gatehouse, member: CameraPaths, clock: Clock) -> None:
    server_now = clock.now
    house.clock = lambda: server_now
    clock.now -= timedelta(hours=3)
    made = page(member, clock)
    made.look()
    assert "The camera's clock says" in made.state().sentence


def test_a_certificate_that_does_not_count_yet_is_kept(house: Gatehouse, member: CameraPaths, clock: Clock) -> None:
    made = page(member, clock)
    made.look()
    fleets, server_now = made.fingerprint(), clock.now
    house.clock = lambda: server_now
    clock.now -= timedelta(days=400)  # no battery clock
    made.look()
    assert made.fingerprint() == fleets
    assert "check the clock" in made.state().sentence


def test_a_camera_that_moved_to_another_fleet_asks_that_one(
    house: Gatehouse, member: CameraPaths, clock: Clock, tmp_path: Path
) -> None:
    made = page(member, clock)
    made.look()
    other = CameraPaths(tmp_path / "elsewhere")
    page(other, clock)
    (member.fleet / "ca.pem").write_bytes(other.page_certificate.read_bytes())
    assert made.state().kind == "its own"
    made.look()
    assert "is not good" in made.state().problem  # this server is another fleet's now
    assert len(ledger(member)) == 2
    assert house.trail()[0].startswith("camera: gate-1 got")  # and heard nothing of the second


def test_a_certificate_that_another_authority_signed_is_not_taken(
    house: Gatehouse, member: CameraPaths, clock: Clock, tmp_path: Path
) -> None:
    made = page(member, clock)
    own = made.fingerprint()
    stranger = page(CameraPaths(tmp_path / "stranger"), clock)
    with pytest.raises(CertificateError, match="another authority signed it"):
        take_fleets(member, stranger.certificate_file.read_text(), clock.now)
    for now, why in ((clock.now - timedelta(days=1), "it counts from"), (clock.now, "for another key")):
        ca, ca_key = load_authority(house.paths)
        key = ec.generate_private_key(ec.SECP256R1()) if now == clock.now else made_key(member)
        pem = (
            sign_server_certificate(
                ca,
                ca_key,
                key.public_key(),
                names=[x509.DNSName("gate-1.local")],
                common_name="x",
                now=clock.now,
                days=1,
            )
            .public_bytes(serialization.Encoding.PEM)
            .decode()
        )
        with pytest.raises(CertificateError, match=why):
            take_fleets(member, pem, now)
    assert made.fingerprint() == own


def made_key(paths: CameraPaths) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(paths.page_key.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def test_an_old_bundle_without_a_door_asks_the_fleets_own_address(
    house: Gatehouse, member: CameraPaths, clock: Clock
) -> None:
    """Behind a proxy the two are the same."""
    facts = json.loads((member.fleet / "fleet.json").read_text())
    assert facts.pop("door_port") == house.port
    (member.fleet / "fleet.json").write_text(json.dumps({**facts, "port": house.port}))
    made = page(member, clock)
    made.look()
    assert made.state().kind == "fleet's"


def test_a_page_that_can_not_load_the_new_one_stops_nothing(member: CameraPaths, clock: Clock) -> None:
    made = page(member, clock)

    def fail() -> None:
        raise RuntimeError

    made.on_renewed = fail
    assert made.look() > 0
    assert made.state().kind == "fleet's"


def test_a_half_written_memory_of_tries_is_not_fatal(member: CameraPaths, clock: Clock) -> None:
    tries_path(member).write_bytes(b'{"failed": ')
    made = page(member, clock)
    made.look()
    assert made.state().kind == "fleet's"


def test_a_camera_without_a_name_to_vouch_for_asks_nobody_and_says_what_to_set(
    member: CameraPaths, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    monkeypatch.setattr(page_tls, "wanted_names", lambda *_: ("localhost", "127.0.0.1"))
    made = page(member, clock)
    made.look()
    assert "no name or address that the fleet's authority vouches for" in made.state().sentence
    assert ledger(member) == []


# The thread


def test_the_thread_gets_it_and_ends_when_it_is_told(member: CameraPaths) -> None:
    renewed = threading.Event()
    made = PageCertificate(member, camera="gate-1", on_renewed=renewed.set)
    made.start()
    assert renewed.wait(30)
    assert made.state().kind == "fleet's"
    made.stop()
    assert not any(thread.name == "page-certificate" for thread in threading.enumerate())


def test_a_server_that_is_silent_holds_up_no_end(house: Gatehouse, member: CameraPaths) -> None:
    house.close()
    made = PageCertificate(member, camera="gate-1")
    with socket.create_server(("127.0.0.1", house.port)) as silent:
        made.start()
        caller, _ = silent.accept()  # and never says a word
        with caller:
            asking = next(thread for thread in threading.enumerate() if thread.name == "page-certificate")
            made.stop()
            assert asking.is_alive()  # a daemon: it ends with the process
        asking.join(30)
    assert not asking.is_alive()  # it had been told
