"""installed.json: which roles this machine has, which release, and every file outside the release that we wrote."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from appliance.errors import InstallError
from appliance.files import write_atomically
from appliance.installing.layout import Layout, Role

_FORMAT = 1


@dataclass(frozen=True)
class Record:
    """What was installed.

    Attributes:
        roles: Of this machine.
        release: The folder's name of the release that runs; empty before there is one.
        previous: Likewise of the one before; empty where there is none.
        files: Every file and link outside ``/opt/sitecam`` that uninstalling removes, absolute, sorted.
        packages: Debian packages that were installed because of us.
        absent: Debian packages that this system's sources did not have.
        defaults: Path of a settings file -> SHA-256 of the defaults that it, or its ``.new``, was last written from.
        nginx_off: Debian's own nginx.service was switched off because we installed nginx.
        handed_over: Roles whose last screen, with its one-time code, was shown.
    """

    roles: tuple[Role, ...] = ()
    release: str = ""
    previous: str = ""
    files: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    defaults: tuple[tuple[str, str], ...] = ()
    nginx_off: bool = False
    handed_over: tuple[Role, ...] = ()

    def with_role(self, role: Role) -> Record:
        """With ``role``, once."""
        return replace(self, roles=_roles([*self.roles, role]))

    def handed(self, role: Role) -> Record:
        """With a role whose last screen was shown."""
        return replace(self, handed_over=_roles([*self.handed_over, role]))

    def with_files(self, paths: set[Path]) -> Record:
        """With files that were written."""
        return replace(self, files=tuple(sorted({*self.files, *map(str, paths)})))

    def without_files(self, paths: set[Path]) -> Record:
        """Without files that were removed."""
        return replace(self, files=tuple(sorted(set(self.files) - set(map(str, paths)))))

    def default_of(self, path: Path) -> str:
        """The hash of the defaults that were last written for a settings file; empty if none were."""
        return dict(self.defaults).get(str(path), "")

    def with_default(self, path: Path, digest: str) -> Record:
        """With the hash of new defaults."""
        return replace(self, defaults=tuple(sorted({**dict(self.defaults), str(path): digest}.items())))


def read_record(layout: Layout) -> Record:
    """What was installed; an empty record on a machine without us.

    Raises:
        InstallError: The file can't be read or isn't ours.
    """
    try:
        body = json.loads(layout.installed.read_text(encoding="utf-8"))
        if body["format"] != _FORMAT:
            raise ValueError(f"format {body['format']!r}")
        return Record(
            roles=_roles(body["roles"]),
            release=str(body["release"]),
            previous=str(body["previous"]),
            files=tuple(map(str, body["files"])),
            packages=tuple(map(str, body["packages"])),
            absent=tuple(map(str, body["absent"])),
            defaults=tuple(sorted((str(path), str(digest)) for path, digest in body["defaults"].items())),
            nginx_off=bool(body["nginx_off"]),
            handed_over=_roles(body["handed_over"]),
        )
    except FileNotFoundError:
        return Record()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InstallError(
            f"{layout.installed} can't be used ({error})",
            means="It says what was installed here, so nothing was changed",
            do="Put it back from a backup, or move it away and install afresh: settings and data stay",
        ) from error


def write_record(layout: Layout, record: Record) -> None:
    """Write it, if it differs from what is there.

    Raises:
        OSError: The disk refused.
    """
    body = {"format": _FORMAT, **asdict(record), "defaults": dict(record.defaults)}
    data = (json.dumps(body, indent=1, sort_keys=True) + "\n").encode()
    if not layout.installed.exists() or layout.installed.read_bytes() != data:
        write_atomically(layout.installed, data)


def _roles(names: list[Role]) -> tuple[Role, ...]:
    """In one order, whatever order they came in: the same record is the same file."""
    known: tuple[Role, ...] = ("camera", "server")
    return tuple(role for role in known if role in names)
