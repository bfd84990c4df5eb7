"""The Pi's own camera, through picamera2.

Configured once, for life: a main stream for people and a small one, made by the ISP, for the model. Both are
NV12, the one format that every Pi's pipeline (and libcamera's virtual camera) makes. libcamera changes what
it can't do without a word, so the configuration is read back.

A stalled sensor raises nothing: it just never delivers. So a capture is a job that we wait for with a
timeout. A job that is late stays in picamera2's queue, and would keep its buffer for ever if nobody took its
result; so the next capture waits for that same job instead of asking again.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from appliance.errors import CameraError, CameraMissingError, CaptureTimeoutError
from appliance.frame import Frame, Pixels

logger = logging.getLogger(__name__)

FORMAT = "NV12"
SMALL_HEIGHT = 240  # a square model of up to 240 pixels never has to enlarge it
_BUFFERS = 4  # one being shown, one being filled, one in our hands, one to spare


@dataclass(frozen=True)
class Nv12Layout:
    """How a stream's buffer is laid out, as read back from libcamera.

    Attributes:
        width: Pixels.
        height: Pixels.
        stride: Bytes from one row to the next; at least ``width``.
    """

    width: int
    height: int
    stride: int


def nv12_to_rgb(buffer: Pixels, layout: Nv12Layout) -> Pixels:
    """Convert one NV12 picture (BT.601, limited range).

    Args:
        buffer: uint8 [at least stride * height * 3 / 2]: rows of Y, then rows of interleaved U and V.
        layout: Where the rows are.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        CameraError: The buffer is too short for that.
    """
    rows, stride = layout.height, layout.stride
    if buffer.size < stride * rows * 3 // 2:
        raise CameraError(
            f"The camera sent {buffer.size} bytes for a picture of {layout.width} x {layout.height}",
            means="That picture can't be used",
            do="If this repeats, restart the camera service",
        )
    import cv2  # here: where it can't be imported, other commands and the doctor still can

    luma = buffer[: stride * rows].reshape(rows, stride)[:, : layout.width]
    chroma = buffer[stride * rows : stride * rows * 3 // 2].reshape(rows // 2, stride // 2, 2)
    chroma = chroma[:, : layout.width // 2]
    return np.asarray(cv2.cvtColorTwoPlane(luma, chroma, cv2.COLOR_YUV2RGB_NV12), dtype=np.uint8)


class PiCamera:
    """A camera on the Pi's ribbon cable.

    Args:
        size: Width and height of the picture for people, pixels; both even.
        rate_fps: Frames per second asked of the sensor.
        number: Which camera, where there are two.
        close_deadline_s: A driver that hasn't let go by then is left behind.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (1280, 960),
        rate_fps: float = 10.0,
        number: int = 0,
        close_deadline_s: float = 5.0,
    ) -> None:
        self._size = size
        self._rate_fps = rate_fps
        self._number = number
        self._close_deadline_s = close_deadline_s
        self._lock = threading.Lock()  # guards _camera
        self._reading = threading.Lock()  # held while a buffer is read: closing the camera would unmap it
        self._camera: Any = None
        self._letting_go: threading.Thread | None = None
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()  # finished jobs; None says "closed"
        self._asked = False
        self._layouts: dict[str, Nv12Layout] = {}
        self._next_sequence = 0
        self._offset: int | None = None  # from the driver's count, which may start anywhere, to ours

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return f"Pi camera {self._number}"

    @property
    def is_live(self) -> bool:
        """Always: the noise of a sensor makes every picture another."""
        return True

    def open(self) -> None:
        """Configure and start the camera; see :class:`appliance.camera.source.CameraSource`."""
        with self._lock:
            if self._camera is not None:
                return
            letting_go = self._letting_go
        if letting_go is not None and letting_go.is_alive():
            # Not asked again: a second Picamera2 on a stuck driver may hang in its constructor for ever.
            raise CameraMissingError(
                f"{self.name} can't be opened: its driver has not let go since it was closed",
                means="There are no pictures from it until the driver does, or this service starts afresh",
                do="It starts afresh by itself; if that doesn't help, switch the Pi off and on",
            )
        camera_class, colour_space = _driver()
        try:
            camera = camera_class(self._number)
        except Exception as error:  # picamera2 raises RuntimeError, IndexError and what libcamera raises
            raise CameraMissingError(
                f"{self.name} can't be opened ({error.__cause__ or error})",
                means="There are no pictures from it",
                do="Check the ribbon cable, that no other program uses the camera, and that "
                "`rpicam-hello --list-cameras` lists it",
            ) from error
        try:
            self._layouts = self._configure(camera, colour_space)
            camera.start()
        except Exception as error:
            self._let_go(camera, queue.SimpleQueue())
            if isinstance(error, CameraError):
                raise
            raise self._failed("would not start", error) from error
        with self._lock:
            self._done, self._asked, self._offset = queue.SimpleQueue(), False, None
            self._camera = camera

    def capture(self, timeout_s: float) -> Frame:
        """Wait for the next frame; see :class:`appliance.camera.source.CameraSource`."""
        with self._lock:
            camera, done = self._camera, self._done
        if camera is None:
            raise CameraError(f"{self.name} is not open", do="Open it first")
        try:
            if not self._asked:
                camera.capture_request(wait=False, signal_function=done.put)
                self._asked = True
            job = done.get(timeout=timeout_s)
        except queue.Empty:
            raise CaptureTimeoutError(
                f"{self.name} sent no picture within {timeout_s:g} s",
                means="The sensor stalled, or its cable is loose",
                do="The camera is opened again by itself; if this repeats, check the ribbon cable",
            ) from None
        except Exception as error:
            raise self._failed("stopped", error) from error
        if job is None:
            raise CameraError(f"{self.name} was closed", means="No more pictures come from it")
        self._asked = False
        return self._read(job)

    def close(self) -> None:
        """Stop the camera; see :class:`appliance.camera.source.CameraSource`."""
        with self._lock:
            camera, self._camera = self._camera, None
            done = self._done
        if camera is not None:
            done.put(None)
            self._let_go(camera, done)

    def _configure(self, camera: Any, colour_space: Any) -> dict[str, Nv12Layout]:
        width, height = self._size
        small = (max(2, round(SMALL_HEIGHT * width / height / 2) * 2), SMALL_HEIGHT)
        if height <= SMALL_HEIGHT:
            small = self._size
        duration_us = round(1_000_000 / self._rate_fps)
        controls = {"FrameDurationLimits": (duration_us, duration_us)}
        camera.configure(
            camera.create_video_configuration(
                main={"format": FORMAT, "size": self._size},
                lores={"format": FORMAT, "size": small},
                raw=None,  # nobody reads it, and its buffers are the largest
                colour_space=colour_space,
                buffer_count=_BUFFERS,
                controls={key: value for key, value in controls.items() if key in camera.camera_controls},
            )
        )
        made = camera.camera_configuration()
        return {stream: _layout(stream, made[stream]) for stream in ("main", "lores")}

    def _read(self, job: Any) -> Frame:
        with self._reading:
            try:
                request = job.get_result(timeout=0)
            except Exception as error:
                raise self._failed("stopped", error) from error
            try:
                sequence = self._count(int(request.request.sequence))
                taken_utc = _taken_utc(request.get_metadata().get("SensorTimestamp"))
                pictures = {
                    stream: nv12_to_rgb(request.make_buffer(stream), layout) for stream, layout in self._layouts.items()
                }
            except CameraError:
                raise
            except Exception as error:
                raise self._failed("sent a picture that can't be read", error) from error
            finally:
                request.release()
        return Frame(pictures["main"], taken_utc, sequence, small=pictures["lores"])

    def _count(self, driver_sequence: int) -> int:
        if self._offset is None:
            self._offset = self._next_sequence - driver_sequence
        sequence = driver_sequence + self._offset
        self._next_sequence = sequence + 1
        return sequence

    def _let_go(self, camera: Any, done: queue.SimpleQueue[Any]) -> None:
        """Close the camera in a thread of its own, because a stalled driver may never return.

        A picture that came in that moment is in ``done``, where nobody looks any more; its buffer is given back.
        """

        def work() -> None:
            with self._reading:
                try:
                    # Not stop(): it queues behind a capture that never ends; close() doesn't.
                    camera.close()
                    for job in _taken_out(done):
                        job.get_result(timeout=0).release()
                except Exception:
                    logger.exception("%s did not close cleanly", self.name)

        thread = threading.Thread(target=work, name="picamera-close", daemon=True)
        with self._lock:
            self._letting_go = thread
        thread.start()
        thread.join(self._close_deadline_s)
        if thread.is_alive():
            logger.error(
                "%s did not let go within %g s; it can't be opened again until this service restarts",
                self.name,
                self._close_deadline_s,
            )

    def _failed(self, what: str, error: Exception) -> CameraError:
        return CameraError(
            f"{self.name} {what} ({error!r})",
            means="There are no pictures from it for now",
            do="It is opened again by itself; if this repeats, check the ribbon cable",
        )


