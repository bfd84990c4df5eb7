"""A backup's file: a plain tar of regular files, and first in it a manifest that says what they are, byte for byte.

Any tar program can unpack it. Ours reads it without one: what it expects at every place follows from the manifest, so
a file that differs in one byte from what a backup writes is refused, and nothing in it is ever interpreted.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, get_args

from appliance.errors import InstallError
from appliance.installing import codes
from appliance.installing.layout import Role

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
GONE: Final = "gone/"  # what vanished while the backup ran: its place is there, its name and content are not

_ROLES: tuple[Role, ...] = get_args(Role)
_OWNERS = frozenset({"root", *_ROLES})
_BLOCK = 512
_CHUNK = 1 << 20
_END = 2 * _BLOCK  # a tar ends with two empty blocks
_MOST_MANIFEST_BYTES = 128 << 20
_MOST_FILES = 500_000
_MOST_BYTES = 8**11 - 1  # of one file: a tar header's eleven octal digits
_NAME_BYTES, _PREFIX_BYTES = 100, 155  # of a path in a tar header
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]{1,6}(\.[0-9A-Za-z]{1,20}){0,5}")
_UTC = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in the archive.

    Attributes:
        path: ``settings/...``, or a role and a path below its state folder.
        size_bytes: Of its content.
        mode: Permission bits.
        owner: ``root`` or a role, whose user is meant; user and group, with a colon between.
        sha256: Of its content.
    """

    path: str
    size_bytes: int
    mode: int
    owner: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an archive holds.

    Attributes:
        sitecam: The version that made it.
        roles: Of the machine that it was made on.
        created_utc: When, ISO 8601.
        files: In the order in which they lie in it.
    """

    sitecam: str
    roles: tuple[Role, ...]
    created_utc: str
    files: tuple[Entry, ...]

    def below(self, top: str) -> list[Entry]:
        """The files below ``settings`` or a role."""
        return [entry for entry in self.files if entry.path.startswith(f"{top}/")]

    def to_bytes(self) -> bytes:
        """JSON, a line for each file."""
        head = {"format": FORMAT, "sitecam": self.sitecam, "created_utc": self.created_utc, "roles": self.roles}
        lines = ",\n".join(_line(entry) for entry in self.files)
        return f'{json.dumps(head)[:-1]}, "files": [\n{lines}\n]}}\n'.encode()


class ArchiveWriter:
    """Writes an archive. The manifest's place is kept free until all else is known.

    Args:
        file: To write to and to seek in; empty.
        manifest_bytes: How much room the manifest gets.
    """

    def __init__(self, file: BinaryIO, *, manifest_bytes: int) -> None:
        self._file = file
        self._manifest_bytes = manifest_bytes
        self._entries: list[tuple[int, Entry]] = []
        self._end = _BLOCK + _padded(manifest_bytes)
        file.seek(self._end)

    @property
    def paths(self) -> set[str]:
        """What is in it so far."""
        return {entry.path for _, entry in self._entries}

    def mark(self) -> int:
        """Where the archive ends now, for :meth:`rewind`."""
        return len(self._entries)

    def rewind(self, mark: int) -> None:
        """Take everything after ``mark`` out again."""
        if mark < len(self._entries):
            self._end = self._entries[mark][0]
            del self._entries[mark:]
        self._file.seek(self._end)
        self._file.truncate()

    def add(self, path: str, source: BinaryIO, *, mode: int, owner: str) -> bool:
        """Add a file as long as it is now: what is appended meanwhile is left out.

        Returns:
            False where it was cut shorter meanwhile; it is not in the archive then.

        Raises:
            OSError: The disk refused, or the file can't be read.
        """
        size = os.fstat(source.fileno()).st_size
        start, left, digest = self._end, size, hashlib.sha256()
        self._file.write(_header(path, size, mode))
        while left:
            chunk = source.read(min(_CHUNK, left))
            if not chunk:
                self._file.seek(start)
                self._file.truncate()
                return False
            self._file.write(chunk)
            digest.update(chunk)
            left -= len(chunk)
        self._file.write(bytes(_padded(size) - size))
        self._entries.append((start, Entry(path, size, mode, owner, digest.hexdigest())))
        self._end = start + _BLOCK + _padded(size)
        return True

    def blank(self, path: str) -> None:
        """Overwrite a file's name and content: it was deleted meanwhile."""
        place = next(number for number, (_, entry) in enumerate(self._entries) if entry.path == path)
        start, entry = self._entries[place]
        name, digest, left = f"{GONE}{place}", hashlib.sha256(), entry.size_bytes
        self._file.seek(start)
        self._file.write(_header(name, entry.size_bytes, 0o600))
        while left:
            zeros = bytes(min(_CHUNK, left))
            self._file.write(zeros)
            digest.update(zeros)
            left -= len(zeros)
        self._entries[place] = start, Entry(name, entry.size_bytes, 0o600, "root:root", digest.hexdigest())
        self._file.seek(self._end)

    def finish(self, *, sitecam: str, roles: tuple[Role, ...], created_utc: str) -> Manifest:
        """Write the end, then the manifest into its place.

        Raises:
            InstallError: It does not fit: many more files came while the backup ran.
            OSError: The disk refused.
        """
        manifest = Manifest(sitecam, roles, created_utc, tuple(entry for _, entry in self._entries))
        data = manifest.to_bytes()
        if len(data) > self._manifest_bytes:
            raise InstallError(
                "Too many new files came while the backup ran", means="It was not made", do="Run the same command again"
            )
        self._file.seek(self._end)
        self._file.write(bytes(_END))
        self._file.seek(0)
        self._file.write(_header(MANIFEST, self._manifest_bytes, 0o600))
        self._file.write(data.ljust(self._manifest_bytes))
        self._file.write(bytes(_padded(self._manifest_bytes) - self._manifest_bytes))
        return manifest


