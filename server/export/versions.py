"""Finds a version on the server's shelf."""

from __future__ import annotations

from appliance.errors import StoreError
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from server.config import ServerSettings
from server.paths import ServerPaths


def version_of(settings: ServerSettings, version: int | None) -> tuple[ServerPaths, Shelf, Manifest]:
    """The state folder, the shelf and a version's manifest.

    Args:
        settings: The server's.
        version: Which; None for the one that runs.

    Raises:
        StoreError: There is no fleet yet.
        ModelError: There is no such version.
    """
    paths = ServerPaths(settings.state_dir)
    missing = StoreError(
        f"There is no fleet in {paths.root} yet", means="There is no model", do="Run sitecam-server init"
    )
    if not paths.signing_public.exists():
        raise missing
    shelf = Shelf(paths.models, load_public_key(paths.signing_public.read_bytes()))
    wanted = version if version is not None else shelf.current
    if wanted is None:
        raise missing
    return paths, shelf, shelf.manifest(wanted)