def _taken_out(done: queue.SimpleQueue[Any]) -> list[Any]:
    """Take the finished jobs out, and leave the word that the camera was closed."""
    jobs = []
    try:
        while True:
            jobs.append(done.get_nowait())
    except queue.Empty:
        done.put(None)
    return [job for job in jobs if job is not None]


def _driver() -> tuple[Any, Any]:
    """picamera2's class, and the colour space that :func:`nv12_to_rgb` understands."""
    try:
        import libcamera
        from picamera2 import Picamera2
    except (ImportError, ValueError) as error:  # ValueError: built for another numpy than this environment's
        raise CameraMissingError(
            f"picamera2 can't be imported ({error})",
            means="The Pi's own camera can't be used from this Python",
            do="Install it with `sudo apt install python3-picamera2`; a venv sees it only if it was made "
            "with --system-site-packages, and must keep apt's numpy",
        ) from error
    return Picamera2, libcamera.ColorSpace.Smpte170m()


def _layout(stream: str, made: dict[str, Any]) -> Nv12Layout:
    """Check what libcamera made of a stream."""
    if made["format"] != FORMAT:
        raise CameraError(
            f"The camera's {stream} stream is {made['format']}, not {FORMAT}",
            means="Its driver changed the format without saying so, and the colours would be wrong",
            do="Update Raspberry Pi OS; if that doesn't help, report this camera's model",
        )
    width, height = made["size"]
    return Nv12Layout(int(width), int(height), int(made["stride"]))


def _taken_utc(sensor_ns: int | None) -> datetime:
    """When a frame was taken, from the sensor's CLOCK_BOOTTIME nanoseconds; now, where it doesn't say."""
    now = datetime.now(UTC)
    if sensor_ns is None:
        return now
    age_ns = max(0, time.clock_gettime_ns(time.CLOCK_BOOTTIME) - sensor_ns)
    return now - timedelta(microseconds=age_ns / 1000)
