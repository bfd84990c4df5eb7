"""Puts settings, keys, frames, labels and models of this machine into one file, while its services go on working.

Files come first, then copies of the databases, then the files that came meanwhile. A row goes before its file, so a
frame that the copy knows has its picture in the archive; a picture without a row is swept by the store's first start.

What people delete while the backup runs is not in it. Whatever vanished before the databases are copied is
overwritten in the archive. If a deletion is noted after that, it is done again. One that was noted and not
yet finished is in the copy as such, and the restored camera's first start finishes it. A camera that is forgotten
meanwhile is not backed up at all.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from appliance import __version__
from appliance.errors import InstallError
from appliance.files import written_atomically
from appliance.installing import codes
from appliance.installing.archive import GONE, ArchiveWriter, Manifest, fits, room_for
from appliance.installing.layout import Layout, Role
from appliance.installing.owner import owner_of
from appliance.installing.record import read_record
from appliance.installing.restore import finish_interrupted
from appliance.installing.run import Runner

_FORGETTING, _FORGOTTEN = "forgetting.json", "forgotten.json"
_DATABASE = re.compile(r".*\.(sqlite|db)")
_STORE = "store/frames.sqlite"
_FIRST = (_STORE, "registry.sqlite")  # what the others are about; SuperLink knows a camera before we do
_LEFT_OUT = re.compile(
    r"""
    (.*/)?\.[^/]*\.tmp | .*\.tmp |                      # what a killed writer left
    .*\.(sqlite|db)(-wal|-shm|-journal) |               # in the copies already
    store/(incoming/.*|reserve) |                       # an import under way; room for hard times
    store/frames/../[0-9a-f]{32}\.small\.jpg |          # made again when somebody looks
    models/versions/[^/]+/impulse\.(eim|sha256) |       # assembled again from the parts
    status\.json | reboot-request\.json | camera-restarts\.json |  # of this machine at this moment
    flower/(?!superlink\.sqlite$).*                     # written again at every start
    """,
    re.VERBOSE,
)
_OLD_SETTINGS = re.compile(r".*\.(tmp|new|old-[0-9TZ-]+|restoring-[0-9TZ-]+)")
_TRIES = 5
_SHOWN_BYTES = 100 << 20
_SPARE_BYTES = 16 << 20


def backup(layout: Layout, runner: Runner, file: Path) -> None:
    """Make a backup of all roles of this machine; services may run.

    Args:
        layout: The machine's folders.
        runner: Tells the person how it goes.
        file: The archive to be; must not exist.

    Raises:
        InstallError: It was not made.
    """
    roles = read_record(layout).roles
    if not roles:
        raise codes.failure(codes.REFUSED, "Sitecam isn't installed here", means="There is nothing to back up")
    _check_target(layout, file)
    finish_interrupted(layout, runner)
    parts = [_Part("settings", layout.settings, None), *(_Part(role, layout.state(role), role) for role in roles)]
    if runner.dry_run:
        runner.say(f"would write {' and '.join(str(part.folder) for part in parts)} to {file}")
        return
    _sweep(file)
    _check_room(parts, file)
    try:
        with (
            tempfile.TemporaryDirectory(prefix=f".{file.name}.", suffix=".tmp", dir=file.parent) as staging,
            written_atomically(file, mode=0o600) as target,
        ):
            manifest = _Backup(runner, parts, Path(staging)).write(target, roles)
    except OSError as error:
        raise codes.failure(
            codes.FAILED,
            f"The backup could not be made ({error})",
            means=f"There is no {file}, and nothing is left of it",
            do="Make room or use another disk; what can't be read should belong to the service's user",
        ) from error
    _tell(runner, file, manifest)


@dataclass
class _Part:
    """A folder that goes into the archive.

    Attributes:
        top: Its name in there.
        folder: Where it is.
        role: Whose state it is; None for the settings.
        told: Files that were said to be left out.
    """

    top: str
    folder: Path
    role: Role | None
    told: set[str] = field(default_factory=set)

    def files(self) -> Iterator[str]:
        """Paths below the folder that belong into a backup; links lead elsewhere, and are left out."""
        for name, folders, files in os.walk(self.folder, onerror=_unless_gone):
            folders.sort()
            below = Path(name).relative_to(self.folder)
            for each in sorted(files):
                path = (below / each).as_posix()
                left_out = _LEFT_OUT if self.role else _OLD_SETTINGS
                if not left_out.fullmatch(path) and stat.S_ISREG(_mode(self.folder / path)):
                    yield path


class _Backup:
    """One run."""

    def __init__(self, runner: Runner, parts: list[_Part], staging: Path) -> None:
        self._runner, self._parts, self._staging = runner, parts, staging
        self._shown_bytes = 0

    def write(self, target: BinaryIO, roles: tuple[Role, ...]) -> Manifest:
        created = datetime.now(UTC)
        forgotten = [_forgotten(part) for part in self._parts]
        names = [f"{part.top}/{path}" for part in self._parts for path in _listed(part)]
        archive = ArchiveWriter(target, manifest_bytes=room_for(names))
        self._runner.say(f"Backing up {len(names):,} files ...")
        self._add_files(archive)
        mark = archive.mark()
        for _ in range(_TRIES):
            archive.rewind(mark)
            noted = self._deletions()
            self._blank_gone(archive)
            self._add_databases(archive)
            self._add_files(archive)
            if self._deletions() == noted:
                break
        else:
            raise InstallError(
                "Frames were deleted again and again while the backup ran",
                means="It was not made",
                do="Run the same command again when nobody deletes",
            )
        if [_forgotten(part) for part in self._parts] != forgotten:
            raise InstallError("This camera was forgotten meanwhile", means="No backup was made")
        return archive.finish(sitecam=__version__, roles=roles, created_utc=f"{created:%Y-%m-%dT%H:%M:%SZ}")

    def _add_files(self, archive: ArchiveWriter) -> None:
        """Everything but databases that isn't in the archive yet."""
        there = archive.paths
        for part in self._parts:
            for path in _listed(part):
                name = f"{part.top}/{path}"
                if name in there or (part.role and _DATABASE.fullmatch(path)):
                    continue
                if not fits(name):
                    self._tell_left_out(part, path)
                    continue
                source = _open(part, path)
                if source is None:
                    continue  # it vanished since it was listed
                with source:
                    found = os.fstat(source.fileno())
                    owner = f"{part.role}:{part.role}" if part.role else self._names(found)
                    archive.add(name, source, mode=stat.S_IMODE(found.st_mode) & 0o777, owner=owner)
                self._show(found.st_size)

    def _blank_gone(self, archive: ArchiveWriter) -> None:
        there = archive.paths
        for part in self._parts:
            with owner_of(part.folder):
                gone = [
                    path
                    for path in there
                    if path.startswith(f"{part.top}/") and not _mode(part.folder / path.partition("/")[2])
                ]
            for path in gone:
                archive.blank(path)

    def _add_databases(self, archive: ArchiveWriter) -> None:
        for part in self._parts:
            paths = [path for path in _listed(part) if part.role and _DATABASE.fullmatch(path)]
            for path in sorted(paths, key=lambda path: (path not in _FIRST, path)):
                copy = self._staging / "copy"
                _copy_database(part, path, copy)
                with copy.open("rb") as source:
                    archive.add(f"{part.top}/{path}", source, mode=0o600, owner=f"{part.role}:{part.role}")
                self._show(copy.stat().st_size)
                copy.unlink()

    def _deletions(self) -> list[tuple[int, int]]:
        """How many deletions every store has noted, and finished."""
        return [_deletions(part) for part in self._parts if part.role and _mode(part.folder / _STORE)]

    def _names(self, found: os.stat_result) -> str:
        """Owner and group of a settings file, as names that mean the same on another machine."""
        states = [(part.role, part.folder.stat()) for part in self._parts if part.role]
        user = next((role for role, state in states if state.st_uid == found.st_uid != 0), "root")
        group = next((role for role, state in states if state.st_gid == found.st_gid != 0), "root")
        return f"{user}:{group}"

    def _show(self, size_bytes: int) -> None:
        before = self._shown_bytes // _SHOWN_BYTES
        self._shown_bytes += size_bytes
        if self._shown_bytes // _SHOWN_BYTES > before:
            self._runner.show(f"  {self._shown_bytes >> 20:,} MB so far")

    def _tell_left_out(self, part: _Part, path: str) -> None:
        if path not in part.told:
            part.told.add(path)
            self._runner.say(f"note: {path[:80]!r} in {part.folder} was left out: no backup can hold such a name")


