"""The live picture for any number of viewers, encoded once.

One thread encodes, and only while somebody watches. Each viewer has a mailbox for one picture; whoever takes it too
late finds a newer one there and has missed the others. So a viewer can slow down nobody but itself.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator

from appliance.frame import Frame
from appliance.vision import InputSpec, encode_jpeg, prepare
from appliance.web.source import PageSource

logger = logging.getLogger(__name__)

_LOOK_S = 0.5  # how long the encoder waits for a frame before it looks whether anybody still watches


class _Viewer:
    """A mailbox for one picture. ``put`` and ``end`` come from any thread, ``take`` from the viewer's loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._filled = asyncio.Event()
        self._picture: bytes | None = None
        self._ended = False

    def put(self, picture: bytes) -> None:
        self._call(picture, False)

    def end(self) -> None:
        self._call(None, True)

    async def take(self) -> bytes | None:
        """The newest picture not taken yet; None once the stream has ended."""
        await self._filled.wait()
        if self._ended:
            return None
        self._filled.clear()
        return self._picture

    def _call(self, picture: bytes | None, ended: bool) -> None:
        def change() -> None:
            self._picture, self._ended = picture, self._ended or ended
            self._filled.set()

        try:
            self._loop.call_soon_threadsafe(change)
        except RuntimeError:
            logger.debug("A viewer's event loop closed before it left")


class PictureStream:
    """Frames as JPEG files, for viewers.

    Args:
        source: Where frames come from.
        max_fps: Pictures per second at most.
        max_width: Wider frames are made smaller, pixels.
        quality: Of the JPEG, 1 to 95.
    """

    def __init__(self, source: PageSource, *, max_fps: float = 10.0, max_width: int = 960, quality: int = 80) -> None:
        self._source = source
        self._interval_s = 1 / max_fps
        self._max_width = max_width
        self._quality = quality
        self._changed = threading.Condition()  # guards everything below
        self._viewers: set[_Viewer] = set()
        self._last: tuple[int, bytes] | None = None  # sequence, JPEG
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    @property
    def viewers(self) -> int:
        """How many watch."""
        return len(self._viewers)

    @property
    def closing(self) -> bool:
        """Whether the server is about to end: every endless answer ends with it."""
        return self._closing.is_set()

    async def pictures(self) -> AsyncIterator[bytes]:
        """JPEG files from now on, until the server ends. Close the iterator to stop watching."""
        viewer = _Viewer()
        self._join(viewer)
        try:
            while (picture := await viewer.take()) is not None:
                yield picture
        finally:
            with self._changed:
                self._viewers.discard(viewer)

    def close(self, *, deadline_s: float = 2.0) -> None:
        """End every viewer's stream and the encoder. Closing twice does nothing."""
        with self._changed:
            self._closing.set()
            self._changed.notify_all()
            for viewer in self._viewers:
                viewer.end()
            thread = self._thread
        if thread is not None:
            thread.join(deadline_s)
            if thread.is_alive():
                logger.warning("The picture encoder did not end within %g s", deadline_s)

    def _join(self, viewer: _Viewer) -> None:
        with self._changed:
            if self._viewers and self._last is not None:
                viewer.put(self._last[1])  # others watch, so it is fresh; a stalled camera may send no other
            self._viewers.add(viewer)
            if self._closing.is_set():
                viewer.end()
            elif self._thread is None:
                self._thread = threading.Thread(target=self._work, name="page-encoder", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _work(self) -> None:
        seen = -1
        while True:
            with self._changed:
                if not self._viewers:
                    seen = -1  # whoever comes next gets the newest frame at once
                self._changed.wait_for(lambda: self._viewers or self._closing.is_set())
                if self._closing.is_set():
                    return
            started = time.monotonic()
            try:
                seen = self._show_next(seen)
            except Exception:
                logger.exception("A frame could not be shown; the next one may be")
                self._closing.wait(1.0)
            self._closing.wait(max(0.0, started + self._interval_s - time.monotonic()))

    def _show_next(self, seen: int) -> int:
        found = self._source.newest(seen, _LOOK_S)
        if found is None:
            return seen
        frame = found[0]
        if self._last is None or self._last[0] != frame.sequence:
            self._last = frame.sequence, self._encode(frame)
        with self._changed:
            for viewer in self._viewers:
                viewer.put(self._last[1])
        return frame.sequence

    def _encode(self, frame: Frame) -> bytes:
        pixels = frame.pixels
        height, width = pixels.shape[:2]
        if width > self._max_width:
            scaled = max(1, round(height * self._max_width / width))
            pixels = prepare(pixels, InputSpec(self._max_width, scaled, "squash"))
        return encode_jpeg(pixels, quality=self._quality)
