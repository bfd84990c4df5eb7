"""The certificate that a page has of its own: made at once, kept, and made anew where it must be."""

from __future__ import annotations

import socket
import ssl
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from appliance import page_names
from appliance.errors import CertificateError
from appliance.join_code import ca_fingerprint
from appliance.page_material import read_material
from appliance.page_tls import certificate_state, fleet_authority
from appliance.paths import CameraPaths
from tests.fakes.page_asker import Clock, page


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "gate-1")
    monkeypatch.setattr(page_names, "own_addresses", lambda: ["192.168.1.7"])


def test_a_camera_without_a_fleet_has_one_of_its_own_at_once(tmp_path: Path, clock: Clock) -> None:
    paths = CameraPaths(tmp_path / "state")
    made = page(paths, clock, "yard.local")
    state = made.state()
    assert state.kind == "its own"
    assert set(state.names) == {
        *("yard.local", "gate-1", "gate-1.local", "localhost", "127.0.0.1", "::1", "192.168.1.7"),
    }
    assert "browsers warn" in state.sentence
    assert "belongs to no fleet" in state.sentence
    assert made.fingerprint() == state.fingerprint == ca_fingerprint(made.certificate_file.read_bytes())
    assert stat.S_IMODE(made.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.key_file.parent.stat().st_mode) == 0o700
    key = serialization.load_pem_private_key(made.key_file.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert made.look() > 0
    assert (made.state(), paths.ledger.exists()) == (state, False)  # nobody was asked


def test_it_stays_the_same_over_restarts(tmp_path: Path, clock: Clock) -> None:
    paths = CameraPaths(tmp_path)
    fingerprint = page(paths, clock).fingerprint()
    clock.now += timedelta(days=100)
    again = page(paths, clock)
    again.look()
    assert again.fingerprint() == fingerprint


def test_a_new_name_in_the_settings_makes_another(tmp_path: Path, clock: Clock) -> None:
    key = page(CameraPaths(tmp_path), clock).key_file.read_bytes()
    again = page(CameraPaths(tmp_path), clock, "yard.local")
    assert "yard.local" in again.state().names
    assert again.key_file.read_bytes() == key


def test_an_address_that_changes_in_mid_day_asks_nobody_to_trust_another(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = page(CameraPaths(tmp_path), clock)
    before = made.fingerprint()
    monkeypatch.setattr(page_names, "own_addresses", lambda: ["192.168.1.99"])
    made.look()
    assert made.fingerprint() == before


@pytest.mark.parametrize("days", [600, 900, -400], ids=["last third", "ran out", "clock was fast"])
def test_one_that_runs_out_is_made_anew_while_the_camera_runs(tmp_path: Path, clock: Clock, days: int) -> None:
    told: list[str] = []
    made = page(CameraPaths(tmp_path), clock, told=told)
    before = made.fingerprint()
    clock.now += timedelta(days=days)
    made.look()
    assert made.fingerprint() != before
    assert (made.state().kind, told) == ("its own", ["renewed"])


@pytest.mark.parametrize("name", ["page_key", "page_certificate"])
@pytest.mark.parametrize("damage", ["gone", "empty", "rubbish", "another camera's"])
def test_damaged_files_are_made_anew(tmp_path: Path, clock: Clock, name: str, damage: str) -> None:
    paths, other = CameraPaths(tmp_path / "one"), CameraPaths(tmp_path / "other")
    page(paths, clock)
    page(other, clock)
    path: Path = getattr(paths, name)
    path.write_bytes({"another camera's": getattr(other, name).read_bytes(), "rubbish": b"rubbish"}.get(damage, b""))
    if damage == "gone":
        path.unlink()
    made = page(paths, clock)
    assert made.state().kind == "its own"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.certificate_file, made.key_file)  # they fit each other
    assert stat.S_IMODE(made.key_file.stat().st_mode) == 0o600


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    with pytest.raises(CertificateError, match=r"can't be written .*The page can't be served"):
        page(CameraPaths(tmp_path / "state"), clock)


def test_looking_does_not_make_anything(tmp_path: Path, clock: Clock) -> None:
    paths = CameraPaths(tmp_path / "state")
    assert certificate_state(paths, clock.now).kind == "none"
    assert (read_material(paths), fleet_authority(paths)) == (None, None)
    assert not paths.root.exists()
