"""What a machine's disk holds, to compare two moments: content, kind, rights, owner, and time of change."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

# What lives by itself while a machine runs: logs, journal, state of services and of systemd, and what is no disk.
LIVES = ("dev", "proc", "sys", "run", "tmp", "var/tmp", "var/log", "var/lib/systemd", "var/lib/sitecam")
Snapshot = dict[str, tuple[object, ...]]


def snapshot(root: Path, *, without: tuple[str, ...] = LIVES) -> Snapshot:
    """Look at every file.

    Args:
        root: The machine's root folder.
        without: Paths that don't count, and what is in them.
    """
    found: Snapshot = {}
    for folder, names, files in os.walk(root):
        here = Path(folder).relative_to(root)
        names[:] = [name for name in names if str(here / name) not in without]
        for name in (*names, *files):
            path = root / here / name
            found[str(here / name)] = _look(path)
    return found


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """What is new, gone or changed, a line each."""
    lines = [f"new      {path}" for path in after.keys() - before.keys()]
    lines += [f"gone     {path}" for path in before.keys() - after.keys()]
    lines += [f"changed  {path}" for path in before.keys() & after.keys() if before[path] != after[path]]
    return sorted(lines, key=lambda line: line.split(maxsplit=1)[1])


def _look(path: Path) -> tuple[object, ...]:
    entry = path.lstat()
    about = (stat.filemode(entry.st_mode), entry.st_uid, entry.st_gid, entry.st_mtime_ns)
    if stat.S_ISLNK(entry.st_mode):
        return (*about, str(path.readlink()))
    if stat.S_ISREG(entry.st_mode):
        with path.open("rb") as file:
            return (*about, hashlib.file_digest(file, "sha256").hexdigest())
    return about