def _check_target(layout: Layout, file: Path) -> None:
    folder = file.parent.resolve()
    if not folder.is_dir() or file.exists() or file.is_symlink():
        raise codes.failure(
            codes.WRONG_CALL,
            f"{file} is there already" if folder.is_dir() else f"There is no folder {folder}",
            means="No backup was made",
            do="Name a file that isn't there yet, in a folder that is",
        )
    ours = (layout.state("camera"), layout.state("server"), layout.settings, layout.opt)
    if any(folder == each.resolve() or each.resolve() in folder.parents for each in ours):
        raise codes.failure(
            codes.WRONG_CALL,
            f"{folder} belongs to Sitecam itself",
            means="A backup there would go with what it is to save, and be in the next one",
            do="Name a file elsewhere, best on another disk",
        )


def _check_room(parts: list[_Part], file: Path) -> None:
    sizes = [_size(part.folder / path) for part in parts for path in _listed(part)]
    databases = [_size(part.folder / path) for part in parts for path in _listed(part) if _DATABASE.fullmatch(path)]
    wanted = sum(sizes) + len(sizes) * 1024 + max(databases, default=0) + _SPARE_BYTES
    free = shutil.disk_usage(file.parent).free
    if wanted > free:
        raise codes.failure(
            codes.REFUSED,
            f"The backup takes up to {wanted >> 20:,} MB, and {file.parent} has {free >> 20:,} MB left",
            means="It was not made",
            do="Make room, or use another disk",
        )