def room_for(paths: list[str]) -> int:
    """What to give :class:`ArchiveWriter` for a manifest of these files, and a quarter as many again."""
    longest = Entry("", _MOST_BYTES, 0o777, "server:server", "0" * 64)
    sizes = sum(len(json.dumps(path)) + len(_line(longest)) for path in paths)
    return sizes + sizes // 4 + (64 << 10)


def fits(path: str) -> bool:
    """Whether a path can stand in an archive: text that shows, and not too long."""
    return _is_plain(path) and _split(path) is not None


def open_archive(path: Path) -> BinaryIO:
    """Open an archive to read; a pipe or a device is not waited for.

    Raises:
        InstallError: It can't be read, or isn't a file. Exit code 65.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise untrusted(f"{path} can't be read ({error.strerror})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise untrusted(f"{path} isn't a file")
    return os.fdopen(descriptor, "rb")


def check(file: BinaryIO) -> Manifest:
    """Read a whole archive, and believe nothing of it before it is proven.

    Returns:
        Its manifest: every path, size and content is as it says, and nothing else is in the file.

    Raises:
        InstallError: It isn't what a backup writes. Exit code 65.
        OSError: The disk refused.
    """
    manifest = read_manifest(file)
    for _, content in contents(file, manifest):
        for _ in content:
            pass
    return manifest


def read_manifest(file: BinaryIO) -> Manifest:
    """The manifest alone, and whether the archive is as long as it must be.

    Raises:
        InstallError: It can't be what a backup wrote. Exit code 65.
    """
    file.seek(0)
    header = file.read(_BLOCK)
    digits = header[124:135]
    size = int(digits, 8) if re.fullmatch(rb"[0-7]{11}", digits) else -1
    if not 0 < size <= _MOST_MANIFEST_BYTES or header != _header(MANIFEST, size, 0o600):
        raise untrusted("The file does not begin as a backup of Sitecam does")
    whole = os.fstat(file.fileno()).st_size
    if _BLOCK + _padded(size) > whole:
        raise untrusted("The file ends within its own table of contents")
    data = file.read(size)
    if file.read(_padded(size) - size).strip(b"\0"):
        raise untrusted("There is something behind the table of contents that does not belong there")
    manifest = _manifest(data)
    expected = _BLOCK + _padded(size) + sum(_BLOCK + _padded(entry.size_bytes) for entry in manifest.files) + _END
    if whole != expected:
        raise untrusted(f"The file has {whole:,} bytes and says that it has {expected:,}: it is cut off or was changed")
    return manifest


def contents(file: BinaryIO, manifest: Manifest) -> Iterator[tuple[Entry, Iterator[bytes]]]:
    """Every file with its content, in order, right after :func:`read_manifest`. Content must be read to its end.

    Raises:
        InstallError: It isn't what the manifest says. Exit code 65.
    """
    for entry in manifest.files:
        if file.read(_BLOCK) != _header(entry.path, entry.size_bytes, entry.mode):
            raise untrusted(f"{entry.path} is not where it should be")
        yield entry, _content(file, entry)
        if file.read(_padded(entry.size_bytes) - entry.size_bytes).strip(b"\0"):
            raise untrusted(f"There is something behind {entry.path} that does not belong there")
    if file.read(_END + 1) != bytes(_END):
        raise untrusted("The file does not end as a backup of Sitecam does")


def untrusted(what: str) -> InstallError:
    """An archive that isn't used."""
    return codes.failure(
        codes.BAD_ARCHIVE, what, means="Nothing on this machine was changed", do="Use another copy, or an older backup"
    )


