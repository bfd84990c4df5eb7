import json
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.errors import ManifestError, ModelError, PartError, SignatureError
from appliance.models.manifest import Manifest
from tests.fakes.fleet import TinyFleet
from tests.fakes.tree import tree_of


@pytest.fixture
def fleet(tmp_path: Path, tiny_backbone: bytes) -> TinyFleet:
    return TinyFleet(tmp_path, tiny_backbone)


def test_a_signed_version_gets_onto_the_shelf_and_runs_after_activation(tmp_path: Path, fleet: TinyFleet) -> None:
    shelf = fleet.shelf(tmp_path / "models", 1)
    assert (shelf.versions(), shelf.current, shelf.highest) == ([1], 1, 1)
    assert shelf.part(shelf.manifest(1).parts["backbone"]) == fleet.backbone


def test_a_part_that_is_here_already_need_not_come_again(tmp_path: Path, fleet: TinyFleet) -> None:
    shelf = fleet.shelf(tmp_path / "models", 1)
    manifest, signature, parts = fleet.version(2)
    missing = shelf.missing(Manifest.from_bytes(manifest))
    assert [part.size_bytes < 2000 for part in missing] == [True]  # the head alone
    shelf.accept(manifest, signature, {missing[0].sha256: parts[missing[0].sha256]})
    shelf.activate(2)
    assert (shelf.current, shelf.previous) == (2, 1)


Delivery = tuple[bytes, bytes, dict[str, bytes]]


def broken_signature(delivery: Delivery) -> Delivery:
    return delivery[0], bytes(64), delivery[2]


def changed_manifest(delivery: Delivery) -> Delivery:
    return delivery[0].replace(b"hardhat", b"hardhot"), delivery[1], delivery[2]


def flipped_byte(delivery: Delivery) -> Delivery:
    return *delivery[:2], {name: bytes([data[0] ^ 1]) + data[1:] for name, data in delivery[2].items()}


def cut_short(delivery: Delivery) -> Delivery:
    return *delivery[:2], {name: data[:-1] for name, data in delivery[2].items()}


def without_parts(delivery: Delivery) -> Delivery:
    return *delivery[:2], {}


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (broken_signature, SignatureError),
        (changed_manifest, SignatureError),
        (flipped_byte, PartError),
        (cut_short, PartError),
        (without_parts, PartError),
    ],
)
def test_a_damaged_version_is_refused_and_leaves_the_shelf_as_it_was(
    tmp_path: Path, fleet: TinyFleet, damage: Callable[[Delivery], Delivery], error: type[ModelError]
) -> None:
    shelf = fleet.shelf(tmp_path / "models", 1)
    before = tree_of(shelf.root)
    with pytest.raises(error):
        shelf.accept(*damage(fleet.version(2)))
    assert tree_of(shelf.root) == before


def test_a_version_of_another_fleet_is_refused(tmp_path: Path, fleet: TinyFleet, tiny_backbone: bytes) -> None:
    (tmp_path / "other").mkdir()
    other = TinyFleet(tmp_path / "other", tiny_backbone)
    shelf = fleet.shelf(tmp_path / "models", 1)
    with pytest.raises(SignatureError, match="not this fleet's"):
        shelf.accept(*other.version(2))


def test_an_older_version_cannot_come_back_over_the_network(tmp_path: Path, fleet: TinyFleet) -> None:
    shelf = fleet.shelf(tmp_path / "models", 1, 3)
    with pytest.raises(ManifestError, match="not newer than version 3"):
        shelf.accept(*fleet.version(2))
    with pytest.raises(ManifestError, match="not newer"):
        shelf.accept(*fleet.version(3))


def test_what_a_killed_writer_left_is_swept(tmp_path: Path, fleet: TinyFleet) -> None:
    shelf = fleet.shelf(tmp_path / "models", 1)
    before = tree_of(shelf.root)
    (shelf.root / ".current.abcd.tmp").write_bytes(b"x")
    (shelf.root / "parts" / ".abcd.tmp").write_bytes(b"x")
    (shelf.root / "versions" / ".2.abcd").mkdir()
    shelf.sweep()
    assert tree_of(shelf.root) == before


def test_a_manifest_changed_on_disk_is_noticed(tmp_path: Path, fleet: TinyFleet) -> None:
    shelf = fleet.shelf(tmp_path / "models", 1)
    path = shelf.root / "versions" / "1" / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"nobody", b"nobadi"))
    with pytest.raises(SignatureError):
        shelf.manifest(1)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"version": 0},
        {"version": True},
        {"version": "1"},
        {"parent": 9},
        {"labels": ["head"]},
        {"labels": ["head", "head"]},
        {"parts": {}},
        {"created_utc": "2026-01-01T00:00:00+02:00"},
        {"created_utc": "yesterday"},
        {"input": {"width": 32, "height": 32, "resize_mode": "bend"}},
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(fleet: TinyFleet, change: dict[str, object]) -> None:
    body = json.loads(fleet.version(1)[0]) | change
    with pytest.raises(ManifestError):
        Manifest.from_bytes(json.dumps(body).encode())


def test_a_part_name_that_is_not_a_hash_never_becomes_a_path(fleet: TinyFleet) -> None:
    body = json.loads(fleet.version(1)[0])
    body["parts"]["head"]["sha256"] = "../../../../etc/passwd"
    with pytest.raises(ManifestError, match="not a SHA-256"):
        Manifest.from_bytes(json.dumps(body).encode())


def test_a_manifest_reads_back_as_it_was_written(fleet: TinyFleet) -> None:
    manifest = fleet.version(2)[0]
    assert Manifest.from_bytes(manifest).to_bytes() == manifest


@pytest.mark.parametrize("rubbish", [b"one", b"", b"\xff\xfe"])
def test_a_pointer_that_holds_rubbish_counts_as_missing_and_is_logged(
    tmp_path: Path, fleet: TinyFleet, caplog: pytest.LogCaptureFixture, rubbish: bytes
) -> None:
    shelf = fleet.shelf(tmp_path / "models", 1)
    shelf.accept(*fleet.version(4))
    (shelf.root / "current").write_bytes(rubbish)
    assert shelf.current is None
    assert "names no version" in caplog.text
    (shelf.root / "highest").write_bytes(rubbish)
    assert shelf.highest == 4  # an older version must not come back over the network for that
