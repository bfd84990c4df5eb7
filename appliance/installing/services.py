"""systemd's units: copied from a release, enabled, started, stopped; only where something differs."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.installing.installation import Installation
from appliance.installing.layout import Role

_UNITS: dict[Role, tuple[str, ...]] = {
    "camera": ("sitecam-camera", "sitecam-night", "sitecam-reboot"),
    "server": ("sitecam-superlink", "sitecam-fleet", "sitecam-proxy", "sitecam-round", "sitecam-certificate"),
}
LASTING: dict[Role, tuple[str, ...]] = {
    "camera": ("sitecam-camera.service",),
    "server": ("sitecam-superlink.service", "sitecam-fleet.service", "sitecam-proxy.service"),
}


def unit_files(code: Path, role: Role) -> dict[str, str]:
    """A role's units in a release: path below the units' folder -> content."""
    folder = code / "systemd"
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0].partition(".")[0] in _UNITS[role]
    }


def place_units(installation: Installation, code: Path) -> set[str]:
    """Have the units of all roles as they are in ``code``, and none that it no longer has.

    Returns:
        The names of units that changed; systemd has read them.

    Raises:
        InstallError: systemd can't read them.
    """
    layout = installation.layout
    changed: set[str] = set()
    wanted: dict[Path, str] = {}
    for role in installation.record.roles:
        wanted |= {layout.units / name: text for name, text in unit_files(code, role).items()}
    for path, text in wanted.items():
        if installation.own(path, text):
            changed.add(path.relative_to(layout.units).parts[0].removesuffix(".d"))
    for old in (path for path in map(Path, installation.record.files) if path.parent == layout.units):
        if old not in wanted:
            if old.exists():
                installation.runner.run(["systemctl", "disable", "--now", old.name], check=False)
            installation.disown(old)
            changed.add(old.name)
    reload_if(installation, changed)
    return changed


def reload_if(installation: Installation, changed: set[str]) -> None:
    """Have systemd read its units again, if any changed."""
    if changed:
        installation.save()
        installation.runner.run(["systemctl", "daemon-reload"])


def enabled_units(code: Path, role: Role) -> list[str]:
    """Units of a role that start with the machine: those that have an [Install] section."""
    return [name for name, text in unit_files(code, role).items() if re.search(r"^\[Install\]", text, re.MULTILINE)]


def start(installation: Installation, code: Path, role: Role, *, restart: set[str] | None = None) -> bool:
    """Have a role's units enabled and running.

    Args:
        installation: This run.
        code: The release's code.
        role: Whose units.
        restart: Units that changed: they are started afresh.

    Returns:
        Whether anything was changed.

    Raises:
        InstallError: One does not start; its last words are in the message.
    """
    runner = installation.runner
    changed = False
    names = enabled_units(code, role)
    new = [name for name in names if not runner.ask(["systemctl", "is-enabled", "--quiet", name]).ok]
    if new:
        runner.run(["systemctl", "enable", "--quiet", *new])
        changed = True
    for name in names:
        running = runner.ask(["systemctl", "is-active", "--quiet", name]).ok
        if running and name not in (restart or set()):
            continue
        done = runner.run(
            ["systemctl", "restart" if running else "start", name], say=f"Starting {name}", check=False, deadline_s=300
        )
        if not done.ok:
            log_last_words(installation, name)
            runner.say(f"note: {name} did not start: {(done.errors.strip().splitlines() or ['no reason given'])[0]}")
        changed = True
    return changed


def stop(installation: Installation, role: Role) -> None:
    """Stop everything of a role, timers first, so that nothing starts in between."""
    folder = installation.layout.units
    names = sorted(
        (name for stem in _UNITS[role] for name in _kinds(stem) if (folder / name).exists()),
        key=lambda name: name.endswith(".service"),
    )
    if names:
        installation.runner.run(["systemctl", "stop", *names], say="Stopping services", deadline_s=300)


def log_last_words(installation: Installation, name: str) -> str:
    """A unit's last lines in the journal, into the log; returned too."""
    words = installation.runner.ask(
        ["journalctl", "--unit", name, "--lines=40", "--no-pager", "--output=short-iso"]
    ).output
    installation.runner.note(words)
    return words


def _kinds(stem: str) -> tuple[str, ...]:
    return f"{stem}.timer", f"{stem}.path", f"{stem}.service"
