"""Codes, approval, refusal and revocation, on the people's side; and the commands for them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from appliance.command import run_command
from appliance.errors import ConfigError, NightError, StoreError
from appliance.fleet import make_node_key
from appliance.join_code import new_code, read_code, read_uri
from appliance.paths import CameraPaths
from appliance.terminal_qr import qr_lines
from server import admission_cli, qr
from server.config import load
from server.enrolment_tables import EnrolmentTables
from server.roster import Roster
from tests.fakes.gatehouse import Gatehouse

Output = pytest.CaptureFixture[str]


@pytest.fixture
def house(tmp_path: Path, tiny_backbone: bytes) -> Gatehouse:
    return Gatehouse(tmp_path, tiny_backbone)


def ask(house: Gatehouse, name: str, *, state: str | None = None) -> int:
    """A request of a camera with a key of its own, as the reception notes it."""
    key = make_node_key(CameraPaths(house.root / (state or name))).read_text().strip()
    code = house.invitation().code
    request = house.admission.tables.ask(code.id, name, key, "192.0.2.7", "token")
    assert request is not None
    return request


class CutOffError(Exception):
    """The power went."""


def test_a_code_is_read_as_people_write_it() -> None:
    code = read_code("K7QF-2M9X-4PTR")
    assert (code.id, code.secret, str(code)) == ("K7QF", "2M9X4PTR", "K7QF-2M9X-4PTR")
    assert read_code(" k7qf2m9x 4ptr\n") == code
    assert read_code("0011-OOII-oLil") == read_code("0011-0011-0111")
    for _ in range(20):
        fresh = new_code()
        assert read_code(str(fresh)) == fresh
        assert not set(str(fresh)) & set("ILOU")


@pytest.mark.parametrize("text", ["", "K7QF-2M9X", "K7QF-2M9X-4PTR-A", "K7QF-2M9X-4PTU", "K7QF/2M9X/4PTR"])
def test_what_is_no_code_says_why(text: str) -> None:
    with pytest.raises(ConfigError, match="That is not a join code"):
        read_code(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://site:9444/K7QF-2M9X-4PTR#" + "0" * 64,
        "sitecam-join://site/K7QF-2M9X-4PTR#" + "0" * 64,
        "sitecam-join://site:9444/K7QF-2M9X-4PTR",
        "sitecam-join://site:9444/K7QF-2M9X-4PTR#0011",
        "sitecam-join://site:999999/K7QF-2M9X-4PTR#" + "0" * 64,
        "sitecam-join://[::1/x",
    ],
)
def test_what_is_no_invitation_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not an invitation"):
        read_uri(text)


def test_a_code_never_shows_its_secret_by_accident() -> None:
    code = new_code()
    assert code.secret not in repr(code)


def test_a_code_is_shown_once_and_kept_as_what_was_derived_from_it(house: Gatehouse) -> None:
    code = house.admission.new_code(minutes=5, cameras=2)
    invitation = read_uri(code.uri)
    assert (str(invitation.code), invitation.host, invitation.port) == (code.text, "127.0.0.1", house.port)
    assert invitation.fingerprint == code.fingerprint
    (kept,) = house.admission.open_codes()
    assert (kept.id, kept.uses_left, kept.expires_utc) == (invitation.code.id, 2, code.expires_utc)
    assert house.admission.tables.key(kept.id) == invitation.code.key()
    assert invitation.code.secret not in "".join(house.trail())


@pytest.mark.parametrize(
    ("minutes", "cameras"), [(0, 1), (-1, 1), (24 * 60 + 1, 1), (float("nan"), 1), (1, 0), (1, 101)]
)
def test_a_code_for_ever_or_for_everybody_is_not_made(house: Gatehouse, minutes: float, cameras: int) -> None:
    with pytest.raises(ConfigError):
        house.admission.new_code(minutes=minutes, cameras=cameras)
    assert house.admission.open_codes() == []


def test_two_requests_of_one_name_wait_and_only_one_is_let_in(house: Gatehouse) -> None:
    first, second = ask(house, "gate-1", state="a"), ask(house, "gate-1", state="b")
    assert house.admission.approve(second, who="page").name == "gate-1"
    with pytest.raises(StoreError, match="A camera named gate-1 is enrolled already"):
        house.admission.approve(first, who="page")
    assert [request.id for request in house.admission.requests()] == [first]
    house.admission.refuse(first, "another gate-1 is here", who="page")
    assert house.admission.requests() == []
    assert house.link.names == ["gate-1"]


@pytest.mark.parametrize("where", ["before the roster", "before the decision"])
def test_an_approval_cut_off_in_the_middle_is_completed_by_the_next(
    house: Gatehouse, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    request = ask(house, "gate-1")

    def cut(*_: Any, **__: Any) -> None:
        raise CutOffError

    with monkeypatch.context() as patch:
        owner, method = (Roster, "enrol") if where == "before the roster" else (EnrolmentTables, "decide")
        patch.setattr(owner, method, cut)
        with pytest.raises(CutOffError):
            house.admission.approve(request, who="page")
    assert len(house.link.registered()) == 1
    camera = house.admission.approve(request, who="page")
    assert camera.node_id == house.link.registered()[0].node_id
    assert (len(house.link.registered()), house.admission.requests()) == (1, [])
    assert house.admission.approve(request, who="page") == camera  # and once more, as two people press the button
    assert sum("gate-1 was let in" in line for line in house.trail()) == 1


def test_without_a_superlink_nothing_is_decided(house: Gatehouse) -> None:
    request = ask(house, "gate-1")
    house.link.up = False
    with pytest.raises(NightError, match="Start it with sitecam-server superlink"):
        house.admission.approve(request, who="page")
    assert [each.id for each in house.admission.requests()] == [request]
    house.link.up = True
    house.admission.approve(request, who="page")


def test_what_was_refused_is_not_approved_and_what_was_approved_is_not_refused(house: Gatehouse) -> None:
    refused, approved = ask(house, "gate-1"), ask(house, "gate-2")
    house.admission.refuse(refused, "no", who="page")
    house.admission.approve(approved, who="page")
    with pytest.raises(StoreError, match="refused already"):
        house.admission.approve(refused, who="page")
    with pytest.raises(StoreError, match="was approved meanwhile"):
        house.admission.refuse(approved, "no", who="page")
    with pytest.raises(StoreError, match="There is no request 99"):
        house.admission.approve(99, who="page")
    assert [camera.name for camera in house.admission.roster.cameras()] == ["gate-2"]


def test_a_revocation_cut_off_in_the_middle_is_completed_by_the_next(
    house: Gatehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.admission.approve(ask(house, "gate-1"), who="page")

    def cut(*_: Any) -> None:
        raise CutOffError

    with monkeypatch.context() as patch:
        patch.setattr(Roster, "revoke", cut)
        with pytest.raises(CutOffError):
            house.admission.revoke("gate-1", "stolen", who="page")
    assert house.link.registered()[0].unregistered  # the camera is out from here on
    house.admission.revoke("gate-1", "stolen", who="page")
    assert house.admission.roster.cameras() == []
    (gone,) = house.admission.roster.cameras(revoked=True)
    assert gone.revoked_why == "stolen"


def test_without_a_superlink_nobody_looks_revoked_who_is_not(house: Gatehouse) -> None:
    house.admission.approve(ask(house, "gate-1"), who="page")
    house.link.up = False
    with pytest.raises(NightError):
        house.admission.revoke("gate-1", "stolen", who="page")
    assert [camera.name for camera in house.admission.roster.cameras()] == ["gate-1"]


def test_a_camera_on_hold_is_released_and_the_trail_says_why_it_was_held(house: Gatehouse) -> None:
    house.admission.approve(ask(house, "gate-1"), who="page")
    house.admission.roster.hold("gate-1", "three bad nights")
    house.admission.release("gate-1", who="page")
    assert house.admission.roster.camera("gate-1").held_utc is None
    assert house.trail()[0] == "page: gate-1 may train again (it was on hold: three bad nights)"
    with pytest.raises(StoreError, match="no camera named gate-2"):
        house.admission.release("gate-2", who="page")


def test_a_qr_code_reads_back_as_what_it_holds(house: Gatehouse) -> None:
    import cv2
    import numpy as np
    import segno

    uri = house.admission.new_code().uri
    modules = np.array(
        [[255 * (not module) for module in row] for row in segno.make_qr(uri, error="m").matrix_iter(4, 4)]
    )
    text, _, _ = cv2.QRCodeDetector().detectAndDecode(modules.astype(np.uint8))
    assert text == uri
    assert qr.svg(uri, title="a code").startswith("<svg")
    assert "<script" not in qr.svg(uri, title="<script>")
    assert len(qr_lines(uri).splitlines()) > 20


# The commands


class Counter:
    """The command line on that server."""

    def __init__(self, house: Gatehouse, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
        self._config = str(house.config)
        self._capsys = capsys
        monkeypatch.setattr(admission_cli, "SuperLink", lambda *_: house.link)

    def __call__(self, *arguments: str) -> tuple[int, str]:
        parser = argparse.ArgumentParser(prog="sitecam-server")
        parser.add_argument("--config", type=Path)
        admission_cli.add_commands(parser.add_subparsers(required=True))
        options = parser.parse_args(["--config", self._config, *arguments])
        status = run_command("sitecam-server", load, options.run, options)
        printed = self._capsys.readouterr()
        return status, printed.out + printed.err


@pytest.fixture
def counter(house: Gatehouse, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> Counter:
    return Counter(house, monkeypatch, capsys)


def test_the_code_command_prints_what_a_technician_types(house: Gatehouse, counter: Counter) -> None:
    status, printed = counter("code", "--minutes", "5")
    assert status == 0
    (code,) = house.admission.open_codes()
    assert f"sitecam enrol {code.id}-" in printed
    assert f"--server https://127.0.0.1:{house.port}" in printed
    assert "sitecam-server approve NAME" in printed
    assert "█" in printed
    status, printed = counter("code", "--json", "--cameras", "3")
    shown = json.loads(printed)
    assert set(shown) == {"text", "host", "port", "fingerprint", "expires_utc", "uri"}
    assert counter("code", "--minutes", "0")[0] == 2


def test_a_code_that_approves_says_so_and_the_trail_says_who_made_it(
    house: Gatehouse, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "ada")
    status, printed = counter("code", "--approve")
    assert status == 0
    assert "Whoever brings this code first is let in" in printed
    assert "sitecam-server approve" not in printed
    assert max(map(len, printed.splitlines())) <= 120
    assert house.trail()[0].startswith("ada, command line: Code ")
    shown = json.loads(counter("code", "--approve", "--json")[1])
    assert (shown["host"], shown["port"]) == ("127.0.0.1", house.port)
    assert counter("code", "--approve", "--cameras", "2")[0] == 2


def test_requests_are_listed_and_approved_by_name_or_number(house: Gatehouse, counter: Counter) -> None:
    assert counter("requests") == (0, "No camera asks to be let in\n")
    number = ask(house, "gate-1")
    status, printed = counter("requests")
    assert "gate-1" in printed
    assert "192.0.2.7" in printed
    assert [request["id"] for request in json.loads(counter("requests", "--json")[1])] == [number]
    assert counter("approve", "gate-9") == (
        1,
        "sitecam-server: No camera named gate-9 waits. Nothing was changed. Give the number. Waiting: 1 gate-1.\n",
    )
    status, printed = counter("approve", "gate-1")
    assert (status, printed.startswith("gate-1 is in, as node ")) == (0, True)
    assert "approved" in counter("requests", "--all")[1]
    other = ask(house, "gate-2")
    assert counter("refuse", str(other), "--reason", "not ours") == (0, f"Request {other} was refused\n")
    status, printed = counter("revoke", "gate-1", "--reason", "sold")
    assert (status, house.admission.roster.cameras()) == (0, [])
    assert "belongs to the fleet no more" in printed


def test_one_of_two_of_a_name_is_not_guessed(house: Gatehouse, counter: Counter) -> None:
    first, second = ask(house, "gate-1", state="a"), ask(house, "gate-1", state="b")
    status, printed = counter("approve", "gate-1")
    assert status == 1
    assert (
        f"2 cameras named gate-1 wait. Nothing was changed. Give the number. Waiting: {first} gate-1, {second}"
        in printed
    )
    assert house.link.names == []


def test_a_held_camera_is_released_by_name(house: Gatehouse, counter: Counter) -> None:
    house.admission.approve(ask(house, "gate-1"), who="page")
    house.admission.roster.hold("gate-1", "three bad nights")
    assert counter("release", "gate-1") == (0, "gate-1 may train again\n")
