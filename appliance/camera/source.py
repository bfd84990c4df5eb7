"""The seam to the sensor: what every source of frames promises."""

from __future__ import annotations

from typing import Protocol

from appliance.frame import Frame


class CameraSource(Protocol):
    """Somewhere that frames come from.

    ``open`` and ``capture`` belong to one thread; ``close`` may be called from any. A source may be opened
    again after it was closed, and goes on counting where it was.
    """

    @property
    def name(self) -> str:
        """What to call it in messages."""

    @property
    def is_live(self) -> bool:
        """A sensor sees the world now, and no two of its pictures are identical; a replay may repeat itself."""

    def open(self) -> None:
        """Get ready for :meth:`capture`. An open source stays as it is.

        Raises:
            CameraMissingError: The camera, its driver or its files aren't there.
            CameraError: They are, but don't work.
        """

    def capture(self, timeout_s: float) -> Frame:
        """Wait for the next frame.

        ``Frame.sequence`` rises by one per captured frame of this source; a source that had to skip frames,
        because nobody took them in time, leaves a gap. ``Frame.taken_utc`` is timezone-aware UTC.
        ``Frame.pixels`` and ``Frame.small`` are uint8 [height, width, 3], RGB, and may be shared and
        read-only: copy them before you draw on them.

        Args:
            timeout_s: How long to wait.

        Raises:
            CaptureTimeoutError: No frame came in time. The source is still open and may be asked again.
            CameraError: It isn't open, was closed meanwhile, or failed.
        """

    def close(self) -> None:
        """Let go of the camera; a capture that waits in another thread ends with a CameraError.

        Closing a closed source does nothing. Never raises: what goes wrong is logged.
        """
