"""What installing a camera and installing a server have in common: everything up to the services' start."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

from appliance.installing import accounts, codes, machine, preflight, services, timers
from appliance.installing.environments import is_ready, make_environments
from appliance.installing.installation import Installation
from appliance.installing.layout import Role
from appliance.installing.packages import install_packages
from appliance.installing.releases import Release, current, place_code, prune, release_of, switch
from appliance.installing.upgrade import change_over, finish_interrupted


@dataclass(frozen=True)
class Wishes:
    """What stands on the command line.

    Attributes:
        name: Of the camera, or of the fleet.
        host: By which cameras reach the server; empty for the machine's name.
        server: Of the fleet that the camera shall join; empty for none.
        code: With which it is let in.
        yes: Ask nothing.
        clock_is_right: Don't wait for a time server.
        hardware_watchdog: Have the board reset itself when it hangs.
    """

    name: str = ""
    host: str = ""
    server: str = ""
    code: str = ""
    yes: bool = False
    clock_is_right: bool = False
    hardware_watchdog: bool = False


def check(installation: Installation, role: Role, wishes: Wishes) -> None:
    """Look at the machine, and say all that speaks against it.

    Raises:
        InstallError: Something does.
    """
    layout, runner = installation.layout, installation.runner
    here = machine.look(layout, runner, tuple(preflight.PORTS[role]))
    if not wishes.clock_is_right and not runner.dry_run:
        here = preflight.settle_clock(here, runner)
    findings = preflight.examine(
        here,
        role,
        installed=is_ready(release_of(layout, installation.source), role),
        clock_is_right=wishes.clock_is_right,
        ours=preflight.running(layout, runner, role),
        dry_run=runner.dry_run,
    )
    preflight.say_all(findings, runner)


def confirm(installation: Installation, what: str, wishes: Wishes) -> None:
    """Ask whether to go on, where somebody is there to be asked.

    Raises:
        InstallError: They said no.
    """
    installation.runner.say(what)
    if wishes.yes or installation.runner.dry_run or not sys.stdin.isatty():
        return
    if input("Go on? [Y/n] ").strip().lower() not in ("", "y", "yes"):
        raise codes.failure(codes.FAILED, "Nothing was installed, as you said")


def build(installation: Installation, role: Role) -> tuple[Release, bool]:
    """Have packages, code and environments of a role, beside what runs.

    Returns:
        The release, and whether anything was changed.

    Raises:
        InstallError: A step failed; what runs was not touched.
    """
    changed = install_packages(installation, role)
    release = place_code(installation)
    return release, make_environments(installation, release, role) or changed


def set_up(installation: Installation, role: Role, wishes: Wishes) -> tuple[Release, bool]:
    """Everything up to the services' start, without settings; a machine with another release changes over first.

    Returns:
        The release that runs, and whether anything was changed.

    Raises:
        InstallError: A step failed. 75: the new release was not healthy, and the old one runs again.
    """
    layout = installation.layout
    finish_interrupted(installation)
    before = current(layout)
    others = [other for other in installation.record.roles if other != role]
    release, changed = build(installation, role)
    if before is not None and before.name != release.name and installation.record.roles:
        for other in others:
            changed |= build(installation, other)[1]
        if change_over(installation, release) == codes.WENT_BACK:
            raise codes.failure(
                codes.WENT_BACK,
                f"{release.name} was not healthy on this machine, and {before.name} runs again",
                do="The log says why",
            )
        changed = True
    fresh = role not in installation.record.roles
    installation.record = installation.record.with_role(role)
    changed |= switch(installation, release)
    if installation.record.release != release.name:
        installation.record = replace(installation.record, release=release.name)
    installation.save()
    changed |= accounts.make_users(installation)
    changed |= accounts.limit_journal(installation)
    changed |= accounts.link_commands(installation)
    if wishes.hardware_watchdog:
        changed |= timers.hardware_watchdog(installation)
    installation.save()
    if not installation.runner.dry_run:
        prune(installation, {release.name, installation.record.previous})
    return release, changed or fresh


def place_services(installation: Installation, release: Release) -> set[str]:
    """Have units and their drop-ins; return the names of those that changed.

    Raises:
        InstallError: systemd does not take them, or a setting can't be used.
    """
    code = installation.source if installation.runner.dry_run else release.code
    changed = services.place_units(installation, code)
    changed |= timers.back_off(installation)
    timers.apply(installation)
    installation.save()
    return changed


def plain(text: str, what: str) -> str:
    """A name that may stand in a settings file and on a screen.

    Raises:
        InstallError: It is empty, long, or has characters that do not show. Exit code 64.
    """
    text = text.strip()
    if not text or len(text) > 64 or not text.isprintable() or text.startswith("-"):
        raise codes.failure(
            codes.WRONG_CALL,
            f"{text!r} can't be {what}",
            means="Nothing was changed",
            do="Use up to 64 letters, digits, spaces and the like",
        )
    return text
