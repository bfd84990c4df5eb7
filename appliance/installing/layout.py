"""Where everything lies on a machine that Sitecam is installed on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Role = Literal["camera", "server"]


@dataclass(frozen=True)
class Layout:
    """The machine's folders.

    Attributes:
        root: ``/``; another folder in tests.
    """

    root: Path = Path("/")

    @property
    def opt(self) -> Path:
        """Releases, and the list of what was installed."""
        return self.root / "opt/sitecam"

    @property
    def releases(self) -> Path:
        """One folder per release: ``code``, ``bin``, and an environment for each kind of process."""
        return self.opt / "releases"

    @property
    def current(self) -> Path:
        """A link to the release that runs."""
        return self.opt / "current"

    @property
    def installed(self) -> Path:
        """What was installed: roles, and every file outside ``opt`` that the installer wrote."""
        return self.opt / "installed.json"

    @property
    def settings(self) -> Path:
        """Owned by root; the services only read."""
        return self.root / "etc/sitecam"

    def settings_file(self, role: Role) -> Path:
        """A role's settings."""
        return self.settings / ("sitecam.toml" if role == "camera" else "sitecam-server.toml")

    def state(self, role: Role) -> Path:
        """A role's state folder: mode 0700, owned by its user."""
        return self.root / "var/lib" / user(role)

    @property
    def units(self) -> Path:
        """systemd's units and their drop-ins."""
        return self.root / "etc/systemd/system"

    @property
    def sysusers(self) -> Path:
        """The system users, for systemd-sysusers."""
        return self.root / "etc/sysusers.d/sitecam.conf"

    @property
    def journal(self) -> Path:
        """Keeps the journal small."""
        return self.root / "etc/systemd/journald.conf.d/sitecam.conf"

    @property
    def watchdog(self) -> Path:
        """Has systemd feed the board's watchdog."""
        return self.root / "etc/systemd/system.conf.d/sitecam.conf"

    @property
    def log(self) -> Path:
        """What the installer did, each time; only root reads it."""
        return self.root / "var/log/sitecam-install.log"

    @property
    def commands(self) -> Path:
        """Links to the commands that people type."""
        return self.root / "usr/local/bin"

    @property
    def root_commands(self) -> Path:
        """Likewise, for root only: ``sitecam-install``."""
        return self.root / "usr/local/sbin"


def user(role: Role) -> str:
    """The system user and group that a role's services run as."""
    return "sitecam" if role == "camera" else "sitecam-server"
