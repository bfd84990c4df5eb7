"""Joining a fleet with its bundle, and every way in which a bundle can be wrong."""

from __future__ import annotations

import json
import random
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from appliance import fleet as fleet_module
from appliance.errors import CertificateError, ModelError, SitecamError
from appliance.fleet import enrol, load_fleet, make_node_key, node_signature, write_bundle
from appliance.models.shelf import Shelf
from appliance.models.signing import public_pem
from appliance.paths import CameraPaths
from server.certificates import make_certificates
from server.paths import ServerPaths
from tests.fakes.fleet import TinyFleet
from tests.fakes.tree import tree_of


class Office:
    """A fleet that writes bundles."""

    def __init__(self, root: Path, backbone: bytes, name: str = "north") -> None:
        root.mkdir(exist_ok=True)
        self._root = root
        self.tiny = TinyFleet(root, backbone)
        self.name = name
        server = ServerPaths(root / "server")
        server.root.mkdir()
        make_certificates(server, fleet=name, host="127.0.0.1")
        self.authority = server.ca_certificate.read_bytes()
        self.signing = public_pem(self.tiny.public_key)

    def bundle(self, version: int = 1, **changes: Any) -> Path:
        """A bundle, good but for the changes."""
        manifest, signature, parts = self.tiny.version(version)
        given: dict[str, Any] = {
            "name": self.name,
            "host": "127.0.0.1",
            "port": 9443,
            "certificate_authority": self.authority,
            "signing_key": self.signing,
            "manifest": manifest,
            "signature": signature,
            "parts": parts,
        }
        path = self._root / f"{version}.bundle"
        write_bundle(path, **(given | changes))
        return path


@pytest.fixture
def office(tmp_path: Path, tiny_backbone: bytes) -> Office:
    return Office(tmp_path / "north", tiny_backbone)


@pytest.fixture
def camera(tmp_path: Path) -> CameraPaths:
    return CameraPaths(tmp_path / "camera")


def files_of(root: Path) -> dict[str, bytes | None]:
    """What is in the files below a folder; empty folders don't count."""
    return {name: data for name, data in tree_of(root).items() if data is not None}


