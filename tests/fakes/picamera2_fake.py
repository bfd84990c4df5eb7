"""A stand-in for picamera2 and libcamera: serves NV12 frames with padded rows, and fails as a Pi does.

It keeps what makes the real one dangerous: jobs wait in a queue behind each other, every frame needs a free
buffer, an unreleased request keeps its buffer, and formats are changed without a word.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from appliance.frame import Pixels


def rgb_to_nv12(pixels: Pixels, stride: int) -> Pixels:
    """uint8 [height, width, 3] RGB to NV12 (BT.601, limited range), rows padded with 0xAA to ``stride``."""
    red, green, blue = (pixels[:, :, channel].astype(np.float64) for channel in range(3))
    luma = 16 + 0.25679 * red + 0.50413 * green + 0.09791 * blue
    chroma = np.stack(
        [
            128 - 0.14822 * red - 0.29099 * green + 0.43922 * blue,
            128 + 0.43922 * red - 0.36779 * green - 0.07143 * blue,
        ],
        axis=-1,
    )
    height, width = luma.shape
    quarter = chroma.reshape(height // 2, 2, width // 2, 2, 2).mean(axis=(1, 3))
    buffer = np.full((height * 3 // 2, stride), 0xAA, np.uint8)
    buffer[:height, :width] = luma.round()
    buffer[height:, :width] = quarter.round().reshape(height // 2, width)
    return buffer.reshape(-1)


@dataclass
class FakeSensor:
    """What a test turns and reads.

    Attributes:
        rate_fps: Frames per second.
        colour: RGB of every picture's left half; its right half is black.
        padding: Bytes after each row.
        format: What every stream becomes, whatever was asked; None obeys.
        cut_bytes: Missing at the end of every buffer.
        missing: No camera is connected.
        hang_on_close: ``close`` waits for this event, where it is set to one.
        first_sequence: Where the driver's count starts at each opening.
    """

    rate_fps: float = 100.0
    colour: tuple[int, int, int] = (200, 60, 30)
    padding: int = 32
    format: str | None = None
    cut_bytes: int = 0
    missing: bool = False
    hang_on_close: threading.Event | None = None
    first_sequence: int = 7
    stalled: threading.Event = field(default_factory=threading.Event)
    vanished: threading.Event = field(default_factory=threading.Event)
    configurations: list[dict[str, Any]] = field(default_factory=list)
    open_cameras: int = 0
    unreleased: int = 0

    def modules(self) -> dict[str, ModuleType]:
        """``picamera2`` and ``libcamera``, for sys.modules."""
        picamera2, libcamera = ModuleType("picamera2"), ModuleType("libcamera")
        setattr(picamera2, "Picamera2", lambda number=0: FakePicamera2(self, number))  # noqa: B010
        setattr(libcamera, "ColorSpace", SimpleNamespace(Smpte170m=lambda: "smpte170m"))  # noqa: B010
        return {"picamera2": picamera2, "libcamera": libcamera}


class FakeJob:
    """picamera2's Job: a result that may come later."""

    def __init__(self, signal_function: Callable[[FakeJob], None] | None) -> None:
        self._future: Future[FakeRequest] = Future()
        self._signal_function = signal_function

    def get_result(self, timeout: float | None = None) -> FakeRequest:
        return self._future.result(timeout)

    def finish(self, request: FakeRequest) -> None:
        self._future.set_result(request)
        if self._signal_function:
            self._signal_function(self)


