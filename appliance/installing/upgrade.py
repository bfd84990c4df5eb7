"""Another release: built beside the one that runs, looked at, switched to, and left again if it isn't healthy."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from appliance.errors import InstallError
from appliance.installing import accounts, codes, health, services, snapshot, timers
from appliance.installing.installation import Installation
from appliance.installing.layout import Role
from appliance.installing.releases import Release, current, prune, release_of, switch
from appliance.installing.unpack import unpack

_BUILDING_S = 5400.0
_LOOKING_S = 240.0


def upgrade(installation: Installation, source: Path) -> int:
    """Bring this machine to the release in ``source``, a folder or a ``.tar.gz``.

    Returns:
        0; or 75 where the new release was not healthy and the old one runs again.

    Raises:
        InstallError: It could not be tried, and the old one runs as before.
    """
    layout, runner, places = installation.layout, installation.runner, installation.places
    if not installation.record.roles:
        raise InstallError("Sitecam isn't installed here", means="There is nothing to upgrade", do="Run install.sh")
    finish_interrupted(installation)
    unpacked = layout.opt / "unpacked"
    if unpacked.exists():
        places.remove_tree(unpacked, inside=layout.opt)
    try:
        if source.is_file() and not runner.dry_run:
            source = unpack(source, unpacked)
        elif source.is_file():
            runner.say(f"would unpack {source} and go on with what is in it")
            return 0
        release = release_of(layout, source)
        if release.name == installation.record.release:
            runner.say(f"{release.name} runs here already.")
            return 0
        # The new release's own installer builds it: it knows what it needs. The old one stays in charge.
        runner.run(
            [sys.executable, "-P", "-B", "-m", "appliance.installing", "prepare"],
            say=f"Building {release.name} beside {installation.record.release}",
            environment={"PYTHONPATH": str(source)},
            live=True,
            deadline_s=_BUILDING_S,
        )
    finally:
        if unpacked.exists():
            places.remove_tree(unpacked, inside=layout.opt)
    installation.load()
    return change_over(installation, release)


def finish_interrupted(installation: Installation) -> None:
    """Bring an upgrade that a power cut ended to its end: forwards where the new release is healthy, else back.

    Raises:
        InstallError: Neither release is healthy.
    """
    old_name, now = snapshot.begun_from(installation.layout), current(installation.layout)
    if not old_name or now is None or installation.runner.dry_run:
        return
    old = Release(installation.layout.releases / old_name)
    installation.runner.say(f"An upgrade from {old_name} was cut off; bringing it to its end first")
    was_well = dict.fromkeys(installation.record.roles, False)
    if now.name != old_name and not _run(installation, now, was_well):
        _settle(installation, now, old_name)
        return
    trouble = _go_back(installation, old, was_well)
    if trouble:
        raise _neither(now.name, "cut off", old_name, trouble)


def change_over(installation: Installation, release: Release) -> int:
    """Switch to a release that is complete; go back by itself if it isn't healthy in two minutes.

    Returns:
        0; or 75 where it went back.

    Raises:
        InstallError: Not even the old release is healthy again.
    """
    runner, roles = installation.runner, installation.record.roles
    old = current(installation.layout)
    if old is None:
        raise InstallError("No release runs here", means="There is nothing to go back to", do="Run install.sh again")
    if runner.dry_run:
        runner.say(f"would switch from {old.name} to {release.name}, and back if it isn't healthy in two minutes")
        return 0
    was_well = {role: health.well(installation, role) for role in roles}
    for role in roles:
        services.stop(installation, role)
    try:
        snapshot.forget(installation)
        snapshot.begin(installation, old.name)
        for role in roles:
            snapshot.take(installation, role)
            _look_at(installation, release, role)
        wrong = _run(installation, release, was_well)
    except (InstallError, OSError) as error:
        wrong = str(error)
    except BaseException:
        _go_back(installation, old, was_well)
        raise
    if wrong:
        runner.say(f"{release.name} is not healthy: {wrong}")
        trouble = _go_back(installation, old, was_well)
        if trouble:
            raise _neither(release.name, wrong, old.name, trouble)
        prune(installation, {old.name, installation.record.previous})
        runner.say(f"{old.name} runs again, as before.")
        return codes.WENT_BACK
    _settle(installation, release, old.name)
    return 0


def _settle(installation: Installation, release: Release, old_name: str) -> None:
    installation.record = replace(installation.record, release=release.name, previous=old_name)
    installation.save()
    snapshot.forget(installation)
    prune(installation, {release.name, old_name})
    installation.runner.say(f"{release.name} runs. {old_name} is kept beside it.")


def _neither(new: str, wrong: str, old: str, trouble: str) -> InstallError:
    return InstallError(
        f"{new} was not healthy ({wrong}), and {old} isn't either now ({trouble})",
        means="This machine does not do its work",
        do="sudo sitecam doctor, and the log, say more; the newer release is still beside it",
    )


def _look_at(installation: Installation, release: Release, role: Role) -> None:
    """Have the new release look at this machine; faults that the old one has too are no reason against it."""
    command = {"camera": ["sitecam", "doctor", "--json"], "server": ["sitecam-server", "status", "--json"]}[role]
    path = str(release.commands / command[0])
    done = installation.runner.run(
        [path, *command[1:]], say=f"Having {release.name} look at this machine", check=False, deadline_s=_LOOKING_S
    )
    try:
        if done.status not in (0, 1):
            raise ValueError(f"status {done.status}")
        json.loads(done.output)
    except ValueError as error:
        last = (done.errors.strip().splitlines() or ["it said nothing"])[-1]
        raise InstallError(f"{' '.join(command)} of the new release failed ({error}: {last})") from error


def _run(installation: Installation, release: Release, was_well: dict[Role, bool]) -> str:
    """Have ``release`` run; return what is wrong, empty if nothing is."""
    switch(installation, release)
    services.place_units(installation, release.code)
    timers.apply(installation)
    accounts.link_commands(installation)
    for role in installation.record.roles:
        services.start(installation, release.code, role)
    for role in installation.record.roles:
        wrong = health.wait_until_up(installation, role, must_be_well=was_well[role])
        if wrong:
            return wrong
    return ""


def _go_back(installation: Installation, old: Release, was_well: dict[Role, bool]) -> str:
    installation.runner.say(f"Going back to {old.name} ...")
    for role in installation.record.roles:
        services.stop(installation, role)
        snapshot.put_back(installation, role)
    wrong = _run(installation, old, was_well)
    installation.save()
    snapshot.forget(installation)
    return wrong
