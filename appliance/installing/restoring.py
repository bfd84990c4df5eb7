"""Exchanges what a backup brought with what is here, or takes it back; after a power cut it goes on where it was.

``/opt/sitecam/restoring.json`` says how far a restore has come:

    unpacking   nothing was touched; what was unpacked is removed
    swapping    goes on: everything is unpacked and on disk, and what was here is kept beside it
    undoing     goes on going back
    done        what was here before is removed

Which folder is which is told by its inode number, not by its name: a cut may come before or after any rename.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

from appliance.errors import InstallError
from appliance.files import sync_folder, write_atomically
from appliance.installing import codes, health, services, timers
from appliance.installing.exchange import exchange
from appliance.installing.installation import Installation
from appliance.installing.layout import Layout, Role
from appliance.installing.releases import current

_ROLES: tuple[Role, ...] = get_args(Role)


@dataclass(frozen=True)
class Journal:
    """How far a restore has come, and where its files are.

    Attributes:
        phase: See the head of this module.
        stamp: Tells its folders from others.
        folders: Roles that are restored, and the inode numbers of the folders that were unpacked for them.
        settings: Files below the settings' folder that are replaced, and whether there was one before.
    """

    phase: str
    stamp: str
    folders: tuple[tuple[Role, int], ...] = ()
    settings: tuple[tuple[str, bool], ...] = ()

    @property
    def roles(self) -> list[Role]:
        """That are restored."""
        return [role for role, _ in self.folders]

    def new(self, path: Path) -> Path:
        """Where the restored one of a state folder or a settings file waits."""
        return path.with_name(f"{path.name}.restoring-{self.stamp}")

    def kept(self, state: Path) -> Path:
        """Where a state folder is kept until the restored one is healthy."""
        return state.with_name(f"{state.name}.before-restore-{self.stamp}")

    def old(self, setting: Path) -> Path:
        """Where a settings file is kept."""
        return setting.with_name(f"{setting.name}.old-{self.stamp}")


def beside(state: Path) -> list[Path]:
    """What restoring left beside a state folder."""
    pattern = re.compile(re.escape(state.name) + r"\.(restoring|before-restore)-[0-9TZ]+")
    return [path for path in sorted(state.parent.glob(f"{state.name}.*")) if pattern.fullmatch(path.name)]


def read_journal(layout: Layout) -> Journal | None:
    """How far a restore came that was cut off; None where none was.

    Raises:
        InstallError: It can't be read.
    """
    path = _path(layout)
    try:
        body = json.loads(path.read_bytes())
        folders = tuple((_ROLES[_ROLES.index(role)], int(inode)) for role, inode in body["folders"])
        settings = tuple((str(setting), bool(existed)) for setting, existed in body["settings"])
        return Journal(str(body["phase"]), str(body["stamp"]), folders, settings)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InstallError(
            f"{path} can't be read ({error!r})",
            means="It says how far a restore had come, so nothing was changed",
            do="What was here before is beside the state folder, as .before-restore-. See to it, then remove the file",
        ) from error


class Restoring:
    """One restore, from its first file to its last.

    Args:
        installation: This run.
        journal: How far it has come.
        step: Told of every step; for tests that pull the plug.
    """

    def __init__(self, installation: Installation, journal: Journal, step: Callable[[str], None]) -> None:
        self.journal = journal
        self._installation, self._runner, self._layout = installation, installation.runner, installation.layout
        self._step = step

    def note(self, journal: Journal) -> None:
        """Write down how far it has come.

        Raises:
            OSError: The disk refused.
        """
        self.journal = journal
        write_atomically(_path(self._layout), json.dumps(asdict(journal)).encode(), mode=0o600)
        self._step(journal.phase)

    def go_on(self) -> None:
        """Bring it to its end from wherever a cut left it.

        Raises:
            InstallError: What it brought isn't healthy; what was here before runs again.
        """
        self._runner.say("A restore was cut off; bringing it to its end first")
        if self.journal.phase == "unpacking":
            self.forget_unpacked()
        elif self.journal.phase == "swapping":
            self.swap()
        elif self.journal.phase == "undoing":
            trouble = self._undo()
            if trouble:
                raise InstallError(f"What was here before is back, and does not work: {trouble}")
        else:
            self._drop()

    def forget_unpacked(self) -> None:
        """Remove what was unpacked; nothing else was touched."""
        for role in _ROLES:
            folder = self.journal.new(self._layout.state(role))
            if folder.exists():
                shutil.rmtree(folder)
        for left in self._layout.settings.rglob(f"*.restoring-{self.journal.stamp}"):
            left.unlink()
        self._end()
        self._start()

    def swap(self) -> None:
        """Exchange what was unpacked with what is here, and keep it if it works.

        Raises:
            InstallError: It does not; what was here runs again. Exit code 75.
            OSError: The disk refused that too; the next command goes on.
        """
        try:
            self._stop()
            self.note(replace(self.journal, phase="swapping"))
            self._exchange()
            timers.apply(self._installation)
            self._installation.save()
            wrong = self._start() or self._wait()
        except (InstallError, OSError) as error:
            wrong = str(error)
        self._step("started")
        if wrong:
            self._go_back(wrong)
        self.note(replace(self.journal, phase="done"))
        self._drop()

    def _exchange(self) -> None:
        for role, inode in self.journal.folders:
            state = self._layout.state(role)
            new, kept = self.journal.new(state), self.journal.kept(state)
            if state.stat().st_ino != inode:
                exchange(new, state)
                self._step(f"exchanged {role}")
            if new.exists():
                new.rename(kept)
                sync_folder(kept.parent)
                self._step(f"kept {role}")
        for name, _ in self.journal.settings:
            path = self._layout.settings / name
            new, old = self.journal.new(path), self.journal.old(path)
            if not new.exists():
                continue  # a cut came after it
            if path.exists() and not old.exists():
                os.link(path, old)
                self._step(f"kept {name}")
            new.replace(path)
            sync_folder(path.parent)
            self._step(f"replaced {name}")

    def _go_back(self, wrong: str) -> None:
        self._runner.say(f"What the backup brought does not work here: {wrong}")
        self.note(replace(self.journal, phase="undoing"))
        trouble = self._undo()
        raise codes.failure(
            codes.WENT_BACK,
            f"The restored {' and '.join(self.journal.roles)} did not work: {wrong}",
            means=f"What was here before is back, and does not work either: {trouble}"
            if trouble
            else "What was here before runs again",
            do=f"The log says more: {self._layout.log}",
        )

    def _undo(self) -> str:
        """Have what was here before in its place, running; return what is wrong with it, empty if nothing is."""
        self._runner.say("Going back to what was here before ...")
        self._stop()
        for role, inode in self.journal.folders:
            state = self._layout.state(role)
            for other in (self.journal.kept(state), self.journal.new(state)):
                if other.exists() and state.stat().st_ino == inode:
                    exchange(other, state)
                    self._step(f"back {role}")
                if other.exists() and other.stat().st_ino == inode:
                    shutil.rmtree(other)
                    self._step(f"removed {role}")
        for name, existed in self.journal.settings:
            path = self._layout.settings / name
            old = self.journal.old(path)
            self.journal.new(path).unlink(missing_ok=True)
            if old.exists():
                old.replace(path)
                old.unlink(missing_ok=True)  # a rename does nothing where both are names of one file
            elif not existed:
                path.unlink(missing_ok=True)
            self._step(f"back {name}")
        timers.apply(self._installation)
        self._installation.save()
        self._end()
        return self._start() or self._wait()

    def _drop(self) -> None:
        """Remove the state that was here before; old settings stay beside the new ones."""
        for role, _ in self.journal.folders:
            kept = self.journal.kept(self._layout.state(role))
            if kept.exists():
                shutil.rmtree(kept)
                self._step(f"dropped {role}")
        self._end()

    def _end(self) -> None:
        _path(self._layout).unlink()
        sync_folder(self._layout.opt)
        self._step("end")

    def _stop(self) -> None:
        for role in self._installation.record.roles:
            services.stop(self._installation, role)
        self._step("stopped")

    def _start(self) -> str:
        """Have the services run; return what is wrong, empty if nothing is."""
        release = current(self._layout)
        if release is None:
            return f"{self._layout.current} leads to no release"
        for role in self._installation.record.roles:
            services.start(self._installation, release.code, role)
        return ""

    def _wait(self) -> str:
        self._runner.say("Waiting until all of it works ...")
        wrong = [health.wait_until_up(self._installation, role, must_be_well=False) for role in self.journal.roles]
        return " ".join(filter(None, wrong))


def _path(layout: Layout) -> Path:
    return layout.opt / "restoring.json"