class FakeRequest:
    """picamera2's CompletedRequest: one frame's buffers, until it is released."""

    def __init__(self, camera: FakePicamera2, sequence: int) -> None:
        self.request = SimpleNamespace(sequence=sequence)
        self._camera = camera
        self._taken_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._released = False

    def make_buffer(self, stream: str) -> Pixels:
        assert not self._released, "its buffer belongs to the camera again"
        assert not self._camera.closed, "its buffer is unmapped"
        sensor, made = self._camera.sensor, self._camera.configuration[stream]
        width, height = made["size"]
        picture = np.zeros((height, width, 3), np.uint8)
        picture[:, : width // 2] = sensor.colour
        buffer = rgb_to_nv12(picture, made["stride"])
        return buffer[: buffer.size - sensor.cut_bytes]

    def get_metadata(self) -> dict[str, Any]:
        return {"SensorTimestamp": self._taken_ns, "ExposureTime": 10_000}

    def release(self) -> None:
        assert not self._released, "released twice"
        self._released = True
        self._camera.give_back()


class FakePicamera2:
    """picamera2's Picamera2, as much of it as Sitecam uses."""

    def __init__(self, sensor: FakeSensor, number: int) -> None:
        if sensor.missing or number != 0:
            raise RuntimeError(f"No camera number {number} found")
        if sensor.open_cameras:
            raise RuntimeError("Camera __init__ sequence did not complete.")
        sensor.open_cameras += 1
        self.sensor = sensor
        self.camera_controls = {"FrameDurationLimits": (1, 1_000_000, 33_333)}
        self.configuration: dict[str, Any] = {}
        self.closed = False
        self._changed = threading.Condition()
        self._jobs: list[FakeJob] = []
        self._free_buffers = 0
        self._newest: FakeRequest | None = None
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def create_video_configuration(self, **asked: Any) -> dict[str, Any]:
        unknown = set(asked["controls"]) - set(self.camera_controls)
        assert not unknown, f"this camera has no {unknown}"
        return asked

    def configure(self, asked: dict[str, Any]) -> None:
        assert self._thread is None, "Camera must be stopped before configuring"
        made = dict(asked)
        for stream in ("main", "lores"):
            width, height = asked[stream]["size"]
            assert width % 2 == height % 2 == 0, "width and height should be even"
            made[stream] = {
                "format": self.sensor.format or asked[stream]["format"],
                "size": (width, height),
                "stride": width + self.sensor.padding,
            }
        self.configuration = made
        self.sensor.configurations.append(made)
        self._free_buffers = asked["buffer_count"]

    def camera_configuration(self) -> dict[str, Any]:
        return self.configuration

    def start(self) -> None:
        assert self.configuration, "Camera has not been configured"
        self._thread = threading.Thread(target=self._run, name="fake-picamera2", daemon=True)
        self._thread.start()

    def capture_request(
        self, wait: bool | None = None, signal_function: Callable[[FakeJob], None] | None = None
    ) -> FakeJob:
        assert wait is False, "a capture that waits for ever"
        if self.sensor.vanished.is_set() or self.closed:
            raise RuntimeError("Camera frontend has gone away")
        job = FakeJob(signal_function)
        with self._changed:
            self._jobs.append(job)
            self._serve()
        return job

    def close(self) -> None:
        if self.sensor.hang_on_close is not None:
            self.sensor.hang_on_close.wait()
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        with self._changed:
            if self._newest is not None:
                self._newest.release()
                self._newest = None
        self.closed = True
        self.sensor.open_cameras -= 1

    def give_back(self) -> None:
        with self._changed:
            self._free_buffers += 1
            self.sensor.unreleased -= 1

    def _run(self) -> None:
        for sequence in itertools.count(self.sensor.first_sequence):
            if self._ending.wait(1 / self.sensor.rate_fps):
                return
            while self.sensor.stalled.is_set() or self._free_buffers == 0:
                if self._ending.wait(0.005):
                    return
            self._deliver(sequence)

    def _deliver(self, sequence: int) -> None:
        with self._changed:
            self._free_buffers -= 1
            self.sensor.unreleased += 1
            unwanted, self._newest = self._newest, FakeRequest(self, sequence)
            self._serve()
        if unwanted is not None:
            unwanted.release()

    def _serve(self) -> None:
        if self._jobs and self._newest is not None:
            request, self._newest = self._newest, None
            self._jobs.pop(0).finish(request)