def _content(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    digest, left = hashlib.sha256(), entry.size_bytes
    while left:
        chunk = file.read(min(_CHUNK, left))
        if not chunk:
            raise untrusted(f"{entry.path} is cut off")
        digest.update(chunk)
        left -= len(chunk)
        yield chunk
    if digest.hexdigest() != entry.sha256:
        raise untrusted(f"{entry.path} is not what its SHA-256 says: a byte was lost or changed")


def _line(entry: Entry) -> str:
    return json.dumps([entry.path, entry.size_bytes, entry.mode, entry.owner, entry.sha256])


def _manifest(data: bytes) -> Manifest:
    try:
        body = json.loads(data)
        if body["format"] != FORMAT or type(body["format"]) is not int:
            raise untrusted(f"Its format is {body['format']!r}, and this Sitecam knows {FORMAT} only")
        version, created, roles, rows = (body[name] for name in ("sitecam", "created_utc", "roles", "files"))
        if not (_VERSION.fullmatch(version) and _UTC.fullmatch(created)):
            raise ValueError("version or time")
        if not roles or [role for role in _ROLES if role in roles] != roles:
            raise ValueError("roles")
        if not isinstance(rows, list) or len(rows) > _MOST_FILES:
            raise ValueError("no list of files, or too many")
        files = tuple(_entry(row, roles) for row in rows)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise untrusted(f"Its table of contents can't be used ({error})") from error
    _no_clash(files)
    return Manifest(version, tuple(roles), created, files)


def _entry(row: object, roles: list[Role]) -> Entry:
    if not isinstance(row, list) or [type(value) for value in row] != [str, int, int, str, str]:
        raise ValueError("a file's line")
    entry = Entry(*row)
    top = entry.path.partition("/")[0]
    if not fits(entry.path) or top not in ("settings", GONE.rstrip("/"), *roles) or "/" not in entry.path:
        raise untrusted(f"It names {entry.path[:80]!r}, which is no path of a backup")
    owners = entry.owner.split(":")
    if not 0 <= entry.size_bytes <= _MOST_BYTES or not 0 <= entry.mode <= 0o777 or len(owners) != 2:
        raise untrusted(f"{entry.path} has a size, mode or owner that no backup writes")
    if not _OWNERS.issuperset(owners) or not _SHA256.fullmatch(entry.sha256):
        raise untrusted(f"{entry.path} has an owner or a hash that no backup writes")
    return entry


def _no_clash(files: tuple[Entry, ...]) -> None:
    """No path twice, and none that is a folder of another."""
    paths = {entry.path for entry in files}
    if len(paths) != len(files):
        raise untrusted("It names a file twice")
    for path in paths:
        parts = path.split("/")
        if any("/".join(parts[:end]) in paths for end in range(1, len(parts))):
            raise untrusted(f"It names a file as the folder of {path!r}")


def _is_plain(path: str) -> bool:
    parts = path.split("/")
    return path.isprintable() and "\\" not in path and all(part not in ("", ".", "..") for part in parts)


def _split(path: str) -> tuple[bytes, bytes] | None:
    """A path as a tar header's name and prefix; None where it is too long or isn't text."""
    try:
        raw = path.encode()
    except UnicodeEncodeError:
        return None
    if len(raw) <= _NAME_BYTES:
        return raw, b""
    cut = raw.find(b"/", len(raw) - _NAME_BYTES - 1)
    return (raw[cut + 1 :], raw[:cut]) if 0 < cut <= _PREFIX_BYTES else None


def _header(path: str, size_bytes: int, mode: int) -> bytes:
    """A regular file's header: POSIX 1003.1-1990 ("ustar"), owned by 0:0, of no time."""
    split = _split(path)
    if split is None:
        raise ValueError(f"{path!r} does not fit into a tar header")
    name, prefix = split
    before = b"".join(
        (name.ljust(100, b"\0"), b"%07o\0" % mode, b"0000000\0" * 2, b"%011o\0" % size_bytes, b"%011o\0" % 0)
    )
    after = b"".join((b"0", bytes(100), b"ustar\x0000", bytes(64), b"0000000\0" * 2, prefix.ljust(155, b"\0")))
    after = after.ljust(_BLOCK - len(before) - 8, b"\0")
    checksum = sum(before) + 8 * ord(" ") + sum(after)
    return before + b"%06o\0 " % checksum + after


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // _BLOCK) * _BLOCK
