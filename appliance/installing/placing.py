"""Puts files, links and folders where they belong, and touches nothing that is so already."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path

from appliance.errors import InstallError
from appliance.files import write_atomically
from appliance.installing.run import Runner

Ids = Callable[[str], tuple[int, int]]


def system_ids(user: str) -> tuple[int, int]:
    """A user's number, and that of the group of its own.

    Raises:
        InstallError: There is no such user.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError as error:
        raise InstallError(
            f"There is no user {user}", means="Nothing can belong to it", do="Run systemd-sysusers, then this again"
        ) from error
    return entry.pw_uid, entry.pw_gid


class Places:
    """What is written, under one roof: compared first, logged, and only said with ``--dry-run``.

    Args:
        runner: Logs, and knows whether anything may be written.
        ids: Finds a user's numbers.
    """

    def __init__(self, runner: Runner, ids: Ids = system_ids) -> None:
        self._runner = runner
        self._ids = ids
        self.changed: set[Path] = set()

    def file(self, path: Path, text: str, *, mode: int = 0o644, group: str = "root") -> bool:
        """Have ``path`` hold ``text``, owned by root and ``group``.

        Returns:
            Whether anything was changed.

        Raises:
            InstallError: Something that isn't a file is in the way.
        """
        data = text.encode()
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise _in_the_way(path)
        gid = 0 if group == "root" or self._runner.dry_run else self._ids(group)[1]
        if path.exists() and path.read_bytes() == data:
            return self._settle(path, 0, gid, mode)
        if self._would(f"write {path}"):
            return True
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data, mode=0o600)
        self._own(path, 0, gid, mode)
        return self._changed(path, "wrote")

    def link(self, path: Path, target: Path) -> bool:
        """Have ``path`` be a link to ``target``, replaced in one step.

        Returns:
            Whether anything was changed.

        Raises:
            InstallError: Something that isn't a link is in the way.
        """
        if path.is_symlink() and path.readlink() == target:
            return False
        if path.exists() and not path.is_symlink():
            raise _in_the_way(path)
        if self._would(f"link {path} to {target}"):
            return True
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(path)
        return self._changed(path, f"linked to {target}:")

    def folder(self, path: Path, *, mode: int = 0o755, user: str = "root") -> bool:
        """Have ``path`` be a folder of ``user``'s.

        Returns:
            Whether anything was changed.

        Raises:
            InstallError: Something that isn't a folder is in the way.
        """
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise _in_the_way(path)
        uid, gid = (0, 0) if user == "root" or self._runner.dry_run else self._ids(user)
        if path.exists():
            return self._settle(path, uid, gid, mode)
        if self._would(f"make {path}"):
            return True
        path.mkdir(parents=True, mode=0o700)
        self._own(path, uid, gid, mode)
        return self._changed(path, "made")

    def remove(self, path: Path) -> bool:
        """Have no file or link at ``path``, nor a drop-in folder that was only there for it."""
        if not path.exists() and not path.is_symlink():
            return False
        if self._would(f"remove {path}"):
            return True
        path.unlink()
        if path.parent.name.endswith(".d") and not any(path.parent.iterdir()):
            path.parent.rmdir()
        return self._changed(path, "removed")

    def remove_tree(self, path: Path, *, inside: Path) -> None:
        """Remove a folder below ``inside``, and nothing else whatever ``path`` says.

        Raises:
            InstallError: It doesn't lie there.
        """
        if path.resolve().parent != inside.resolve() or path.is_symlink():
            raise InstallError(f"{path} does not lie in {inside}", means="It was not removed", do="Look at it yourself")
        if not self._would(f"remove {path} and all in it"):
            shutil.rmtree(path)
            self._changed(path, "removed")

    def _settle(self, path: Path, uid: int, gid: int, mode: int) -> bool:
        found = path.stat()
        if (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (uid, gid, mode) or self._runner.dry_run:
            return False
        self._own(path, uid, gid, mode)
        return self._changed(path, "set owner and mode of")

    def _own(self, path: Path, uid: int, gid: int, mode: int) -> None:
        if os.geteuid() == 0:  # tests may be anybody
            os.chown(path, uid, gid)
        path.chmod(mode)

    def _would(self, what: str) -> bool:
        if self._runner.dry_run:
            self._runner.say(f"would {what}")
        return self._runner.dry_run

    def _changed(self, path: Path, verb: str) -> bool:
        self._runner.note(f"{verb} {path}")
        self.changed.add(path)
        return True


def _in_the_way(path: Path) -> InstallError:
    return InstallError(
        f"{path} is there and isn't what Sitecam would put there",
        means="It was left as it is, and nothing after it was done",
        do="Move it away, then run the same command again",
    )
