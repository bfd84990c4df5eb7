"""Brings a backup to this machine: all of it is checked before anything is touched, then unpacked beside what is here.

:mod:`appliance.installing.restoring` then exchanges the two, keeps what works, and survives a power cut anywhere.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from appliance.errors import InstallError
from appliance.files import write_atomically
from appliance.installing import codes
from appliance.installing.archive import GONE, Entry, Manifest, check, contents, open_archive, read_manifest, untrusted
from appliance.installing.exchange import can_exchange
from appliance.installing.installation import Fetch, Installation, fetch
from appliance.installing.layout import Layout, Role
from appliance.installing.owner import owner_of
from appliance.installing.placing import Places
from appliance.installing.record import Record
from appliance.installing.restoring import Journal, Restoring, read_journal
from appliance.installing.run import Runner

_SPARE_BYTES: Final = 64 << 20
_BLOCK_BYTES: Final = 4096


def restore(
    layout: Layout,
    runner: Runner,
    file: Path,
    *,
    fetch: Fetch = fetch,
    pause: Callable[[float], None] = time.sleep,
    step: Callable[[str], None] = lambda _: None,
) -> None:
    """Have this machine be what it was when the backup was made; its roles must be installed here.

    Args:
        layout: The machine's folders.
        runner: Runs commands, and tells the person how it goes.
        file: The archive.
        fetch: Asks a page on this machine.
        pause: Waits, seconds.
        step: Told of every step; for tests that pull the plug.

    Raises:
        InstallError: The archive can't be used (exit code 65); or this machine can't take it; or what it brought does
            not work, and what was here runs again (exit code 75).
        OSError: The disk refused; the next command brings it to an end.
    """
    finish_interrupted(layout, runner, fetch=fetch, pause=pause)
    installation = _installation(layout, runner, fetch, pause)
    with open_archive(file) as archive:
        runner.say(f"Checking {file} ...")
        manifest = check(archive)
        _must_fit(layout, installation.record, manifest)
        if runner.dry_run:
            runner.say(f"would bring {' and '.join(manifest.roles)} of {manifest.created_utc} to this machine")
            return
        restoring = Restoring(installation, Journal("unpacking", f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"), step)
        restoring.note(restoring.journal)
        runner.say(f"Unpacking {len(manifest.files):,} files ...")
        try:
            restoring.journal = _unpack(layout, restoring.journal, archive, manifest, step)
        except BaseException:
            restoring.forget_unpacked()
            raise
    restoring.swap()
    runner.say(f"This machine is the {' and '.join(manifest.roles)} of {manifest.created_utc} again.")
    if any(existed for _, existed in restoring.journal.settings):
        runner.say(
            "Its name and addresses are those of the restored settings. What was in force here until now is in"
            f" {layout.settings} too, as .old-{restoring.journal.stamp}."
        )
    runner.say(
        "Its private keys came with it. If the backup is another machine's, switch that one off for good and wipe its"
        " card: two with one key are one camera to the fleet, and break each other's nights."
    )


def finish_interrupted(
    layout: Layout, runner: Runner, *, fetch: Fetch = fetch, pause: Callable[[float], None] = time.sleep
) -> None:
    """Bring a restore that was cut off to its end; every command that changes the machine begins with it.

    Raises:
        InstallError: What it brought does not work; what was here before runs again.
    """
    journal = read_journal(layout)
    if journal is not None and not runner.dry_run:
        Restoring(_installation(layout, runner, fetch, pause), journal, lambda _: None).go_on()


def _installation(layout: Layout, runner: Runner, fetch: Fetch, pause: Callable[[float], None]) -> Installation:
    installation = Installation(layout, runner, Places(runner), fetch=fetch, pause=pause)
    installation.load()
    return installation


def _must_fit(layout: Layout, record: Record, manifest: Manifest) -> None:
    missing = [role for role in manifest.roles if role not in record.roles]
    if missing:
        raise codes.failure(
            codes.REFUSED,
            f"This is a backup of a {' and '.join(manifest.roles)}, and there is no {' and no '.join(missing)} here",
            means="Nothing was changed",
            do=f"First: {' and '.join(f'sudo ./install.sh {role}' for role in missing)}; then this again",
        )
    here = record.release.partition("+")[0]
    if _numbers(manifest.sitecam) > _numbers(here):
        raise codes.failure(
            codes.REFUSED,
            f"This is a backup of Sitecam {manifest.sitecam}, and {here} is installed here",
            means="An older release can't read what a newer one wrote. Nothing was changed",
            do="First: sudo sitecam-install upgrade, to the newer one; then this again",
        )
    for role in manifest.roles:
        state = layout.state(role)
        if state.is_symlink() or not state.is_dir():
            raise InstallError(
                f"{state} isn't a folder", means="Nothing was changed", do=f"Run install.sh {role} again"
            )
        if (state / "forgetting.json").exists():
            raise codes.failure(
                codes.REFUSED,
                "The camera that is here is being forgotten",
                means="A restore would stop that half-way. Nothing was changed",
                do="Start sitecam-camera.service, which finishes it; then this again",
            )
        if state.stat().st_dev != state.parent.stat().st_dev:
            raise InstallError(
                f"{state} is a disk of its own",
                means="The restored one takes its place in one step, which no two disks can do. Nothing was changed",
                do=f"Have {state} on the disk of {state.parent} while restoring",
            )
    folder = layout.state(manifest.roles[0]).parent
    wanted = sum(entry.size_bytes + _BLOCK_BYTES for entry in manifest.files) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise codes.failure(
            codes.REFUSED,
            f"The backup takes {wanted >> 20:,} MB, and {folder} has {free >> 20:,} MB left",
            means="What is here is kept until the restored one works, so both must have room. Nothing was changed",
            do="Make room, or use a larger card",
        )
    if not can_exchange(folder):
        raise codes.failure(
            codes.REFUSED,
            f"The file system of {folder} can't exchange two folders in one step",
            means="A power cut could leave this machine without either. Nothing was changed",
            do="Use ext4, as Raspberry Pi OS does",
        )


def _unpack(
    layout: Layout, journal: Journal, archive: BinaryIO, manifest: Manifest, step: Callable[[str], None]
) -> Journal:
    """Unpack everything beside what is here.

    Returns:
        The journal, with what was unpacked.

    Raises:
        InstallError: The archive changed since it was checked.
        OSError: The disk refused.
    """
    if read_manifest(archive) != manifest:
        raise untrusted("The file was changed while it was read")
    folders = {role: _make_folder(layout.state(role), journal) for role in manifest.roles}
    step("made folders")
    settings = []
    for entry, content in contents(archive, manifest):
        top, _, path = entry.path.partition("/")
        if entry.path.startswith(GONE):
            for _ in content:
                pass
        elif top == "settings":
            present, data = layout.settings / path, b"".join(content)
            if _differs(present, data):
                settings.append((path, present.exists()))
                _write_setting(layout, journal.new(present), data, entry)
        else:
            _write(folders[_role(top, manifest)], path, content, entry.mode)
    step("unpacked")
    os.sync()  # from here on a power cut finds all of it
    return replace(
        journal,
        folders=tuple((role, folder.stat().st_ino) for role, folder in folders.items()),
        settings=tuple(settings),
    )


def _make_folder(state: Path, journal: Journal) -> Path:
    folder, owner = journal.new(state), state.stat()
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:  # tests may be anybody
        os.chown(folder, owner.st_uid, owner.st_gid)
    return folder


def _role(top: str, manifest: Manifest) -> Role:
    return next(role for role in manifest.roles if role == top)


def _write(root: Path, path: str, content: Iterator[bytes], mode: int) -> None:
    with owner_of(root):
        *folders, name = path.split("/")
        folder = root
        for each in folders:
            folder /= each
            folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(content)
            os.fchmod(descriptor, mode)


def _differs(present: Path, data: bytes) -> bool:
    if present.is_symlink() or (present.exists() and not present.is_file()):
        raise InstallError(f"{present} isn't a file", means="Nothing was changed", do="Move it away, and try again")
    return not present.exists() or present.read_bytes() != data


def _write_setting(layout: Layout, target: Path, data: bytes, entry: Entry) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, data, mode=0o600)
    if os.geteuid() == 0:
        user, _, group = entry.owner.partition(":")
        os.chown(target, _state_of(layout, user).st_uid, _state_of(layout, group).st_gid)
    target.chmod(entry.mode)


def _state_of(layout: Layout, owner: str) -> os.stat_result:
    """Whose user and group are meant: root's as those of the machine's root folder."""
    if owner == "camera":
        return layout.state("camera").stat()
    return layout.state("server").stat() if owner == "server" else layout.root.stat()


def _numbers(version: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"[0-9]+", version)]
