"""What a test machine borrows from the one it runs on, read when it is needed: package sources, certificates, names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_CERTIFICATES = Path("/usr/local/share/ca-certificates")
_RESOLVER = Path("/etc/resolv.conf")
_DEFAULT_MIRROR = "http://deb.debian.org/debian"


@dataclass(frozen=True)
class Surroundings:
    """The host's ways to the outer world.

    Attributes:
        mirror: Of Debian, an address.
        certificates: Of authorities that the host's owner added.
        resolver: Text of resolv.conf.
        pip: pip's settings by name, like ``find-links``.
        folders: On the host, which pip's settings name; machines see them, read-only, at the same place.
    """

    mirror: str
    certificates: tuple[Path, ...]
    resolver: str
    pip: dict[str, str]
    folders: tuple[Path, ...]

    def pip_conf(self, proxy: str = "") -> str:
        """Text of a machine's /etc/pip.conf."""
        settings = {**self.pip, **({"proxy": proxy} if proxy else {})}
        return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in sorted(settings.items()))


def look_around() -> Surroundings:
    """Read them."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    pip: dict[str, str] = {}
    # the environment's come first in the list, and weigh more in pip
    for scope, name, value in re.findall(r"^(:env:|global|user|site)\.([a-z-]+)='(.*)'$", told, re.MULTILINE):
        del scope
        pip.setdefault(name, value)
    words = [word.removeprefix("file://") for value in pip.values() for word in value.split()]
    named = [Path(word) for word in words if word.startswith("/")]
    folders = {path.parent if path.name == "simple" else path for path in named if path.is_dir()}
    return Surroundings(
        mirror=_mirror(),
        certificates=tuple(sorted(_CERTIFICATES.glob("*.crt"))),
        resolver=_RESOLVER.read_text(encoding="utf-8"),
        pip=pip,
        folders=tuple(sorted(folders)),
    )


def _mirror() -> str:
    if "SITECAM_PI_MIRROR" in os.environ:
        return os.environ["SITECAM_PI_MIRROR"]
    folder = Path("/etc/apt")
    for path in (folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))):
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        found = re.search(r"^(?:URIs: *|deb +(?:\[[^]]*\] +)?)(\S+/debian)/?(?:\s|$)", text, re.MULTILINE)
        if found:
            return found[1]
    return _DEFAULT_MIRROR
