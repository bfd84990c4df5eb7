"""Making a fleet: once, and to its end, however often it was cut short."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import ModelError, SignatureError, SitecamError
from appliance.models.head import Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from server import fleet_init
from server.certificates import check_certificate
from server.config import ServerSettings, load
from server.fleet_init import make_fleet
from server.paths import ServerPaths
from tests.fakes.parts import INPUT, LABELS
from tests.fakes.site import tiny_graphs, write_server_settings
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
