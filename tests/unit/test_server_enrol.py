"""Letting a camera in, with a SuperLink that only says whether it answers."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import CertificateError, NightError, StoreError
from appliance.fleet import enrol, load_fleet, make_node_key
from appliance.join_code import key_fingerprint
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from appliance.paths import CameraPaths
from server.config import ServerSettings, load
from server.enrol import enrol_camera
from server.paths import ServerPaths
from server.publish import publish
from server.roster import EnrolledCamera, Roster
from server.superlink import SuperLink
from tests.fakes.parts import tiny_head
from tests.fakes.site import make_tiny_fleet, write_server_settings
from tests.fakes.superlink import FakeSuperLink


class Office:
    """A server that lets cameras in."""

    def __init__(self, root: Path, backbone: bytes) -> None:
        self.root = root
        self.settings: ServerSettings = load(write_server_settings(root / "server.toml"))
        self.paths = ServerPaths(self.settings.state_dir)
        self.first = make_tiny_fleet(self.settings, backbone)
        self.link = FakeSuperLink()
        self.roster = Roster(self.paths.registry)

    def camera(self, name: str) -> CameraPaths:
        paths = CameraPaths(self.root / name)
        make_node_key(paths)
        return paths

    def enrol(self, name: str, key: Path, bundle: Path | None = None) -> int:
        link = cast("SuperLink", self.link)
        return enrol_camera(
            self.settings, link, name=name, public_key=key, bundle=bundle or self.root / f"{name}.bundle"
        )

    def behind_a_proxy(self, port: int) -> None:
        config = self.root / "server.toml"
        config.write_text(f"{config.read_text()}[proxy]\nport = {port}\n", encoding="utf-8")
        self.settings = load(config)

    def nothing_happened(self) -> bool:
        return not self.link.names and not self.roster.cameras() and not list(self.root.glob("*.bundle"))


@pytest.fixture
def office(tmp_path: Path, tiny_backbone: bytes) -> Office:
    return Office(tmp_path, tiny_backbone)


def test_an_enrolled_camera_is_known_and_its_bundle_works(office: Office) -> None:
    camera = office.camera("gate")
    node = office.enrol("gate", camera.node_public_key)
    assert office.roster.cameras() == [EnrolledCamera(node, "gate")]
    assert office.link.names == ["gate"]
    (registered,) = office.link.registered()
    assert registered.fingerprint == key_fingerprint(camera.node_public_key.read_text())
    assert enrol(camera, office.root / "gate.bundle") == 1
    fleet = load_fleet(camera.fleet)
    assert (fleet.name, fleet.address) == ("tiny site", ("127.0.0.1", office.settings.superlink.port))
    assert fleet.door == ("127.0.0.1", office.settings.page.port)


def test_behind_a_proxy_cameras_are_sent_to_it(office: Office) -> None:
    office.behind_a_proxy(9555)
    camera = office.camera("gate")
    office.enrol("gate", camera.node_public_key)
    enrol(camera, office.root / "gate.bundle")
    assert load_fleet(camera.fleet).address == ("127.0.0.1", 9555)
    assert load_fleet(camera.fleet).door == ("127.0.0.1", 9555)


def test_a_comment_behind_a_key_makes_no_other_key_of_it(office: Office) -> None:
    key = office.camera("gate").node_public_key
    office.enrol("gate", key)
    key.write_text(f"{key.read_text().strip()} somebody@somewhere\n")
    with pytest.raises(CertificateError, match="A camera with this key, gate, is enrolled already"):
        office.enrol("yard", key)


def test_an_enrolment_that_was_cut_off_is_completed_by_the_next(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = office.camera("gate").node_public_key

    def cut(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Roster, "enrol", cut)
        with pytest.raises(OSError, match="full"):
            office.enrol("gate", key)
    assert not (office.root / "gate.bundle").exists()
    node = office.enrol("gate", key)
    assert [each.node_id for each in office.link.registered()] == [node]
    assert office.roster.cameras() == [EnrolledCamera(node, "gate")]


def test_a_key_that_only_the_superlink_knows_as_unregistered_is_refused_with_a_way_out(office: Office) -> None:
    """As after a registry was restored from an older backup."""
    key = office.camera("gate").node_public_key
    office.link.unregister(office.link.register(key, "gate"))
    with pytest.raises(StoreError, match=r"knows this key as unregistered.*makes another key"):
        office.enrol("gate", key)
    assert office.roster.cameras() == []


def test_nothing_in_a_bundle_is_secret(office: Office) -> None:
    office.enrol("gate", office.camera("gate").node_public_key)
    bundle = (office.root / "gate.bundle").read_bytes()
    assert b"PRIVATE" not in bundle
    for key in office.paths.keys.iterdir():
        secret = b"".join(key.read_bytes().splitlines()[1:-1])
        assert secret[:40] not in bundle


def test_a_late_camera_gets_the_version_that_runs(office: Office) -> None:
    shelf = Shelf(office.paths.models, load_public_key(office.paths.signing_public.read_bytes()))
    shelf.activate(publish(office.paths, shelf, office.first, tiny_head(), night="n", metrics={}).version)
    camera = office.camera("late")
    office.enrol("late", camera.node_public_key)
    assert enrol(camera, office.root / "late.bundle") == 2


def test_a_name_is_given_once(office: Office) -> None:
    office.enrol("gate", office.camera("gate").node_public_key)
    before = (office.root / "gate.bundle").read_bytes()
    with pytest.raises(CertificateError, match="named gate is enrolled already"):
        office.enrol("gate", office.camera("other").node_public_key)
    assert office.link.names == ["gate"]
    assert (office.root / "gate.bundle").read_bytes() == before


def test_a_key_is_let_in_once(office: Office) -> None:
    key = office.camera("gate").node_public_key
    office.enrol("gate", key)
    with pytest.raises(CertificateError, match="enrolled already"):
        office.enrol("yard", key)
    assert [camera.name for camera in office.roster.cameras()] == ["gate"]


def test_a_missing_key_file_says_how_to_make_one(office: Office) -> None:
    with pytest.raises(CertificateError, match="Run sitecam key on the camera"):
        office.enrol("gate", office.root / "nowhere.pub")
    assert office.nothing_happened()


@pytest.mark.parametrize("text", ["", "rubbish", "ssh-rsa AAAA gate", "ecdsa-sha2-nistp384 AAAA", "Grüße"])
def test_a_file_that_is_no_public_key_is_refused(office: Office, text: str) -> None:
    wrong = office.root / "wrong.pub"
    wrong.write_text(text, encoding="utf-8")
    with pytest.raises(CertificateError, match="is not a camera's public key"):
        office.enrol("gate", wrong)
    assert office.nothing_happened()


def test_the_private_half_is_refused_and_not_shown(office: Office) -> None:
    camera = office.camera("gate")
    with pytest.raises(CertificateError) as caught:
        office.enrol("gate", camera.node_key)
    assert camera.node_key.read_text().splitlines()[2] not in str(caught.value)
    assert office.nothing_happened()


def test_another_kind_of_key_is_refused(office: Office) -> None:
    other = Ed25519PrivateKey.generate().public_key()
    path = office.root / "ed25519.pub"
    path.write_bytes(other.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH))
    with pytest.raises(CertificateError, match="another kind of key"):
        office.enrol("gate", path)
    assert office.nothing_happened()


def test_without_a_superlink_nobody_is_let_in(office: Office) -> None:
    office.link.up = False
    with pytest.raises(NightError, match="Start it with sitecam-server superlink"):
        office.enrol("gate", office.camera("gate").node_public_key)
    assert office.nothing_happened()


def test_a_bundle_that_cannot_be_written_lets_nobody_in(office: Office) -> None:
    """Otherwise the camera would be in, without its bundle, and its name taken for the next try."""
    key = office.camera("gate").node_public_key
    with pytest.raises(OSError, match="No such file"):
        office.enrol("gate", key, office.root / "no" / "such" / "folder" / "gate.bundle")
    assert office.nothing_happened()
    office.enrol("gate", key)
