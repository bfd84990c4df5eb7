"""Releases: folders beside each other, each complete or gone, and one link that says which of them runs."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.errors import InstallError
from appliance.files import sync_folder
from appliance.installing.installation import Installation
from appliance.installing.layout import Layout

_FOLDERS = ("appliance", "trainer", "server", "datasets", "systemd", "locks")
_FILES = ("install.sh", "pyproject.toml", "README.md", "SECURITY.md", "CHANGELOG.md", "LICENSE")
_NAME = re.compile(r"[0-9A-Za-z.]+\+[0-9a-f]{8}")
_VERSION = re.compile(r'^__version__ = "([0-9A-Za-z.]{1,40})"$', re.MULTILINE)


@dataclass(frozen=True)
class Release:
    """One release.

    Attributes:
        path: Its folder; the last part is its name, like ``0.1.0+1a2b3c4d``.
    """

    path: Path

    @property
    def name(self) -> str:
        """Version and digest."""
        return self.path.name

    @property
    def code(self) -> Path:
        """The product's code."""
        return self.path / "code"

    @property
    def commands(self) -> Path:
        """The commands that people and units start."""
        return self.path / "bin"

    def stamp(self, part: str) -> Path:
        """There once ``part`` is complete."""
        return self.path / f".{part}-complete"


def read_version(source: Path) -> str:
    """The version of the code in ``source``.

    Raises:
        InstallError: That isn't Sitecam's code.
    """
    missing = [name for name in (*_FOLDERS, "install.sh", "pyproject.toml") if not (source / name).exists()]
    first = source / "appliance/__init__.py"
    found = _VERSION.search(first.read_text(encoding="utf-8")) if first.is_file() else None
    if missing or not found:
        raise InstallError(
            f"{source} isn't a Sitecam: it lacks {', '.join(missing) or 'a version'}",
            means="There is nothing to install",
            do="Name the folder or the .tar.gz of a release",
        )
    return found[1]


def release_of(layout: Layout, source: Path) -> Release:
    """The release that the code in ``source`` is, installed or not.

    Raises:
        InstallError: That isn't Sitecam's code.
    """
    version = read_version(source)
    whole = hashlib.sha256()
    for path in _product(source):
        whole.update(f"{path.relative_to(source)}\0{path.stat().st_size}\0".encode())
        whole.update(path.read_bytes())
    return Release(layout.releases / f"{version}+{whole.hexdigest()[:8]}")


def place_code(installation: Installation) -> Release:
    """Have the code of ``installation.source`` under ``/opt/sitecam/releases``, whole; remove halves of others.

    Raises:
        InstallError: That isn't Sitecam's code.
        OSError: The disk refused; the next run removes the half.
    """
    layout, runner, places = installation.layout, installation.runner, installation.places
    release = release_of(layout, installation.source)
    places.folder(layout.opt)
    places.folder(layout.releases)
    remove_halves(installation)
    if release.stamp("code").exists():
        return release
    runner.say(f"Copying Sitecam {release.name} ...")
    places.folder(release.path)
    if runner.dry_run:
        return release
    for path in _product(installation.source):
        target = release.code / path.relative_to(installation.source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        target.chmod(0o755 if path.name == "install.sh" else 0o644)
    for folder in (release.code, *(path for path in release.code.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    _stamp(release, "code")
    return release


def remove_halves(installation: Installation) -> None:
    """Remove releases whose code was never whole, and what was being unpacked when the power went."""
    layout = installation.layout
    for path in sorted(layout.releases.iterdir()) if layout.releases.is_dir() else []:
        if path.is_dir() and not path.is_symlink() and not Release(path).stamp("code").exists():
            installation.runner.say(f"Removing {path}, which an interrupted run left behind")
            installation.places.remove_tree(path, inside=layout.releases)


def current(layout: Layout) -> Release | None:
    """The release that runs; None before there is one."""
    if not layout.current.is_symlink():
        return None
    release = Release(layout.releases / layout.current.readlink().name)
    return release if release.path.is_dir() else None


def switch(installation: Installation, release: Release) -> bool:
    """Have ``current`` name ``release``, in one step; return whether that changed anything."""
    changed = installation.places.link(installation.layout.current, Path("releases", release.name))
    if changed and not installation.runner.dry_run:
        sync_folder(installation.layout.opt)
    return changed


def prune(installation: Installation, keep: set[str]) -> None:
    """Remove all releases but those named."""
    layout = installation.layout
    for path in sorted(layout.releases.iterdir()) if layout.releases.is_dir() else []:
        if path.is_dir() and path.name not in keep and _NAME.fullmatch(path.name):
            installation.places.remove_tree(path, inside=layout.releases)


def _product(source: Path) -> Iterator[Path]:
    """Every file that is installed, in one order; links are left out: they could lead anywhere."""
    for name in _FOLDERS:
        for path in sorted((source / name).rglob("*")):
            if path.is_file() and not path.is_symlink() and path.suffix != ".pyc" and "__pycache__" not in path.parts:
                yield path
    yield from (source / name for name in _FILES if (source / name).is_file())


def complete(installation: Installation, release: Release, part: str) -> None:
    """Note that a part of a release is whole."""
    if not installation.runner.dry_run:
        _stamp(release, part)


def _stamp(release: Release, part: str) -> None:
    release.stamp(part).touch()
    sync_folder(release.path)
