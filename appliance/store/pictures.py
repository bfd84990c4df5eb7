"""The JPEG files beside the store's database, one per frame: frames/<2 hex digits>/<id>.jpg."""

from __future__ import annotations

import fcntl
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from appliance.errors import StoreError
from appliance.files import sync_folder, write_atomically
from appliance.store.locks import held

_ID = re.compile(r"[0-9a-f]{32}")
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
    """A store's picture files.

    Args:
        root: The store's folder.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / "frames"
        self._incoming = root / "incoming"
        for folder in (self._folder, self._incoming):
            folder.mkdir(exist_ok=True)

    def any(self) -> bool:
        """Is there a picture at all?"""
        return next(self._folder.glob("*/*.jpg"), None) is not None

    def read(self, frame_id: str) -> bytes:
        """A frame's file.

        Raises:
            StoreError: It is gone.
        """
        try:
            return self._path(frame_id).read_bytes()
        except OSError as error:
            raise StoreError(
                f"The picture of frame {frame_id} can't be read ({error.strerror})",
                means="Its row is there, its file is not: somebody deleted it, or the disk is failing",
                do="Check the disk; delete the frame if its file is gone for good",
            ) from error

    def keep(self, frame_id: str, jpeg: bytes | Path) -> None:
        """Make ``jpeg`` the frame's file: written and synced, or, where it is a file in :meth:`incoming`, moved.

        A moved file is safe from a power cut after :meth:`sync`.

        Raises:
            OSError: The disk refused.
        """
        path = self._path(frame_id)
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            sync_folder(self._folder)
        if isinstance(jpeg, bytes):
            write_atomically(path, jpeg, mode=_PRIVATE)
        else:
            jpeg.chmod(_PRIVATE)
            jpeg.rename(path)

    def sync(self, frame_ids: Collection[str]) -> None:
        """Make moves of these frames' files survive a power cut; each folder costs one sync, not each file."""
        for folder in {self._path(frame_id).parent for frame_id in frame_ids}:
            sync_folder(folder)

    def remove(self, frame_id: str) -> None:
        """Delete a frame's file, for good; one that isn't there is no error."""
        path = self._path(frame_id)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_folder(path.parent)

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A folder on the same disk, for what an import prepares. It is gone afterwards."""
        with held(self._incoming, fcntl.LOCK_SH), tempfile.TemporaryDirectory(dir=self._incoming) as folder:
            yield Path(folder)

    def sweep(self, known: Collection[str]) -> int:
        """Delete what killed writers left: half-written files, pictures of no known frame, dead imports' folders.

        Only inside the store's write transaction: then no living writer is between its file and its row.

        Returns:
            How many pictures and half-written files that was.
        """
        orphans = [
            path
            for path in self._folder.glob("*/*")
            if path.suffix == ".tmp" or (path.suffix == ".jpg" and path.stem not in known)
        ]
        for path in orphans:
            path.unlink(missing_ok=True)
        try:
            with held(self._incoming, fcntl.LOCK_EX | fcntl.LOCK_NB):
                for left in self._incoming.iterdir():
                    shutil.rmtree(left)
        except BlockingIOError:
            pass  # an import is running, and cleans up after itself
        return len(orphans)

    def _path(self, frame_id: str) -> Path:
        return self._folder / checked(frame_id)[:2] / f"{frame_id}.jpg"
