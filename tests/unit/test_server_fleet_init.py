"""Making a fleet: once, and to its end, however often it was cut short."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import ConfigError, ModelError, SignatureError, SitecamError
from appliance.frame import Pixels
from appliance.models.head import Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from server import fleet_init
from server.backbone import Backbone
from server.certificates import check_certificate
from server.config import ServerSettings, load
from server.demo.options import parse
from server.demo.site import lay_out
from server.fleet_init import make_fleet
from server.paths import ServerPaths
from tests.fakes.parts import INPUT, LABELS
from tests.fakes.pictures import class_folders
from tests.fakes.site import draw_folders, tiny_graphs, write_server_settings
from tests.fakes.tree import tree_of

Make = Callable[[], Manifest]


@pytest.fixture
def settings(tmp_path: Path) -> ServerSettings:
    return load(write_server_settings(tmp_path / "sitecam-server.toml"))


@pytest.fixture
def paths(settings: ServerSettings) -> ServerPaths:
    return ServerPaths(settings.state_dir)


@pytest.fixture
def make(settings: ServerSettings, tiny_backbone: bytes) -> Make:
    def make() -> Manifest:
        with tiny_graphs(tiny_backbone):
            return make_fleet(settings, say=lambda _: None)

    return make


def test_a_fleet_has_everything_that_its_first_night_needs(make: Make, paths: ServerPaths) -> None:
    manifest = make()
    assert (manifest.version, manifest.parent, manifest.labels, manifest.input) == (1, None, LABELS, INPUT)
    check_certificate(paths)
    shelf = Shelf(paths.models, load_public_key(paths.signing_public.read_bytes()))
    assert (shelf.current, shelf.missing(shelf.manifest(1))) == (1, [])
    head = Head.from_bytes(shelf.part(manifest.parts["head"]))
    assert (head.feature_count, head.label_count) == (manifest.feature_count, 3)


def test_its_secrets_are_their_owners_alone(make: Make, paths: ServerPaths) -> None:
    make()
    assert stat.S_IMODE(paths.root.stat().st_mode) == 0o700
    for key in paths.keys.iterdir():
        assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_second_call_changes_nothing(make: Make, paths: ServerPaths) -> None:
    first = make()
    before = tree_of(paths.root)
    assert make() == first
    assert tree_of(paths.root) == before


def test_a_second_call_needs_no_source_of_weights(
    make: Make, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make()

    def refuse(*_: object) -> bytes:
        raise AssertionError("weights were looked for although there is a model")

    monkeypatch.setattr(fleet_init, "resolve", refuse)
    assert make_fleet(settings, say=lambda _: None) == first


def int8_settings(root: Path, representative: str) -> ServerSettings:
    config = write_server_settings(root / "sitecam-server.toml")
    keys = f'precision = "int8"\n{representative}\n'
    config.write_text(config.read_text().replace("[night]", keys + "[night]"))
    return load(config)


def test_an_int8_fleet_shows_its_backbone_the_representative_pictures(
    tmp_path: Path, tiny_backbone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_folders(tmp_path / "seen", seeds={"by day": range(10), "by night": range(10, 20)})
    settings = int8_settings(tmp_path, 'representative = "seen"')
    lines: list[str] = []
    given: list[tuple[int, ...]] = []

    def resolve(weights: Path | None, cache: Path, say: object, pictures: Pixels | None) -> Backbone:  # noqa: ARG001  # its signature
        assert pictures is not None
        given.append(pictures.shape)
        return Backbone(tiny_backbone, "tests")

    with tiny_graphs(tiny_backbone):
        monkeypatch.setattr(fleet_init, "resolve", resolve)
        make_fleet(settings, say=lines.append)
        assert make_fleet(settings, say=lines.append).version == 1
    assert given == [(20, INPUT.height, INPUT.width, 3)]
    assert any(f"int8: backbone {len(tiny_backbone) / 1000:.0f} kB" in line for line in lines)


def test_int8_without_representative_pictures_is_refused_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fleet\.representative is not set.*Set fleet\.representative"):
        int8_settings(tmp_path, "")


def test_a_folder_of_representative_pictures_that_is_gone_stops_only_a_fleet_without_a_model(
    tmp_path: Path, tiny_backbone: bytes
) -> None:
    settings = int8_settings(tmp_path, 'representative = "seen"')
    with tiny_graphs(tiny_backbone):
        with pytest.raises(ConfigError, match=r"fleet\.representative: there is no folder"):
            make_fleet(settings, say=lambda _: None)
        pictures = class_folders(tmp_path / "seen", seeds={"any": range(20)})
        first = make_fleet(settings, say=lambda _: None)
        pictures.rename(tmp_path / "elsewhere")
        assert make_fleet(settings, say=lambda _: None) == first


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_demo_shows_an_int8_backbone_the_servers_own_pictures(tmp_path: Path, precision: str) -> None:
    for number, name in enumerate(("dataset_client1", "dataset_client2", "dataset_server")):
        draw_folders(tmp_path / "data" / name, labels=("head", "hardhat"), seed=number, train=0, test=1)
    arguments = ["--data", str(tmp_path / "data"), "--work", str(tmp_path / "work"), "--precision", precision]
    fleet = load(lay_out(parse(arguments)).server_config).fleet
    assert fleet.precision == precision
    if precision == "int8":
        assert fleet.representative == tmp_path / "data" / "dataset_server"


class Cut(Exception):  # noqa: N818  # it isn't an error, it is a power cut
    """The power went."""


def cut(*_: object, **__: object) -> Any:
    raise Cut


CUTS = {
    "before the certificates": "server.certificates._private_pem",
    "between authority and TLS certificate": "server.certificates._issue",
    "after the certificates": "server.fleet_init.new_signing_key",
    "between the halves of the signing key": "server.fleet_init.public_pem",
    "before the registry": "server.fleet_init.Registry",
    "before the model": "server.fleet_init._first_version",
    "before the model is signed": "server.fleet_init.load_signing_key",
    "before the model is on the shelf": "appliance.models.shelf.Shelf.accept",
    "before the shelf remembers that it was": "appliance.models.shelf.Shelf._point",
    "before the model is active": "appliance.models.shelf.Shelf.activate",
}


@pytest.mark.parametrize("moment", CUTS)
def test_a_call_cut_short_is_completed_by_the_next(make: Make, paths: ServerPaths, moment: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CUTS[moment], cut)
        with pytest.raises(Cut):
            make()
    manifest = make()
    assert manifest.version == 1
    check_certificate(paths)
    shelf = Shelf(paths.models, load_public_key(paths.signing_public.read_bytes()))
    assert (shelf.versions(), shelf.current, shelf.missing(manifest)) == ([1], 1, [])


def test_without_weights_the_rest_stays_and_a_later_call_goes_on(
    make: Make, settings: ServerSettings, paths: ServerPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> bytes:
        raise ModelError("No backbone weights could be found", do="Give --backbone")

    with monkeypatch.context() as patch:
        patch.setattr(fleet_init, "resolve", none)
        with pytest.raises(ModelError, match="No backbone"):
            make_fleet(settings, say=lambda _: None)
    authority, key = paths.ca_certificate.read_bytes(), paths.signing_key.read_bytes()
    make()
    assert (paths.ca_certificate.read_bytes(), paths.signing_key.read_bytes()) == (authority, key)


def test_a_lost_signing_key_is_not_replaced(make: Make, paths: ServerPaths) -> None:
    make()
    paths.signing_key.unlink()
    before = tree_of(paths.root)
    with pytest.raises(SignatureError, match=r"signing\.key is gone.*Restore it from the server's backup"):
        make()
    assert tree_of(paths.root) == before


def test_a_lost_tls_certificate_does_not_cost_the_authority(make: Make, paths: ServerPaths) -> None:
    """A new authority would mean enrolling every camera again."""
    make()
    authority = paths.ca_certificate.read_bytes()
    paths.tls_certificate.unlink()
    try:
        make()
    except SitecamError:
        pass  # to say what is missing is as good as to make it anew
    else:
        check_certificate(paths)
    assert paths.ca_certificate.read_bytes() == authority
