"""Has Studio build .eim files of a version, and signs the version anew with them."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from appliance.eim.runner import elf_machine
from appliance.errors import ConfigError, StudioError
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.store.locks import held
from server.config import ServerSettings
from server.export.one_file import tflite
from server.paths import ServerPaths
from server.publish import publish_built
from server.studio.cloud import Cloud

TARGETS = {  # of Studio's, and what `uname -m` says on machines that run it
    "runner-linux-aarch64": "aarch64",
    "runner-linux-armv7": "armv7l",
    "runner-linux-x86_64": "x86_64",
}
_ELF = {"armv7l": "arm"}
_LEAST_BYTES = 10_000


def publish_from_studio(
    cloud: Cloud,
    settings: ServerSettings,
    shelf: Shelf,
    targets: Sequence[str],
    say: Callable[[str], None],
) -> Manifest:
    """Everything from the running version to a new one with what Studio built of it; it becomes the running one.

    Args:
        cloud: The project.
        settings: The server's.
        shelf: Its models.
        targets: Keys of TARGETS.
        say: Told each step.

    Raises:
        ConfigError: A target is unknown, here or to the project.
        StudioError: The cloud failed; the shelf is as it was.
        ModelError, DatasetError: The version can't be made one file.
        OSError: The disk refused; the shelf is as it was.
    """
    offered = cloud.targets()
    for target in targets:
        if target not in TARGETS or target not in offered:
            known = ", ".join(name for name in TARGETS if name in offered) or "none"
            raise ConfigError(f"Studio's project can't build {target}", do=f"It can build: {known}")
    paths = ServerPaths(settings.state_dir)
    parent = shelf.manifest(shelf.current or 1)
    upload_model(cloud, settings, shelf, parent, say)
    built: dict[str, bytes] = {}
    for target in targets:
        say(f"Studio builds {target} ...")
        data = cloud.build(target)
        _check(target, data)
        built[TARGETS[target]] = data
        say(f"  {len(data):,} bytes")
    paths.following.mkdir(parents=True, exist_ok=True)
    try:
        with held(paths.following, fcntl.LOCK_EX | fcntl.LOCK_NB):  # as a night does
            if shelf.current != parent.version:
                raise StudioError(
                    f"Version {shelf.current} runs meanwhile; this was built of version {parent.version}",
                    means="Nothing was published: cameras would get the older head under a newer number",
                    do="Publish again",
                )
            manifest = publish_built(paths, shelf, parent, built)
            shelf.activate(manifest.version)
    except BlockingIOError as error:
        raise StudioError(
            "A night is under way", means="It may make a new version; nothing was published", do="Publish after it"
        ) from error
    return manifest


def upload_model(
    cloud: Cloud,
    settings: ServerSettings,
    shelf: Shelf,
    manifest: Manifest,
    say: Callable[[str], None],
    *,
    device: str | None = None,
) -> None:
    """Give Studio a version as one float32 .tflite.

    Raises:
        StudioError: The cloud failed.
        ModelError, DatasetError: The version can't be made one file.
    """
    model = tflite(ServerPaths(settings.state_dir), shelf, manifest, "float32", fleet=settings.fleet, say=say)
    with tempfile.TemporaryDirectory(prefix="sitecam-studio-") as folder:
        path = Path(folder) / f"{manifest.fleet}-{manifest.version}.tflite".replace("/", "-").replace(" ", "-")
        path.write_bytes(model)
        say(f"Version {manifest.version} ({', '.join(manifest.labels)}) goes to {cloud.name}: {len(model):,} bytes")
        cloud.upload(path, manifest.labels, resize_mode=manifest.input.resize_mode, device=device)


def _check(target: str, data: bytes) -> None:
    wanted = _ELF.get(TARGETS[target], TARGETS[target])
    if elf_machine(data[:64]) != wanted or len(data) < _LEAST_BYTES:
        raise StudioError(
            f"What Studio built for {target} is no program for {wanted}",
            means="It is not published; the shelf is as it was",
            do="Look at the project's deployment page in Studio",
        )
