"""Takes Sitecam off this machine: what installed.json lists, nothing else. Settings and state stay unless purged."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from appliance.errors import InstallError
from appliance.installing import codes
from appliance.installing.layout import Layout, Role, user
from appliance.installing.placing import Places
from appliance.installing.record import Record, read_record
from appliance.installing.restore import finish_interrupted
from appliance.installing.restoring import beside
from appliance.installing.run import Runner

_ROLES: tuple[Role, ...] = get_args(Role)
_UNIT = re.compile(r"sitecam-[a-z-]+\.(service|timer|path)")
_COMMAND = re.compile(r"sitecam(-[a-z]+)?")
_DROP_IN = re.compile(r"[a-z-]+\.conf")
_DEFAULTS = re.compile(r"sitecam(-server)?\.toml\.new")
# Where services of ours may have left something: a user's number must not pass to a stranger who then owns it.
_KNOWN_PLACES = ("etc", "opt", "run", "tmp", "var/lib", "var/log", "var/tmp")
_CONFIRMATION = "delete everything"


def uninstall(layout: Layout, runner: Runner, *, purge: bool = False, yes: bool = False) -> None:
    """Take everything off that the installer wrote; done again after a cut, it goes on.

    Args:
        layout: The machine's folders.
        runner: Runs commands.
        purge: Settings, state and users too.
        yes: Don't ask whether that is meant.

    Raises:
        InstallError: The list names something that we don't write, and nothing was removed; or a step failed.
        OSError: The disk refused; the same command goes on.
    """
    record = read_record(layout)
    files = [_ours(layout, Path(name)) for name in record.files]
    for folder in (layout.opt, layout.settings, *map(layout.state, _ROLES)):
        _must_be_a_folder(layout, folder)
    if runner.dry_run:
        for path in files:
            runner.say(f"would remove {path}")
        runner.say(f"would remove {layout.opt} and all in it")
        return
    if purge:
        _confirm(layout, yes=yes)
    else:
        finish_interrupted(layout, runner)  # what is kept must be whole, and in its place
    _switch_off(layout, runner, files)
    for role in _ROLES:
        _remove_tree(layout.root / "run" / user(role))  # what the services kept in memory, between two starts too
    _remove_files(layout, runner, files)
    if purge:
        _purge(layout, runner)
    _remove_programs(layout)
    _tell(layout, runner, record, purge=purge)


def _ours(layout: Layout, path: Path) -> Path:
    """A path of installed.json, if it is one that the installer writes; nobody else's file is removed by a wrong list.

    Raises:
        InstallError: It isn't.
    """
    folder, name = path.parent, path.name
    known = (
        path in (layout.sysusers, layout.journal, layout.watchdog)
        or (folder == layout.units and _UNIT.fullmatch(name))
        or (folder.parent == layout.units and _UNIT.fullmatch(folder.name[:-2]) and folder.name.endswith(".d"))
        or (folder == layout.commands and _COMMAND.fullmatch(name))
        or (folder == layout.root_commands and _COMMAND.fullmatch(name))
        or (folder == layout.settings and _DEFAULTS.fullmatch(name))
    )
    if folder.parent == layout.units and not _DROP_IN.fullmatch(name):
        known = False
    real = layout.root.resolve() / folder.relative_to(layout.root) if known else folder
    if not known or folder.resolve() != real or stat.S_ISDIR(_mode(path)):
        raise InstallError(
            f"{layout.installed} names {str(path)!r}, which is nothing that this installer writes",
            means="Nothing was removed",
            do="Look at that file and at the list; take the line out once you know why it is there",
        )
    return path


def _must_be_a_folder(layout: Layout, folder: Path) -> None:
    real = layout.root.resolve() / folder.relative_to(layout.root)
    if _mode(folder) and (not stat.S_ISDIR(_mode(folder)) or folder.resolve() != real or real == layout.root.resolve()):
        raise InstallError(
            f"{folder} isn't the folder that this installer made",
            means="What it leads to is not ours. Nothing was removed",
            do="Look at it, and remove the link yourself",
        )


def _confirm(layout: Layout, *, yes: bool) -> None:
    if yes or not sys.stdin.isatty():
        return
    what = " and ".join(str(each) for each in (layout.settings, *map(layout.state, _ROLES)) if each.exists())
    print(f"This deletes {what or 'what is left of Sitecam'}: pictures, labels, models and keys. There is no way back.")
    if input(f'Type "{_CONFIRMATION}" if that is meant: ').strip() != _CONFIRMATION:
        raise codes.failure(codes.FAILED, "Nothing was removed, as you said")


def _switch_off(layout: Layout, runner: Runner, files: list[Path]) -> None:
    units = sorted(path.name for path in files if path.parent == layout.units and _mode(path))
    if not units:
        return
    units.sort(key=lambda name: name.endswith(".service"))  # timers first, so that nothing starts in between
    runner.run(["systemctl", "stop", *units], say="Stopping services", deadline_s=300)
    runner.run(["systemctl", "disable", "--quiet", *units], check=False)


def _remove_files(layout: Layout, runner: Runner, files: list[Path]) -> None:
    places = Places(runner)
    # sitecam-install last: until then the same command can be typed again
    removed = [
        path for path in sorted(files, key=lambda path: path.parent == layout.root_commands) if places.remove(path)
    ]
    units = [path.name for path in removed if path.parent == layout.units]
    if any(layout.units in path.parents for path in removed):
        runner.run(["systemctl", "daemon-reload"])
    if units:
        runner.run(["systemctl", "reset-failed", *units], check=False)
    if layout.journal in removed:
        runner.run(["systemctl", "restart", "systemd-journald"], check=False)
    if layout.watchdog in removed:
        runner.run(["systemctl", "daemon-reexec"], check=False)


def _purge(layout: Layout, runner: Runner) -> None:
    runner.say("Deleting settings and state ...")
    _remove_tree(layout.settings)
    for role in _ROLES:
        for folder in (layout.state(role), *beside(layout.state(role))):
            _remove_tree(folder)
    for role in _ROLES:
        _remove_user(layout, runner, user(role))


def _remove_user(layout: Layout, runner: Runner, name: str) -> None:
    numbers = _numbers(layout, "etc/passwd", name)
    if numbers is not None:
        left = next(_files_of(layout, numbers), None)
        if left is not None:
            runner.say(f"The user {name} stays: {left} belongs to it.")
            return
        runner.run(["userdel", name], check=False)
    if _numbers(layout, "etc/group", name) is not None:
        runner.run(["groupdel", name], check=False)


def _numbers(layout: Layout, file: str, name: str) -> int | None:
    """The number of a user or a group; None where there is none."""
    path = layout.root / file
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    found = [line.split(":") for line in lines if line.startswith(f"{name}:")]
    return int(found[0][2]) if found else None


def _files_of(layout: Layout, number: int) -> Iterator[Path]:
    for place in _KNOWN_PLACES:
        for folder, folders, files in os.walk(layout.root / place):
            for path in (Path(folder, name) for name in (*folders, *files)):
                try:
                    if path.lstat().st_uid == number:
                        yield path
                except FileNotFoundError:
                    continue  # others work here meanwhile


def _remove_programs(layout: Layout) -> None:
    """Everything below /opt/sitecam, the list last: what a cut leaves can be removed by the same command."""
    if not layout.opt.exists():
        return
    for path in sorted(layout.opt.iterdir(), key=lambda path: path == layout.installed):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    layout.opt.rmdir()


def _remove_tree(folder: Path) -> None:
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)  # never through a link, on Linux not even through one that comes meanwhile


def _tell(layout: Layout, runner: Runner, record: Record, *, purge: bool) -> None:
    runner.say("Sitecam is off this machine." if record.roles else "Sitecam isn't installed here.")
    kept = [path for path in (layout.settings, *map(layout.state, _ROLES)) if path.exists()]
    for path in kept:
        runner.say(f"Kept: {path}")
    if kept:
        runner.say("./install.sh uninstall --purge deletes that too; ./install.sh camera or server goes on with it.")
    if record.packages:
        runner.say(
            f"Debian's packages stay: {' '.join(record.packages)}. sudo apt-get autoremove knows which are unused."
        )
    if record.nginx_off:
        runner.say("Debian's own nginx.service stays switched off: sudo systemctl enable --now nginx brings it back.")
    if purge:
        layout.log.unlink(missing_ok=True)
    elif layout.log.exists():
        runner.show(f"Kept: {layout.log}, what the installer did")


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0
