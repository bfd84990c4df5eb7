"""Joining a fleet with a code: both halves of the protocol, over real HTTPS on loopback."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.errors import CertificateError, ConfigError
from appliance.fleet import load_fleet, make_node_key
from appliance.join_client import JoinServer
from appliance.join_code import Invitation, new_code, read_uri, short
from appliance.joining import pending_path
from server import enrolment_tables
from server.enrolment_tables import WRONG_TRIES
from tests.fakes.gatehouse import Gatehouse, Visitor
from tests.fakes.waiting import wait_until


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


def test_a_camera_joins_with_a_code_and_a_persons_approval(house: Gatehouse, pool: ThreadPoolExecutor) -> None:
    visitor = Visitor(house)
    invitation = house.invitation()
    joined = visitor.start(pool, invitation)
    (request,) = house.waiting()
    assert (request.name, request.address) == ("gate-1", "127.0.0.1")
    assert not (visitor.paths.fleet / "fleet.json").exists()
    camera = house.admission.approve(request.id, who="page")
    assert joined.result(30) == 1
    fleet = load_fleet(visitor.paths.fleet)
    assert (fleet.name, fleet.address) == ("tiny site", ("127.0.0.1", house.settings.superlink.port))
    assert house.admission.roster.cameras() == [camera]
    assert camera.public_key == visitor.paths.node_public_key.read_text().strip()
    assert house.link.names == ["gate-1"]
    left = {path.name for path in visitor.paths.root.iterdir()}
    assert left == {"fleet", "keys", "models"}  # neither token nor bundle


def test_both_sides_show_the_same_fingerprints(house: Gatehouse, pool: ThreadPoolExecutor) -> None:
    visitor = Visitor(house)
    code = house.admission.new_code()
    invitation = house.invitation()
    joined = visitor.start(pool, invitation)
    (request,) = house.waiting()
    house.admission.approve(request.id, who="page")
    joined.result(30)
    said = "\n".join(visitor.said)
    assert short(code.fingerprint) in said
    assert short(request.fingerprint) in said


def test_a_typed_code_without_fingerprint_is_enough(house: Gatehouse, pool: ThreadPoolExecutor) -> None:
    visitor = Visitor(house)
    joined = visitor.start(pool, replace(house.invitation(), fingerprint=""))
    house.admission.approve(house.waiting()[0].id, who="page")
    assert joined.result(30) == 1


def test_the_private_key_and_the_secret_never_leave(
    house: Gatehouse, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    ask = JoinServer.ask

    def listening(server: JoinServer, path: str, body: object = None, *, token: str = "") -> dict[str, object]:
        sent.append(json.dumps(body))
        return ask(server, path, body, token=token)

    monkeypatch.setattr(JoinServer, "ask", listening)
    visitor = Visitor(house)
    invitation = house.invitation()
    joined = visitor.start(pool, invitation)
    house.admission.approve(house.waiting()[0].id, who="page")
    joined.result(30)
    everything = "".join(sent)
    assert invitation.code.id in everything
    assert invitation.code.secret not in everything
    assert "PRIVATE" not in everything
    assert visitor.paths.node_key.read_text().splitlines()[2] not in everything
    assert invitation.code.secret.encode() not in house.paths.registry.read_bytes()


def test_a_mistyped_secret_is_found_before_anything_is_sent(house: Gatehouse) -> None:
    invitation = house.invitation()
    wrong = replace(invitation, code=replace(invitation.code, secret=new_code().secret))
    with pytest.raises(CertificateError, match=r"does not know this code's secret.*mistyped"):
        Visitor(house).join(wrong)
    assert house.admission.requests(open_only=False) == []


def test_a_code_dies_after_five_wrong_tries(house: Gatehouse) -> None:
    invitation = house.invitation()
    wrong = replace(invitation, code=replace(invitation.code, secret=new_code().secret))
    for _ in range(WRONG_TRIES):
        with pytest.raises(CertificateError, match="does not know this code's secret"):
            Visitor(house).join(wrong)
    with pytest.raises(CertificateError, match="The code is dead: too many tries with it failed"):
        Visitor(house).join(invitation)
    assert house.admission.open_codes() == []
    assert any("The code is dead" in line for line in house.trail())


def test_good_tries_are_not_counted(house: Gatehouse, pool: ThreadPoolExecutor) -> None:
    invitation = house.invitation(cameras=3)
    before = house.admission.open_codes()[0].tries_left
    for number in (1, 2):
        Visitor(house, f"gate-{number}").start(pool, invitation)
        house.waiting(count=number)
    (code,) = house.admission.open_codes()
    assert (code.uses_left, code.tries_left) == (1, before)
    for request in house.waiting(count=2):
        house.admission.refuse(request.id, "a test", who="page")


def test_a_code_that_was_never_given_out_is_refused(house: Gatehouse, caplog: pytest.LogCaptureFixture) -> None:
    code = new_code()
    with caplog.at_level(logging.WARNING), pytest.raises(CertificateError, match="has not given out such a code"):
        Visitor(house).join(Invitation(code, "127.0.0.1", house.port))
    assert "has not given out such a code" in caplog.text
    assert house.trail() == []  # strangers can't fill the trail


def test_a_code_runs_out_by_the_servers_clock(house: Gatehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    invitation = house.invitation(minutes=1)
    monkeypatch.setattr(enrolment_tables, "now", lambda: "2999-01-01T00:00:00+00:00")
    with pytest.raises(CertificateError, match="The code ran out"):
        Visitor(house).join(invitation)
    assert house.admission.open_codes() == []


def test_of_two_cameras_at_once_one_gets_the_code(house: Gatehouse, pool: ThreadPoolExecutor) -> None:
    invitation = house.invitation()
    visitors = [Visitor(house, "gate-1"), Visitor(house, "gate-2")]
    together = threading.Barrier(2)

    def come(visitor: Visitor) -> int:
        make_node_key(visitor.paths)
        together.wait(10)
        return visitor.join(invitation)

    futures = {visitor.name: pool.submit(come, visitor) for visitor in visitors}
    (request,) = house.waiting()
    (loser,) = {"gate-1", "gate-2"} - {request.name}
    with pytest.raises(CertificateError, match="The code was used already"):
        futures[loser].result(30)
    house.admission.approve(request.id, who="page")
    assert futures[request.name].result(30) == 1


def test_a_refusal_tells_its_reason(house: Gatehouse, pool: ThreadPoolExecutor) -> None:
    visitor = Visitor(house)
    joined = visitor.start(pool, house.invitation())
    (request,) = house.waiting()
    house.admission.refuse(request.id, "not ours", who="page")
    with pytest.raises(CertificateError, match="did not let this camera in: not ours"):
        joined.result(30)
    assert not pending_path(visitor.paths).exists()
    assert house.link.names == []
    assert "page: gate-1's request from 127.0.0.1 was refused: not ours" in house.trail()


def test_a_taken_name_is_refused_and_the_code_still_counts(house: Gatehouse, pool: ThreadPoolExecutor) -> None:
    joined = Visitor(house).start(pool, house.invitation())
    house.admission.approve(house.waiting()[0].id, who="page")
    joined.result(30)
    invitation = house.invitation()
    other = Visitor(house, "other")
    other.name = "gate-1"
    with pytest.raises(CertificateError, match="A camera named gate-1 is enrolled already"):
        other.join(invitation)
    assert any("refused: A camera named gate-1 is enrolled already" in line for line in house.trail())
    other.name = "gate-2"
    joined = other.start(pool, invitation)
    house.admission.approve(house.waiting()[0].id, who="page")
    assert joined.result(30) == 1


def test_a_revoked_key_never_comes_back(house: Gatehouse, pool: ThreadPoolExecutor) -> None:
    visitor = Visitor(house)
    joined = visitor.start(pool, house.invitation())
    house.admission.approve(house.waiting()[0].id, who="page")
    joined.result(30)
    house.admission.revoke("gate-1", "stolen", who="page")
    for name in ("fleet.json", "ca.pem", "signing.pem"):
        (visitor.paths.fleet / name).unlink()
    with pytest.raises(CertificateError, match="This key was gate-1's and was revoked: stolen"):
        visitor.join(house.invitation())
    visitor.paths.node_key.unlink()
    visitor.paths.node_public_key.unlink()
    joined = visitor.start(pool, house.invitation())
    house.admission.approve(house.waiting()[0].id, who="page")
    assert joined.result(30) == 1


def test_a_camera_revoked_before_it_fetched_its_bundle_gets_none(house: Gatehouse) -> None:
    visitor = Visitor(house)
    with pytest.raises(CertificateError, match="Nobody approved this camera"):
        visitor.join(invitation := house.invitation(), wait_s=0)
    house.admission.approve(house.waiting()[0].id, who="page")
    house.admission.revoke("gate-1", "a mistake", who="page")
    with pytest.raises(CertificateError, match="It was revoked: a mistake"):
        visitor.join(invitation)


@pytest.mark.parametrize("name", ["", " gate", "x" * 65, "gate\n1", "gate\x1b[31m"])
def test_a_name_that_could_mislead_a_person_is_refused(house: Gatehouse, name: str) -> None:
    visitor = Visitor(house)
    visitor.name = name
    with pytest.raises(CertificateError, match="name can't be used"):
        visitor.join(house.invitation())
    assert house.admission.requests(open_only=False) == []


def test_a_member_is_not_enrolled_twice(house: Gatehouse) -> None:
    visitor = Visitor(house)
    visitor.enrol(house)
    invitation = house.invitation()
    elsewhere = replace(invitation, port=1)
    for same in (invitation, replace(invitation, fingerprint=""), elsewhere):  # by its address, or by its authority
        assert visitor.join(same) == 1
        assert "It is enrolled already; the code was not used" in visitor.said[-1]
    assert [code.uses_left for code in house.admission.open_codes()] == [1]
    with pytest.raises(CertificateError, match=r"belongs to tiny site at 127.0.0.1:\d+ already. Nothing was changed"):
        visitor.join(replace(elsewhere, fingerprint=""))


def test_a_code_that_approves_lets_in_who_brings_it(house: Gatehouse, pool: ThreadPoolExecutor) -> None:
    visitor = Visitor(house)
    code = house.admission.new_code(approve=True, who="the installer")
    assert visitor.start(pool, read_uri(code.uri)).result(30) == 1
    assert [camera.name for camera in house.admission.roster.cameras()] == ["gate-1"]
    trail = "\n".join(house.trail())
    assert "which lets in who brings it" in trail
    assert "the installer: gate-1 was let in by a code that approves, key" in trail


def test_a_code_that_approves_is_for_one_camera_only(house: Gatehouse, pool: ThreadPoolExecutor) -> None:
    code = house.admission.new_code(approve=True)
    assert Visitor(house).start(pool, read_uri(code.uri)).result(30) == 1
    second = Visitor(house, name="gate-2")
    with pytest.raises(CertificateError, match="used already"):
        second.start(pool, read_uri(code.uri)).result(30)


def test_approval_by_code_waits_for_a_superlink_that_is_not_up_yet(
    house: Gatehouse, pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    house.link.up = False
    visitor = Visitor(house)
    joined = visitor.start(pool, read_uri(house.admission.new_code(approve=True).uri))
    wait_until(lambda: "can't be let in yet" in caplog.text)
    assert house.admission.roster.cameras() == []
    house.link.up = True
    assert joined.result(30) == 1


def test_other_codes_still_wait_for_a_person(house: Gatehouse, pool: ThreadPoolExecutor) -> None:
    house.admission.new_code(approve=True)
    visitor = Visitor(house)
    joined = visitor.start(pool, house.invitation())
    (request,) = house.waiting()
    assert house.admission.tables.approved_by(request.id) == ""
    assert not joined.done()
    house.admission.approve(request.id, who="page")
    assert joined.result(30) == 1


def test_a_wrong_secret_lets_nobody_in_though_the_code_approves(house: Gatehouse) -> None:
    invitation = read_uri(house.admission.new_code(approve=True).uri)
    wrong = replace(invitation, code=replace(invitation.code, secret=new_code().secret))
    with pytest.raises(CertificateError, match="does not know this code's secret"):
        Visitor(house).join(wrong)
    assert house.admission.requests(open_only=False) == []
    assert house.admission.roster.cameras() == []


def test_a_code_that_approves_runs_out_like_any_other(house: Gatehouse) -> None:
    invitation = read_uri(house.admission.new_code(approve=True, minutes=0.0001).uri)
    wait_until(lambda: house.admission.open_codes() == [])
    with pytest.raises(CertificateError, match="The code ran out"):
        Visitor(house).join(invitation)


def test_who_asked_in_time_is_let_in_by_the_code_though_it_has_run_out_since(
    house: Gatehouse, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house.link.up = False
    joined = Visitor(house).start(pool, read_uri(house.admission.new_code(approve=True).uri))
    wait_until(lambda: "can't be let in yet" in caplog.text)
    monkeypatch.setattr(enrolment_tables, "now", lambda: "2099-01-01T00:00:00+00:00")
    assert house.admission.open_codes() == []
    house.link.up = True
    assert joined.result(30) == 1
    assert caplog.text.count("can't be let in yet") == 1  # not with every look


def test_a_revoked_key_is_refused_though_the_code_approves(house: Gatehouse) -> None:
    visitor = Visitor(house)
    visitor.enrol(house)
    house.admission.revoke("gate-1", "stolen", who="page")
    for path in visitor.paths.fleet.iterdir():
        path.unlink()
    with pytest.raises(CertificateError, match="This key was gate-1's and was revoked: stolen"):
        visitor.join(read_uri(house.admission.new_code(approve=True).uri))
    assert house.admission.roster.cameras() == []


def test_of_two_of_a_name_a_code_lets_in_one_and_tells_the_other(house: Gatehouse, pool: ThreadPoolExecutor) -> None:
    house.link.up = False
    codes = [house.admission.new_code(approve=True, who="Ada") for _ in range(2)]
    other = Visitor(house)
    other.paths = house.camera("the other gate-1")
    joined = [
        visitor.start(pool, read_uri(code.uri)) for visitor, code in zip((Visitor(house), other), codes, strict=True)
    ]
    house.waiting(count=2)
    house.link.up = True
    wait_until(lambda: all(each.done() for each in joined))
    (error,) = [each.exception() for each in joined if each.exception()]
    assert "A camera named gate-1 is enrolled already" in str(error)
    assert house.link.names == ["gate-1"]
    assert any(line.startswith("Ada: gate-1's request from 127.0.0.1 was refused") for line in house.trail())


def test_a_code_that_approves_is_neither_for_many_nor_for_long(house: Gatehouse) -> None:
    for cameras, minutes in ((2, 15.0), (1, 61.0)):
        with pytest.raises(ConfigError, match="for one camera, and for an hour at most"):
            house.admission.new_code(approve=True, cameras=cameras, minutes=minutes)
    assert house.admission.open_codes() == []
