"""The JPEG files beside the store's database: frames/<2 hex digits>/<id>.jpg, and <id>.small.jpg for grids."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from appliance.errors import StoreError
from appliance.files import read_no_link
from appliance.store.locks import held
from appliance.store.thumbnails import small_jpeg, whole

logger = logging.getLogger(__name__)

_ID = re.compile(r"[0-9a-f]{32}")
_ID_DIGITS = 32
_PICTURE, _SMALL = ".jpg", ".small.jpg"
_PRIVATE = 0o600  # pictures of people: the other users of this machine have no business with them


def checked(frame_id: str) -> str:
    """The id, if it is one: ids become file names, so nothing else may pass.

    Raises:
        StoreError: It is not 32 lower-case hex digits.
    """
    if not _ID.fullmatch(frame_id):
        raise StoreError(f"{frame_id[:60]!r} is not a frame's id", do="Use an id that the store gave")
    return frame_id


class PictureFiles:
    """A store's picture files. Safe for several threads and processes.

    Args:
        root: The store's folder.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / "frames"
        self._incoming = root / "incoming"
        self._lock = threading.Lock()
        self._thumbnail_bytes = 0
        for folder in (self._folder, self._incoming):
            folder.mkdir(exist_ok=True)

    @property
    def thumbnail_bytes(self) -> int:
        """What all thumbnails take, as the last sweep found it and this process went on counting."""
        with self._lock:
            return self._thumbnail_bytes

    def any(self) -> bool:
        """Is there a picture at all?"""
        return next(self._folder.glob("*/*.jpg"), None) is not None

    def size_bytes(self, frame_id: str) -> int:
        """Of a frame's file; 0 where it is gone."""
        try:
            return self._path(frame_id).stat().st_size
        except FileNotFoundError:
            return 0

    def path(self, frame_id: str) -> Path:
        """Where a frame's file is."""
        return self._path(frame_id)

    def read(self, frame_id: str) -> bytes:
        """A frame's file.

        Raises:
            StoreError: It is gone.
        """
        try:
            return read_no_link(self._path(frame_id))
        except OSError as error:
            raise StoreError(
                f"The picture of frame {frame_id} can't be read ({error.strerror})",
                means="Its row is there, its file is not: somebody deleted it, or the disk is failing",
                do="Check the disk; delete the frame if its file is gone for good",
            ) from error

    def writing(self) -> AbstractContextManager[None]:
        """While a writer is between a frame's file and its row: no sweep takes the file for an orphan."""
        return held(self._incoming, fcntl.LOCK_SH)

    def keep(self, frame_id: str, jpeg: bytes | Path) -> None:
        """Make ``jpeg`` the frame's file: written, or, where it is a file in :meth:`incoming`, moved.

        It is safe from a power cut after :meth:`sync`.

        Raises:
            OSError: The disk refused.
        """
        path = self._path(frame_id)
        path.parent.mkdir(exist_ok=True)
        if isinstance(jpeg, Path):
            jpeg.chmod(_PRIVATE)
            jpeg.rename(path)
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(jpeg)

    def sync(self) -> None:
        """Make everything that was kept or removed survive a power cut; one pass, however many files that was.

        syncfs(2): a file system writes its books once for all of them, not once for each.

        Raises:
            OSError: The disk refused.
        """
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _LIBC.syncfs(descriptor):
                error = ctypes.get_errno()
                raise OSError(error, os.strerror(error), str(self._folder))
        finally:
            os.close(descriptor)

    def thumbnail(self, frame_id: str) -> bytes:
        """A JPEG, at most 320 pixels wide; made at the first call, read from its file from then on.

        After making one, ask whether the frame is still there, and :meth:`remove` it if not. On a full disk it is
        made every time.

        Raises:
            StoreError: The picture is gone.
            PictureError: It is damaged.
        """
        path = self._path(frame_id, _SMALL)
        try:
            data = path.read_bytes()
            if whole(data):
                return data
        except FileNotFoundError:
            pass  # the first time
        data = small_jpeg(self.read(frame_id), name=f"frame {frame_id}")
        temporary = path.with_name(f".{path.name}.{threading.get_ident():x}.tmp")
        try:
            temporary.write_bytes(data)
            temporary.chmod(_PRIVATE)
            with self._lock:
                self._thumbnail_bytes += len(data) - _size(path)
                temporary.rename(path)
        except OSError as error:
            logger.warning("A thumbnail could not be kept: %s", error)
            temporary.unlink(missing_ok=True)
        return data

    def remove(self, frame_ids: Collection[str]) -> None:
        """Delete frames' files, thumbnails too; those that aren't there are no error."""
        for frame_id in frame_ids:
            self._path(frame_id).unlink(missing_ok=True)
            self._remove_small(self._path(frame_id, _SMALL))

    def drop_thumbnails(self) -> None:
        """Delete all of them; they are made again when somebody looks."""
        for path in self._folder.glob(f"*/*{_SMALL}"):
            self._remove_small(path)

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A folder on the same disk, for what an import prepares. It is gone afterwards."""
        with held(self._incoming, fcntl.LOCK_SH), tempfile.TemporaryDirectory(dir=self._incoming) as folder:
            yield Path(folder)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether nobody is :meth:`writing`; while this lasts, nobody begins to."""
        try:
            with held(self._incoming, fcntl.LOCK_EX | fcntl.LOCK_NB):
                yield True
        except BlockingIOError:
            yield False

    def sweep(self, known: Collection[str]) -> int:
        """Delete what killed writers left: pictures and thumbnails of no known frame, dead imports' folders.

        Only while :meth:`alone`.

        Args:
            known: The ids of all frames.

        Returns:
            How many files in the frames' folders that was.
        """
        orphans, thumbnails = 0, 0
        for folder in os.scandir(self._folder):
            for entry in os.scandir(folder):
                of_frame, kind = entry.name[:_ID_DIGITS], entry.name[_ID_DIGITS:]
                if of_frame in known and kind in (_PICTURE, _SMALL):
                    thumbnails += entry.stat().st_size if kind == _SMALL else 0
                elif entry.name.endswith((_PICTURE, ".tmp")):  # whatever else lies there is not ours
                    Path(entry.path).unlink(missing_ok=True)
                    orphans += 1
        for left in self._incoming.iterdir():
            shutil.rmtree(left)
        with self._lock:
            self._thumbnail_bytes = thumbnails
        return orphans

    def _remove_small(self, path: Path) -> None:
        with self._lock:
            self._thumbnail_bytes -= _size(path)
            path.unlink(missing_ok=True)

    def _path(self, frame_id: str, kind: str = _PICTURE) -> Path:
        return self._folder / checked(frame_id)[:2] / f"{frame_id}{kind}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


_LIBC = ctypes.CDLL(None, use_errno=True)  # Python has no syncfs of its own
