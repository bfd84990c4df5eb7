"""Tests only: the CameraSource contract suite, asked of PiCamera on libcamera's virtual camera.

Run by pytest inside a test machine (``python -m tests.pi contract``), as the camera's own user, in its environment.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest

from appliance.camera.picamera import PiCamera
from appliance.camera.source import CameraSource
from appliance.frame import Frame
from tests.contract import test_camera_source as suite
from tests.contract.test_camera_source import FAST_FPS, SLOW_FPS, MakeSource

# every test of it, asked of the fixture below
globals().update({name: test for name, test in vars(suite).items() if name.startswith("test_")})
_stalled = importlib.import_module("sitecam_virtual_camera").stalled  # it is there inside the machine only


class _StallingCamera(PiCamera):
    """Its sensor sends one picture, and then no more."""

    def open(self) -> None:
        _stalled.clear()
        super().open()

    def capture(self, timeout_s: float) -> Frame:
        frame = super().capture(timeout_s)
        _stalled.set()
        return frame


@pytest.fixture
def make() -> Iterator[MakeSource]:
    """Makes a camera of the given rate; closes all of them at the end."""
    made: list[CameraSource] = []

    def make_one(rate_fps: float) -> CameraSource:
        kind = _StallingCamera if rate_fps == SLOW_FPS else PiCamera
        made.append(kind(size=(64, 48), rate_fps=FAST_FPS))
        return made[-1]

    yield make_one
    for source in made:
        source.close()
    _stalled.clear()
