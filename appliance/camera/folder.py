"""Replays a folder of pictures, or a video, as if a sensor saw them now."""

from __future__ import annotations

import logging
import random
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from appliance.errors import CameraError, CameraMissingError, CaptureTimeoutError, PictureError
from appliance.frame import Frame, Pixels
from appliance.vision import InputSpec, prepare, read_picture

logger = logging.getLogger(__name__)

CACHE_BYTES = 64 * 1024 * 1024


class FolderCamera:
    """A camera that replays files in real time.

    Frame n is due at the opening plus n / rate. Whoever comes late finds a gap in the sequence, as with a
    sensor, but the next picture is always the next file: what is shown doesn't depend on how busy the machine
    is.

    Args:
        path: A folder (searched to its bottom, hidden files left out) or a video file.
        rate_fps: Frames per second; a video's own rate doesn't count.
        loop: Start again at the end; otherwise the end is a CameraError.
        size: Width and height to fit every picture into, with black bars where its shape differs; None leaves
            each as it is.
        seed: Shuffles a folder's pictures, repeatably; None sorts them by path.
        hold_frames: Show each picture for so many frames: people can't read a decision that changes ten times a
            second.
        cache_bytes: Decoded pictures kept, so that going round costs little.
    """

    def __init__(
        self,
        path: Path,
        *,
        rate_fps: float,
        loop: bool = True,
        size: tuple[int, int] | None = None,
        seed: int | None = None,
        hold_frames: int = 1,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._path = path
        self._interval_s = 1 / rate_fps
        self._loop = loop
        self._spec = InputSpec(*size, "fit-longest") if size else None
        self._seed = seed
        self._hold_frames = hold_frames
        self._held: tuple[Pixels, int] | None = None  # a picture, and for how many more frames it stays
        self._cache_bytes = cache_bytes
        self._lock = threading.Lock()  # guards _reel: close() may come from another thread
        self._reel: _Reel | None = None
        self._closed = threading.Event()
        self._opened_at = 0.0
        self._first_sequence = 0
        self._next_sequence = 0

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return f"replay of {self._path}"

    @property
    def is_live(self) -> bool:
        """Never: its pictures come round again."""
        return False

    def open(self) -> None:
        """Find the pictures and start the clock; see :class:`appliance.camera.source.CameraSource`."""
        with self._lock:
            if self._reel is not None:
                return
            if self._path.is_dir():
                self._reel = _Pictures(self._path, self._spec, self._seed, self._cache_bytes)
            elif self._path.is_file():
                self._reel = _Video(self._path, self._spec)
            else:
                raise CameraMissingError(
                    f"There is no folder or video {self._path}",
                    means="There is nothing to replay",
                    do="Correct [camera] path in sitecam.toml",
                )
            self._closed.clear()
            self._opened_at = time.monotonic()
            self._first_sequence = self._next_sequence

    def capture(self, timeout_s: float) -> Frame:
        """Wait until the next frame is due; see :class:`appliance.camera.source.CameraSource`."""
        now = time.monotonic()
        latest_due = self._first_sequence + int((now - self._opened_at) / self._interval_s)
        sequence = max(self._next_sequence, latest_due)
        wait_s = self._opened_at + (sequence - self._first_sequence) * self._interval_s - now
        closed = self._closed.wait(max(0.0, min(wait_s, timeout_s)))
        with self._lock:
            if closed or self._reel is None:
                raise CameraError(f"The {self.name} is not open", means="No more pictures come from it")
            if wait_s > timeout_s:
                raise CaptureTimeoutError(
                    f"The {self.name} has no picture due within {timeout_s:g} s",
                    do="Raise [camera] capture_timeout_s or rate_fps in sitecam.toml",
                )
            pixels = self._next_picture(self._reel)
        if pixels is None:
            raise CameraError(
                f"The {self.name} is at its end",
                means="No more pictures come from it",
                do="Check that its files are still there, or let it loop",
            )
        self._next_sequence = sequence + 1
        return Frame(pixels, datetime.now(UTC), sequence)

    def _next_picture(self, reel: _Reel) -> Pixels | None:
        if self._held is not None:
            pixels, left = self._held
            self._held = (pixels, left - 1) if left > 1 else None
            return pixels
        fresh = reel.next()
        if fresh is None and self._loop:
            reel.rewind()
            fresh = reel.next()
        if fresh is not None and self._hold_frames > 1:
            self._held = (fresh, self._hold_frames - 1)
        return fresh

    def close(self) -> None:
        """Forget the pictures; see :class:`appliance.camera.source.CameraSource`."""
        self._closed.set()
        with self._lock:
            reel, self._reel = self._reel, None
            self._held = None
            if reel is not None:
                reel.close()


class _Reel(Protocol):
    """Pictures in their order, once through."""

    def next(self) -> Pixels | None:
        """The next picture; None at the end."""

    def rewind(self) -> None:
        """Start again."""

    def close(self) -> None:
        """Let go of files and memory."""


class _Pictures:
    def __init__(self, folder: Path, spec: InputSpec | None, seed: int | None, cache_bytes: int) -> None:
        self._spec = spec
        self._cache: dict[Path, Pixels] = {}
        self._room_bytes = cache_bytes
        self._position = 0
        try:
            self._paths = sorted(path for path in folder.rglob("*") if _is_shown(path, folder))
        except OSError as error:
            raise CameraMissingError(
                f"The folder {folder} can't be read ({error.strerror})", do="Check its permissions"
            ) from error
        if seed is not None:
            random.Random(seed).shuffle(self._paths)  # noqa: S311  # an order, not a secret
        if self.next() is None:
            raise CameraMissingError(
                f"The folder {folder} holds no picture that can be read",
                means="There is nothing to replay",
                do="Put JPEG, PNG, WebP or BMP files there, or correct [camera] path in sitecam.toml",
            )
        self.rewind()

    def next(self) -> Pixels | None:
        while self._position < len(self._paths):
            path = self._paths[self._position]
            try:
                pixels = self._picture(path)
            except PictureError as error:
                logger.warning("Left out of the replay: %s", error)
                del self._paths[self._position]
                continue
            self._position += 1
            return pixels
        return None

    def rewind(self) -> None:
        self._position = 0

    def close(self) -> None:
        self._cache.clear()

    def _picture(self, path: Path) -> Pixels:
        if path in self._cache:
            return self._cache[path]
        pixels = _fitted(read_picture(path), self._spec)
        # Nothing is ever pushed out: in a replay that goes round, the oldest picture is the next one wanted.
        if pixels.nbytes <= self._room_bytes:
            self._room_bytes -= pixels.nbytes
            pixels.setflags(write=False)  # every round shows this same array
            self._cache[path] = pixels
        return pixels


class _Video:
    def __init__(self, path: Path, spec: InputSpec | None) -> None:
        self._path = path
        self._spec = spec
        self._capture: Any = None
        self.rewind()
        if self.next() is None:
            self.close()
            raise CameraMissingError(
                f"{path} is not a video that can be read",
                means="There is nothing to replay",
                do="Give a folder of pictures or a video that OpenCV plays, such as MP4 or AVI",
            )
        self.rewind()

    def next(self) -> Pixels | None:
        read, bgr = self._capture.read()
        return _fitted(np.ascontiguousarray(bgr[:, :, ::-1]), self._spec) if read else None

    def rewind(self) -> None:
        import cv2  # a folder of pictures does without it

        self.close()
        self._capture = cv2.VideoCapture(str(self._path))

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()


def _is_shown(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and path.is_file()


def _fitted(pixels: Pixels, spec: InputSpec | None) -> Pixels:
    return pixels if spec is None else prepare(pixels, spec)
