"""The settings files of a new machine: written once; later defaults lie beside them."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.errors import InstallError
from appliance.installing.installation import Installation
from appliance.installing.layout import Role, user

Table = Mapping[str, Any]

_CAMERA = """\
# This camera's settings. The README lists every key; what does not stand here has its default.
# After a change: sudo systemctl restart sitecam-camera, and for [night] sudo sitecam-install apply.

state_dir = {state}

[camera]
name = {name}

[page]
host = "0.0.0.0"                   # all of this machine's addresses
time_zone = {zone}

[night]
begins = "01:00"                   # site time
ends = "05:00"
"""
_SERVER = """\
# The settings of this site's server. The README lists every key; what does not stand here has its default.
# After a change: sudo systemctl restart sitecam-superlink sitecam-proxy sitecam-fleet, and for [night]
# sudo sitecam-install apply.

state_dir = {state}

[fleet]
name = {name}

[superlink]
host = {host}
port = 9092                        # on this machine only

[proxy]
port = 9443                        # for cameras
page_port = 8443                   # for people

[page]
time_zone = {zone}

[night]
begins = "01:15"                   # site time
window_s = 12600.0                 # three and a half hours
"""


def write_camera_settings(installation: Installation, *, name: str, zone: str) -> bool:
    """Have a camera's settings file; return whether anything was written.

    Raises:
        InstallError: What stands there isn't TOML.
    """
    table = read_settings(installation, "camera")
    values = {
        "state": installation.layout.state("camera"),
        "name": find(table, "camera", "name", name),
        "zone": find(table, "page", "time_zone", zone),
    }
    return _write(installation, "camera", _fill(_CAMERA, values))


def write_server_settings(installation: Installation, *, name: str, host: str, zone: str) -> bool:
    """Have a server's settings file; return whether anything was written.

    Raises:
        InstallError: What stands there isn't TOML.
    """
    table = read_settings(installation, "server")
    values = {
        "state": installation.layout.state("server"),
        "name": find(table, "fleet", "name", name),
        "host": find(table, "superlink", "host", host),
        "zone": find(table, "page", "time_zone", zone),
    }
    return _write(installation, "server", _fill(_SERVER, values))


def read_settings(installation: Installation, role: Role) -> Table:
    """A role's settings as they stand; empty where there are none yet.

    Raises:
        InstallError: The file isn't TOML, or can't be read.
    """
    path = installation.layout.settings_file(role)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InstallError(
            f"{path} can't be used ({error})", means="Nothing was changed", do="Correct it, then run this again"
        ) from error


def find(table: Table, section: str, key: str, default: Any) -> Any:
    """A key's value where it stands and is of its default's type; else the default."""
    inner = table.get(section)
    value = inner.get(key) if isinstance(inner, Mapping) else None
    return value if type(value) is type(default) else default


def _fill(template: str, values: Mapping[str, Path | str]) -> str:
    # a JSON string is a TOML string too, as long as DEL isn't in it; names with control characters are refused before
    return template.format(**{key: json.dumps(str(value), ensure_ascii=False) for key, value in values.items()})


def _write(installation: Installation, role: Role, text: str) -> bool:
    layout, places = installation.layout, installation.places
    path = layout.settings_file(role)
    digest = hashlib.sha256(text.encode()).hexdigest()
    places.folder(layout.settings)
    if path.exists():
        if installation.record.default_of(path) in ("", digest):
            if not installation.record.default_of(path):
                installation.record = installation.record.with_default(path, digest)
            return False
        new = path.with_name(f"{path.name}.new")
        installation.record = installation.record.with_files({new}).with_default(path, digest)
        installation.runner.say(f"note: the defaults changed. {path} stays as it is; the new ones are in {new}.")
        return places.file(new, text, mode=0o640, group=user(role))
    installation.record = installation.record.with_default(path, digest)
    return places.file(path, text, mode=0o640, group=user(role))
