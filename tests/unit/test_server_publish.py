"""New versions: signed, rising, and sent without what a camera has already."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import SignatureError
from appliance.models.head import Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key, verify
from server.config import load
from server.paths import ServerPaths
from server.publish import deployment, publish
from tests.fakes.parts import tiny_head
from tests.fakes.site import make_tiny_fleet, write_server_settings
from tests.fakes.tree import tree_of


class Publisher:
    """A server with version 1 on its shelf."""

    def __init__(self, root: Path, backbone: bytes) -> None:
        settings = load(write_server_settings(root / "server.toml"))
        self.paths = ServerPaths(settings.state_dir)
        self.first = make_tiny_fleet(settings, backbone)
        self.key = load_public_key(self.paths.signing_public.read_bytes())
        self.shelf = Shelf(self.paths.models, self.key)

    def publish(self, head: Head, parent: Manifest | None = None) -> Manifest:
        return publish(
            self.paths, self.shelf, parent or self.first, head, night="tonight", metrics={"server_accuracy": 0.9}
        )


@pytest.fixture
def server(tmp_path: Path, tiny_backbone: bytes) -> Publisher:
    return Publisher(tmp_path, tiny_backbone)


def test_a_published_manifest_is_signed_and_names_what_it_came_from(server: Publisher) -> None:
    manifest = server.publish(tiny_head())
    text, signature = server.shelf.signed_manifest(2)
    verify(text, signature, server.key)
    assert Manifest.from_bytes(text) == manifest
    assert (manifest.version, manifest.parent, manifest.night) == (2, 1, "tonight")
    assert manifest.metrics == {"server_accuracy": 0.9}
    assert (server.shelf.current, server.shelf.highest) == (1, 2)  # it is signed, and nobody's yet


def test_only_the_head_is_new(server: Publisher) -> None:
    manifest = server.publish(tiny_head())
    assert {role for role, part in manifest.parts.items() if part != server.first.parts[role]} == {"head"}
    assert server.shelf.part(manifest.parts["head"]) == tiny_head().to_bytes()


def test_versions_only_rise(server: Publisher) -> None:
    second = server.publish(tiny_head(seed=2))
    third = server.publish(tiny_head(seed=3), second)
    server.shelf.activate(1)  # a person went back to version 1
    fourth = server.publish(tiny_head(seed=4), server.first)
    assert [second.version, third.version, fourth.version] == [2, 3, 4]
    assert fourth.parent == 1


def test_a_deployment_holds_only_what_the_camera_lacks(server: Publisher) -> None:
    manifest = server.publish(tiny_head())
    head = manifest.parts["head"].sha256
    held = [part.sha256 for part in server.first.parts.values()]
    everything = {part.sha256 for part in manifest.parts.values()}
    for has, comes in ((held, {head}), ([], everything), (held[:1], everything - {held[0]}), (everything, set())):
        record = deployment(server.shelf, 2, has).config_records["config"]
        assert set(record) == {"manifest", "signature"} | comes
    assert (record["manifest"], record["signature"]) == server.shelf.signed_manifest(2)


def test_a_camera_can_use_a_deployment_as_it_comes(server: Publisher, tmp_path: Path) -> None:
    camera = Shelf(tmp_path / "camera", server.key)
    for version in (1, 2):
        if version == 2:
            server.publish(tiny_head())
        record = dict(deployment(server.shelf, version, camera.digests()).config_records["config"])
        manifest, signature = record.pop("manifest"), record.pop("signature")
        assert isinstance(manifest, bytes)
        assert isinstance(signature, bytes)
        camera.accept(manifest, signature, {name: data for name, data in record.items() if isinstance(data, bytes)})
    assert camera.versions() == [1, 2]


def test_without_its_signing_key_nothing_is_published(server: Publisher) -> None:
    server.paths.signing_key.unlink()
    before = tree_of(server.paths.models)
    with pytest.raises(SignatureError, match="backup"):
        server.publish(tiny_head())
    assert tree_of(server.paths.models) == before