def rewritten(bundle: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The bundle with other files in it."""
    with zipfile.ZipFile(bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return bundle


def test_a_camera_joins_and_runs_the_bundles_version(office: Office, camera: CameraPaths) -> None:
    assert enrol(camera, office.bundle()) == 1
    fleet = load_fleet(camera.fleet)
    assert (fleet.name, fleet.address) == ("north", ("127.0.0.1", 9443))
    shelf = Shelf(camera.models, fleet.signing_key)
    assert (shelf.current, shelf.missing(shelf.manifest(1))) == (1, [])


def test_a_bundle_says_where_the_door_is(office: Office, camera: CameraPaths) -> None:
    enrol(camera, office.bundle(door_port=4911))
    assert load_fleet(camera.fleet).door == ("127.0.0.1", 4911)
    enrol(camera, office.bundle())
    assert load_fleet(camera.fleet).door == ("127.0.0.1", 9443)


def test_a_camera_of_before_the_door_was_said_tries_the_fleets_address(office: Office, camera: CameraPaths) -> None:
    def forget(files: dict[str, bytes]) -> None:
        facts = json.loads(files["fleet.json"])
        del facts["door_port"]
        files["fleet.json"] = json.dumps(facts).encode()

    enrol(camera, rewritten(office.bundle(door_port=4911), forget))
    assert load_fleet(camera.fleet).door == ("127.0.0.1", 9443)


@pytest.mark.parametrize("damage", [None, b"", b"rubbish", b"-----BEGIN OPENSSH PRIVATE KEY-----\n"])
def test_a_key_that_can_not_sign_says_so(camera: CameraPaths, damage: bytes | None) -> None:
    make_node_key(camera)
    if damage is None:
        camera.node_key.unlink()
    else:
        camera.node_key.write_bytes(damage)
    with pytest.raises(CertificateError, match=r"can't be read.*a new key is made then"):
        node_signature(camera, b"words")


def test_joining_again_changes_nothing(office: Office, camera: CameraPaths) -> None:
    bundle = office.bundle()
    enrol(camera, bundle)
    before = tree_of(camera.root)
    assert enrol(camera, bundle) == 1
    assert tree_of(camera.root) == before


def test_a_newer_bundle_brings_a_new_address_and_leaves_the_model_to_the_nights(
    office: Office, camera: CameraPaths
) -> None:
    enrol(camera, office.bundle())
    assert enrol(camera, office.bundle(2, host="gate.example", port=9999)) == 1
    assert load_fleet(camera.fleet).address == ("gate.example", 9999)


def test_two_bundles_of_the_same_facts_are_the_same_bytes(office: Office) -> None:
    first = office.bundle().read_bytes()
    assert office.bundle().read_bytes() == first


def test_another_fleets_bundle_is_refused(
    office: Office, camera: CameraPaths, tmp_path: Path, tiny_backbone: bytes
) -> None:
    enrol(camera, office.bundle())
    before = tree_of(camera.root)
    stranger = Office(tmp_path / "south", tiny_backbone, "south")
    with pytest.raises(CertificateError, match=r"belongs to another fleet already\. Nothing was changed"):
        enrol(camera, stranger.bundle())
    assert tree_of(camera.root) == before


def test_what_is_no_bundle_is_refused(camera: CameraPaths, tmp_path: Path) -> None:
    for name, data in {"empty": b"", "text": b"hello", "picture": b"\xff\xd8\xff" * 99, "zip": b"PK\x03\x04"}.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(CertificateError, match=f"{path} is not an enrolment bundle"):
            enrol(camera, path)
    for missing in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(CertificateError, match="is not an enrolment bundle"):
            enrol(camera, missing)
    assert files_of(camera.root) == {}


@pytest.mark.parametrize("name", ["fleet.json", "ca.pem", "signing.pem", "manifest.json", "manifest.sig"])
def test_a_bundle_that_lacks_a_file_names_it(office: Office, camera: CameraPaths, name: str) -> None:
    bundle = rewritten(office.bundle(), lambda files: files.__delitem__(name))
    with pytest.raises(CertificateError, match=f"{name} missing"):
        enrol(camera, bundle)
    assert files_of(camera.root) == {}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("ca.pem", b"rubbish"),
        ("signing.pem", b"rubbish"),
        ("manifest.json", b"{}"),
        ("manifest.sig", bytes(64)),
        ("fleet.json", b"rubbish"),
        ("fleet.json", b"[]"),
        ("fleet.json", b'{"name": "north", "host": "127.0.0.1"}'),
        ("fleet.json", b'{"name": "north", "host": "127.0.0.1", "port": "soon"}'),
    ],
)
@pytest.mark.parametrize("member", [False, True], ids=["a new camera", "a member"])
def test_a_bundle_with_a_bad_file_leaves_everything_as_it_was(
    office: Office, camera: CameraPaths, name: str, data: bytes, member: bool
) -> None:
    if member:
        enrol(camera, office.bundle())
    before = files_of(camera.root)
    bundle = rewritten(office.bundle(), lambda files: files.update({name: data}))
    if member and name.startswith("manifest"):
        assert enrol(camera, bundle) == 1  # a member's model comes at night, not from the bundle
    else:
        with pytest.raises((CertificateError, ModelError)):
            enrol(camera, bundle)
    assert files_of(camera.root) == before


def test_a_bundle_without_a_part_is_refused(office: Office, camera: CameraPaths) -> None:
    def lose_a_part(files: dict[str, bytes]) -> None:
        del files[next(name for name in files if name.startswith("parts/"))]

    bundle = rewritten(office.bundle(), lose_a_part)
    with pytest.raises(ModelError, match="neither here nor in the message"):
        enrol(camera, bundle)
    assert files_of(camera.root) == {}


def test_names_that_climb_out_of_the_folder_write_nothing(office: Office, camera: CameraPaths, tmp_path: Path) -> None:
    evil = {"../../evil", "/tmp/sitecam-evil", "parts/../../../evil", "parts/../fleet.json", "keys/node.key"}  # noqa: S108
    bundle = rewritten(office.bundle(), lambda files: files.update(dict.fromkeys(evil, b"evil")))
    before = files_of(tmp_path)
    try:
        enrol(camera, bundle)
    except SitecamError:
        assert files_of(camera.root) == {}
    new = set(files_of(tmp_path)) - set(before)
    assert all(name.startswith(("camera/fleet/", "camera/models/")) for name in new)
    assert not any(b"evil" in (data or b"") for name, data in files_of(tmp_path).items() if name in new)
    assert not Path("/tmp/sitecam-evil").exists()  # noqa: S108


def test_a_bundle_that_unpacks_to_more_than_any_bundle_is_refused_unread(
    office: Office, camera: CameraPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "_MAX_BUNDLE_BYTES", 1000)
    with pytest.raises(CertificateError, match="larger than any bundle"):
        enrol(camera, office.bundle())
    assert files_of(camera.root) == {}


def test_a_bundle_with_a_password_is_refused(office: Office, camera: CameraPaths) -> None:
    bundle = office.bundle()
    data = bytearray(bundle.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag bits in local and central headers
        at = data.find(mark)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(mark, at + 4)
    bundle.write_bytes(data)
    with pytest.raises(CertificateError, match="is not an enrolment bundle"):
        enrol(camera, bundle)
    assert files_of(camera.root) == {}


def test_damage_anywhere_is_found_or_harmless(office: Office, tmp_path: Path) -> None:
    """Single bytes changed all over the bundle, its directory above all: never a surprise, never half an enrolment."""
    good = office.bundle().read_bytes()
    directory = good.find(b"PK\x01\x02")
    generator = random.Random(1)  # noqa: S311  # no secret
    places = [*generator.sample(range(directory), 60), *generator.sample(range(directory, len(good)), 120)]
    damaged = tmp_path / "damaged.bundle"
    for number, place in enumerate(places):
        data = bytearray(good)
        data[place] ^= 1 << generator.randrange(8)
        damaged.write_bytes(data)
        fresh = CameraPaths(tmp_path / f"camera-{number}")
        try:
            enrol(fresh, damaged)
        except SitecamError:
            assert files_of(fresh.root) == {}, f"half an enrolment after byte {place} was changed"
        else:
            assert load_fleet(fresh.fleet).name == "north"


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_bundle_cut_short_is_refused(office: Office, camera: CameraPaths, share: float) -> None:
    bundle = office.bundle()
    data = bundle.read_bytes()
    bundle.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CertificateError, match="is not an enrolment bundle"):
        enrol(camera, bundle)
    assert files_of(camera.root) == {}


class Cut(Exception):  # noqa: N818  # it isn't an error, it is a power cut
    """The power went."""


def cut(*_: object, **__: object) -> Any:
    raise Cut


@pytest.mark.parametrize(
    "moment",
    [
        "appliance.models.shelf.Shelf.accept",
        "appliance.models.shelf.Shelf._point",
        "appliance.models.shelf.Shelf.activate",
        "appliance.fleet.write_atomically",
        "appliance.fleet.load_fleet",
    ],
)
def test_joining_cut_short_is_completed_by_joining_again(office: Office, camera: CameraPaths, moment: str) -> None:
    bundle = office.bundle()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(moment, cut)
        with pytest.raises(Cut):
            enrol(camera, bundle)
    assert enrol(camera, bundle) == 1
    fleet = load_fleet(camera.fleet)
    assert Shelf(camera.models, fleet.signing_key).current == 1


def test_a_camera_without_a_fleet_says_how_to_join_one(camera: CameraPaths) -> None:
    with pytest.raises(CertificateError, match=r"isn't enrolled: .*fleet\.json is missing.*Run sitecam enrol"):
        load_fleet(camera.fleet)


@pytest.mark.parametrize("name", ["fleet.json", "ca.pem", "signing.pem"])
def test_a_damaged_file_says_to_join_again(office: Office, camera: CameraPaths, name: str) -> None:
    enrol(camera, office.bundle())
    (camera.fleet / name).write_bytes(b"rubbish")
    with pytest.raises(CertificateError, match="Enrol this camera again"):
        load_fleet(camera.fleet)


@pytest.mark.parametrize("body", [{"name": "n"}, [], {"name": "n", "host": "h", "port": "x"}, None])
def test_facts_that_make_no_sense_are_told(office: Office, camera: CameraPaths, body: object) -> None:
    enrol(camera, office.bundle())
    (camera.fleet / "fleet.json").write_text(json.dumps(body))
    with pytest.raises(CertificateError, match="can't be read"):
        load_fleet(camera.fleet)


def test_a_cameras_key_is_made_once_and_is_its_own(camera: CameraPaths) -> None:
    public = make_node_key(camera)
    private = camera.node_key.read_bytes()
    assert make_node_key(camera) == public == camera.node_public_key
    assert camera.node_key.read_bytes() == private
    assert stat.S_IMODE(camera.node_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(camera.node_key.parent.stat().st_mode) == 0o700
    key = load_ssh_private_key(private, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP384R1)
    assert key.public_key() == load_ssh_public_key(public.read_bytes())


def test_a_key_cut_short_before_its_private_half_is_made_anew(camera: CameraPaths) -> None:
    make_node_key(camera)
    camera.node_key.unlink()
    make_node_key(camera)
    key = load_ssh_private_key(camera.node_key.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == load_ssh_public_key(camera.node_public_key.read_bytes())
