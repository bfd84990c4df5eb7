"""The system users and their state folders, the journal's limit, and the commands' names."""

from __future__ import annotations

from pathlib import Path

from appliance.installing.environments import ENVIRONMENTS
from appliance.installing.installation import Installation
from appliance.installing.layout import Role, user

_HEAD = "# Written by Sitecam's installer.\n"
_GROUPS = ("video", "render")  # the camera's devices
_USER = 'u {user} - "{what}" {home} /usr/sbin/nologin\n'
_WHAT: dict[Role, str] = {"camera": "Sitecam camera and night", "server": "Sitecam server"}
_JOURNAL = """\
# Written by Sitecam's installer: the journal of a small card stays small. A volatile journal stays volatile.
[Journal]
SystemMaxUse=200M
"""


def make_users(installation: Installation) -> bool:
    """Have the users of the machine's roles, and their state folders, readable by nobody else.

    Returns:
        Whether anything was changed.

    Raises:
        InstallError: systemd-sysusers failed.
    """
    layout, runner, record = installation.layout, installation.runner, installation.record
    users = [_USER.format(user=user(role), what=_WHAT[role], home=f"/var/lib/{user(role)}") for role in record.roles]
    # sysusers would make a group that isn't there
    groups = [name for name in _GROUPS if name in _names(layout.root / "etc/group")] if "camera" in record.roles else []
    members = [f"m {user('camera')} {group}\n" for group in groups]
    changed = installation.own(layout.sysusers, "".join([_HEAD, *users, *members]))
    known = _names(layout.root / "etc/passwd")
    if changed or not {user(role) for role in record.roles} <= known:
        runner.run(["systemd-sysusers", str(layout.sysusers)], say="Making the services' users")
        changed = True
    for role in record.roles:
        changed |= installation.places.folder(layout.state(role), mode=0o700, user=user(role))
    return changed


def limit_journal(installation: Installation) -> bool:
    """Keep the journal under 200 MB; return whether that was new.

    Raises:
        InstallError: The journal does not start again.
    """
    changed = installation.own(installation.layout.journal, _JOURNAL)
    if changed:
        installation.runner.run(["systemctl", "restart", "systemd-journald"], say="Limiting the journal to 200 MB")
    return changed


def link_commands(installation: Installation) -> bool:
    """Have the commands on everybody's path; return whether anything was changed."""
    layout = installation.layout
    links = {layout.root_commands / "sitecam-install": layout.current / "code/install.sh"}
    for role in installation.record.roles:
        for environment in ENVIRONMENTS[role]:
            links |= {layout.commands / name: layout.current / "bin" / name for name in environment.commands}
    changed = [path for path, target in links.items() if installation.own_link(path, target)]
    return bool(changed)


def _names(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return {line.partition(":")[0] for line in lines}