def _sweep(file: Path) -> None:
    """Remove what a killed backup to this very file left: it holds keys and pictures."""
    for left in file.parent.iterdir():
        if not re.fullmatch(re.escape(f".{file.name}.") + r"[0-9a-z_]{8}\.tmp", left.name):
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()


def _tell(runner: Runner, file: Path, manifest: Manifest) -> None:
    kept = [entry for entry in manifest.files if not entry.path.startswith(GONE)]
    pictures = sum(1 for entry in kept if entry.path.endswith(".jpg"))
    databases = sum(1 for entry in kept if _DATABASE.fullmatch(entry.path))
    runner.say(
        f"{file}: {' and '.join(manifest.roles)}, {file.stat().st_size / 1e6:,.1f} MB, {len(kept):,} files, of them"
        f" {pictures:,} pictures and {databases} databases."
    )
    runner.say(
        "It holds pictures of people, and this machine's private keys: who has it can be this machine. It is not"
        " encrypted. Keep it on the site, where nobody else gets at it, and delete old ones: what is deleted on the"
        " machine from now on stays in this file."
    )


def _listed(part: _Part) -> list[str]:
    if not part.folder.is_dir() or part.folder.is_symlink():
        raise codes.failure(codes.FAILED, f"{part.folder} isn't there", do="Finish the installation: run install.sh")
    with owner_of(part.folder):
        return list(part.files())


def _open(part: _Part, path: str) -> BinaryIO | None:
    """A file to read; None where it isn't one, or isn't there any more."""
    with owner_of(part.folder):
        try:
            descriptor = os.open(part.folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")


def _copy_database(part: _Part, path: str, copy: Path) -> None:
    """A consistent copy, by SQLite itself; writers go on meanwhile.

    Raises:
        InstallError: The database can't be read, or is damaged.
    """
    try:
        with closing(_connect(part.folder, path)) as source, closing(sqlite3.connect(copy)) as target:
            target.execute("PRAGMA locking_mode = EXCLUSIVE")  # no -shm: not every USB stick can hold one
            source.backup(target)  # in one step: in several it would begin anew with every write
            target.execute("PRAGMA journal_mode = DELETE")  # one file; whoever opens it sets what it needs
            (sound,) = target.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        sound = str(error)
    if sound != "ok":
        raise _unreadable(part.folder / path, sound)


def _unreadable(path: Path, why: str) -> InstallError:
    return InstallError(
        f"{path} can't be copied ({why})",
        means="No backup was made",
        do="If it is locked, wait and try again; if it is damaged, sudo sitecam doctor says more",
    )


def _connect(folder: Path, path: str) -> sqlite3.Connection:
    """A connection that reads; opened as the folder's owner, so that what SQLite makes beside the file is its own."""
    with owner_of(folder):
        database = sqlite3.connect(f"{(folder / path).absolute().as_uri()}?mode=rw", uri=True, timeout=60)
        try:
            database.execute("PRAGMA query_only = ON")
            database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()  # now its files are open
        except BaseException:
            database.close()
            raise
    return database


def _deletions(part: _Part) -> tuple[int, int]:
    try:
        with closing(_connect(part.folder, _STORE)) as store:
            if not store.execute("SELECT 1 FROM sqlite_master WHERE name = 'deletions'").fetchone():
                return 0, 0  # of a release that knew none
            noted, done = store.execute("SELECT COUNT(*), COALESCE(SUM(done), 0) FROM deletions").fetchone()
    except sqlite3.Error as error:
        raise _unreadable(part.folder / _STORE, str(error)) from error
    return int(noted), int(done)


def _forgotten(part: _Part) -> bytes:
    """The proof of the last forgetting.

    Raises:
        InstallError: The camera is being forgotten right now.
    """
    if part.role is None:
        return b""
    if _mode(part.folder / _FORGETTING):
        raise codes.failure(codes.REFUSED, "This camera is being forgotten", means="No backup is made of it")
    source = _open(part, _FORGOTTEN)
    if source is None:
        return b""
    with source:
        return source.read()


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
