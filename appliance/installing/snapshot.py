"""Copies of the small databases from before an upgrade: an older release can't read what a newer one has migrated."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from appliance.files import write_atomically
from appliance.installing.installation import Installation
from appliance.installing.layout import Layout, Role


def folder_of(layout: Layout) -> Path:
    """Where copies lie, from before an upgrade until it is over."""
    return layout.opt / "before-upgrade"


def begin(installation: Installation, release: str) -> None:
    """Note from which release an upgrade begins: what stands there after a power cut says that it was not over."""
    folder = folder_of(installation.layout)
    folder.mkdir(mode=0o700)
    write_atomically(folder / "from", release.encode(), mode=0o600)


def begun_from(layout: Layout) -> str:
    """The release from which an upgrade began that never came to its end; empty if there is none."""
    path = folder_of(layout) / "from"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def take(installation: Installation, role: Role) -> None:
    """Copy a role's databases. Its services must be stopped: then a copy of the files is a whole one.

    Raises:
        OSError: No room; nothing was changed.
    """
    state = installation.layout.state(role)
    target = folder_of(installation.layout) / role
    for path in _databases(state):
        for file in _files(path):
            copy = target / file.relative_to(state)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def put_back(installation: Installation, role: Role) -> list[Path]:
    """Put those databases back whose schema a newer release has changed. Services must be stopped.

    The others stay: what people said in the meantime is in them.

    Returns:
        Those that were put back.

    Raises:
        OSError: The disk refused.
    """
    state = installation.layout.state(role)
    source = folder_of(installation.layout) / role
    back = []
    for copy in _databases(source) if source.is_dir() else []:
        path = state / copy.relative_to(source)
        if _schema(path) == _schema(copy):
            continue
        owner = state.stat()
        for file in (path, *_beside(path)):
            file.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        for file in _files(copy):
            target = state / file.relative_to(source)
            shutil.copyfile(file, target)
            target.chmod(0o600)
            if os.geteuid() == 0:
                os.chown(target, owner.st_uid, owner.st_gid)
        installation.runner.say(f"{path} is as it was before the upgrade")
        back.append(path)
    return back


def forget(installation: Installation) -> None:
    """Remove the copies."""
    folder = folder_of(installation.layout)
    if folder.exists():
        installation.places.remove_tree(folder, inside=installation.layout.opt)


def _databases(folder: Path) -> list[Path]:
    found = (path for pattern in ("*.sqlite", "*.db") for path in folder.rglob(pattern))
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def _files(database: Path) -> list[Path]:
    return [path for path in (database, database.with_name(f"{database.name}-wal")) if path.exists()]


def _beside(database: Path) -> list[Path]:
    return [database.with_name(f"{database.name}-{kind}") for kind in ("wal", "shm", "journal")]


def _schema(database: Path) -> tuple[int, str] | None:
    """Version and tables of a database; None where it can't be read. Asked of a copy, so that no file changes."""
    if not database.exists():
        return None
    with tempfile.TemporaryDirectory(dir=database.parent) as folder:
        for file in _files(database):
            shutil.copyfile(file, Path(folder, file.name))
        try:
            connection = sqlite3.connect(Path(folder, database.name))
            try:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                rows = connection.execute(
                    "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
                ).fetchall()
            finally:
                connection.close()
        except sqlite3.DatabaseError:
            return None
    return version, "\n".join(sql for (sql,) in rows)
