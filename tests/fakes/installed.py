"""A machine that Sitecam is installed on, as small as it can be: a record, a release, settings and state folders."""

from __future__ import annotations

import tempfile
from pathlib import Path

from appliance import __version__
from appliance.files import write_atomically
from appliance.installing.layout import Layout, Role
from appliance.installing.record import Record, write_record
from appliance.installing.services import unit_files
from tests.fakes.debian import FakeDebian, make_source

SETTINGS = {
    "camera": '[camera]\nname = "the gate"\n',
    "server": '[fleet]\nname = "Harbour site"\n',
}


def installed(root: Path, *roles: Role, version: str = __version__) -> tuple[Layout, FakeDebian]:
    """Make one; its services run.

    Args:
        root: The machine's root folder.
        roles: What it is.
        version: Of Sitecam.
    """
    machine = FakeDebian(root)
    layout = Layout(root)
    release = layout.releases / f"{version}+00000000"
    make_source(release / "code", version=version)
    layout.current.symlink_to(Path("releases", release.name))
    layout.settings.mkdir()
    layout.units.mkdir(parents=True)
    for role in roles:
        for name, text in unit_files(release / "code", role).items():
            (layout.units / name).write_text(text)
        write_atomically(layout.settings_file(role), SETTINGS[role].encode(), mode=0o640)
        layout.state(role).mkdir(parents=True, mode=0o700)
    write_record(layout, Record(roles=roles, release=release.name))
    machine.active = {"sitecam-camera.service"} if "camera" in roles else set()
    return layout, machine


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file and what is in it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def open_to_all(folder: Path) -> None:
    """Have other users get to a test's folder; pytest's own let nobody through."""
    ends = Path(tempfile.gettempdir()).resolve()
    for each in (folder, *folder.parents):
        if each.resolve() == ends:
            return
        each.chmod(0o755)
