"""What every CameraSource promises, asked of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest

from appliance.camera.folder import FolderCamera
from appliance.camera.picamera import PiCamera
from appliance.camera.source import CameraSource
from appliance.errors import CameraError, CaptureTimeoutError
from appliance.frame import Frame
from appliance.vision import encode_jpeg
from tests.fakes.fault_camera import FaultCamera
from tests.fakes.live_parts import ClickCamera
from tests.fakes.parts import SIDE
from tests.fakes.picamera2_fake import FakeSensor
from tests.fakes.picamera2_fixture import sensor as sensor  # a fixture is imported by its name

FAST_FPS = 200.0
SLOW_FPS = 0.01  # the first frame at once, the next in 100 s


def picture_folder(folder: Path) -> Path:
    for index in range(4):
        pixels = np.full((48, 64, 3), 40 * index + 20, np.uint8)
        (folder / f"{index}.jpg").write_bytes(encode_jpeg(pixels))
    return folder


def video_file(folder: Path) -> Path:
    path = folder / "small.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV can't write MJPEG videos")
    for index in range(4):
        writer.write(np.full((48, 64, 3), 40 * index + 20, np.uint8))
    writer.release()
    return path


MakeSource = Callable[[float], CameraSource]


@pytest.fixture(params=["pictures", "video", "picamera2", "faults", "clicks"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeSource]:
    """Makes a source of the given rate; closes all of them at the end."""
    made: list[CameraSource] = []

    def make_one(rate_fps: float) -> CameraSource:
        if request.param == "picamera2":
            fake: FakeSensor = request.getfixturevalue("sensor")
            fake.rate_fps = FAST_FPS
            source: CameraSource = PiCamera(size=(64, 48), rate_fps=FAST_FPS)
            if rate_fps == SLOW_FPS:
                threading.Timer(0.1, fake.stalled.set).start()
        elif request.param == "faults":
            source = FaultCamera(rate_fps=rate_fps)
        elif request.param == "clicks":
            clicks = ClickCamera(every_s=1 / rate_fps if rate_fps == FAST_FPS else None)
            clicks.click()
            source = clicks
        else:
            files = picture_folder if request.param == "pictures" else video_file
            source = FolderCamera(files(tmp_path), rate_fps=rate_fps)
        made.append(source)
        return source

    yield make_one
    for source in made:
        source.close()


def capture_until_none_comes(source: CameraSource) -> None:
    for _ in range(1000):
        source.capture(0.2)


def test_a_frame_is_rgb_bytes_with_a_utc_time(make: MakeSource) -> None:
    source = make(FAST_FPS)
    source.open()
    before = datetime.now(UTC) - timedelta(seconds=5)
    frame = source.capture(5)
    assert frame.pixels.dtype == np.uint8
    assert frame.pixels.shape == ((SIDE, SIDE, 3) if isinstance(source, ClickCamera) else (48, 64, 3))
    assert frame.taken_utc.utcoffset() == timedelta(0)
    assert before <= frame.taken_utc <= datetime.now(UTC)
    if frame.small is not None:
        assert frame.small.dtype == np.uint8
        assert frame.small.ndim == 3
    assert source.name


def test_whether_it_is_live_is_said_before_it_is_opened_and_stays(make: MakeSource) -> None:
    source = make(FAST_FPS)
    is_live = source.is_live
    assert is_live is isinstance(source, (PiCamera, FaultCamera))
    source.open()
    source.capture(5)
    assert source.is_live is is_live


def test_the_sequence_rises_and_a_late_consumer_finds_a_gap(make: MakeSource) -> None:
    source = make(FAST_FPS)
    if isinstance(source, ClickCamera):
        pytest.skip("it clicks when it is asked, so nobody can come late")
    source.open()
    first, second = source.capture(5), source.capture(5)
    assert second.sequence > first.sequence
    previous, step = second.sequence, 1
    for _ in range(100):
        time.sleep(10 / FAST_FPS)
        sequence = source.capture(5).sequence  # a driver may have kept one frame from before
        previous, step = sequence, sequence - previous
        if step > 1:
            break
    assert step > 1


def test_no_frame_in_time_is_a_timeout_and_the_source_stays_open(make: MakeSource) -> None:
    source = make(SLOW_FPS)
    source.open()
    source.capture(5)
    with pytest.raises(CaptureTimeoutError):
        capture_until_none_comes(source)
    with pytest.raises(CaptureTimeoutError):
        source.capture(0.01)


def test_capturing_from_a_source_that_is_not_open_is_an_error(make: MakeSource) -> None:
    source = make(FAST_FPS)
    with pytest.raises(CameraError):
        source.capture(0.1)
    source.open()
    source.capture(5)
    source.close()
    with pytest.raises(CameraError):
        source.capture(0.1)


def test_closing_twice_and_before_opening_does_nothing(make: MakeSource) -> None:
    source = make(FAST_FPS)
    source.close()
    source.open()
    source.close()
    source.close()


def test_opening_twice_keeps_it_open(make: MakeSource) -> None:
    source = make(FAST_FPS)
    source.open()
    source.open()
    source.capture(5)


def test_a_source_opened_again_goes_on_counting(make: MakeSource) -> None:
    source = make(FAST_FPS)
    source.open()
    last = source.capture(5).sequence
    source.close()
    source.open()
    assert source.capture(5).sequence > last


def test_closing_ends_a_capture_that_waits_in_another_thread(make: MakeSource) -> None:
    source = make(SLOW_FPS)
    source.open()
    source.capture(5)
    with pytest.raises(CaptureTimeoutError):
        capture_until_none_comes(source)
    outcome: list[Frame | Exception] = []

    def wait() -> None:
        try:
            outcome.append(source.capture(60))
        except CameraError as error:
            outcome.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    time.sleep(0.05)
    source.close()
    waiting.join(10)
    assert not waiting.is_alive()
    assert isinstance(outcome[0], CameraError)
    assert not isinstance(outcome[0], CaptureTimeoutError)
