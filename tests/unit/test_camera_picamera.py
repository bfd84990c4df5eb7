from __future__ import annotations

import logging
import sys
import threading
import time

import numpy as np
import pytest

from appliance.camera.picamera import Nv12Layout, PiCamera, nv12_to_rgb
from appliance.errors import CameraError, CameraMissingError, CaptureTimeoutError
from tests.fakes.picamera2_fake import FakeSensor, rgb_to_nv12
from tests.fakes.picamera2_fixture import sensor as sensor  # a fixture is imported by its name


def capture_until_none_comes(camera: PiCamera) -> None:
    for _ in range(5):  # a frame or two may have been under way
        camera.capture(0.1)


def test_colours_survive_nv12_with_padded_rows() -> None:
    generator = np.random.default_rng(3)
    blocks = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = blocks.repeat(4, axis=0).repeat(4, axis=1)  # 24 x 32
    for stride in (32, 48, 64):
        result = nv12_to_rgb(rgb_to_nv12(picture, stride), Nv12Layout(32, 24, stride))
        assert result.shape == picture.shape
        assert np.abs(result.astype(int) - picture.astype(int)).max() <= 4


def test_both_streams_show_the_same_moment_in_the_right_colours(sensor: FakeSensor) -> None:
    camera = PiCamera(size=(1280, 960))
    camera.open()
    frame = camera.capture(5)
    camera.close()
    assert frame.small is not None
    assert frame.pixels.shape == (960, 1280, 3)
    assert frame.small.shape == (240, 320, 3)
    for picture in (frame.pixels, frame.small):
        left, right = picture[:, : picture.shape[1] // 2 - 2], picture[:, picture.shape[1] // 2 + 2 :]
        assert np.abs(left.astype(int) - sensor.colour).max() <= 4
        assert right.max() <= 4


def test_it_is_configured_once_with_nv12_streams_and_no_raw_one(sensor: FakeSensor) -> None:
    camera = PiCamera(size=(640, 480), rate_fps=20)
    camera.open()
    for _ in range(5):
        camera.capture(5)
    camera.close()
    (made,) = sensor.configurations
    assert {made["main"]["format"], made["lores"]["format"]} == {"NV12"}
    assert made["raw"] is None
    assert made["controls"] == {"FrameDurationLimits": (50_000, 50_000)}


def test_a_format_changed_behind_our_back_is_named_and_the_camera_let_go(sensor: FakeSensor) -> None:
    sensor.format = "RGB888"
    with pytest.raises(CameraError, match="RGB888, not NV12"):
        PiCamera().open()
    assert sensor.open_cameras == 0


def test_no_camera_on_the_cable_says_what_to_check(sensor: FakeSensor) -> None:
    sensor.missing = True
    with pytest.raises(CameraMissingError, match="ribbon cable"):
        PiCamera().open()


def test_without_picamera2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setitem(sys.modules, "libcamera", None)
    with pytest.raises(CameraMissingError, match=r"sudo apt install python3-picamera2.*--system-site-packages"):
        PiCamera().open()


def test_every_buffer_goes_back_even_when_a_picture_cannot_be_read(sensor: FakeSensor) -> None:
    camera = PiCamera(size=(64, 48))
    camera.open()
    for _ in range(20):
        camera.capture(5)
    sensor.cut_bytes = 100
    for _ in range(20):
        with pytest.raises(CameraError, match="bytes for a picture"):
            camera.capture(5)
    sensor.cut_bytes = 0
    camera.capture(5)
    camera.close()
    assert sensor.unreleased == 0


def test_a_stall_is_a_timeout_and_the_late_frame_is_not_lost(sensor: FakeSensor) -> None:
    camera = PiCamera(size=(64, 48))
    camera.open()
    camera.capture(5)
    sensor.stalled.set()
    with pytest.raises(CaptureTimeoutError, match="stalled"):
        capture_until_none_comes(camera)
    for _ in range(20):  # more than there are buffers: each must wait for the one pending job
        with pytest.raises(CaptureTimeoutError):
            camera.capture(0.01)
    sensor.stalled.clear()
    for _ in range(10):
        camera.capture(5)
    camera.close()
    assert sensor.unreleased == 0


def test_a_camera_that_vanishes_is_an_error_and_can_be_opened_again(sensor: FakeSensor) -> None:
    camera = PiCamera(size=(64, 48))
    camera.open()
    last = camera.capture(5).sequence
    sensor.vanished.set()
    with pytest.raises(CameraError, match="gone away"):
        camera.capture(5)
    camera.close()
    sensor.vanished.clear()
    camera.open()
    assert camera.capture(5).sequence == last + 1
    camera.close()


def test_a_driver_that_never_lets_go_costs_only_the_deadline(
    sensor: FakeSensor, caplog: pytest.LogCaptureFixture
) -> None:
    camera = PiCamera(size=(64, 48), close_deadline_s=0.05)
    camera.open()
    sensor.hang_on_close = threading.Event()
    with caplog.at_level(logging.ERROR):
        camera.close()
    assert "did not let go" in caplog.text
    with pytest.raises(CameraMissingError, match="can't be opened"):
        camera.open()


def test_a_picture_that_comes_while_the_driver_lets_go_is_given_back(sensor: FakeSensor) -> None:
    camera = PiCamera(size=(64, 48), close_deadline_s=0.05)
    camera.open()
    sensor.stalled.set()
    with pytest.raises(CaptureTimeoutError):
        capture_until_none_comes(camera)
    sensor.hang_on_close = threading.Event()
    camera.close()
    sensor.stalled.clear()  # the picture asked for above comes now, and nobody waits for it
    ends = time.monotonic() + 10
    while sensor.unreleased < 1 and time.monotonic() < ends:
        time.sleep(0.01)
    sensor.hang_on_close.set()
    while (sensor.open_cameras or sensor.unreleased) and time.monotonic() < ends:
        time.sleep(0.01)
    assert (sensor.open_cameras, sensor.unreleased) == (0, 0)
