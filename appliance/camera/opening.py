"""The camera that the settings name."""

from __future__ import annotations

from appliance.camera.folder import FolderCamera
from appliance.camera.picamera import PiCamera
from appliance.camera.source import CameraSource
from appliance.config import CameraSettings


def open_source(settings: CameraSettings) -> CameraSource:
    """The camera that the settings name; not opened yet."""
    if settings.source == "folder":
        return FolderCamera(
            settings.path,
            rate_fps=settings.rate_fps,
            hold_frames=settings.hold_frames,
            seed=0 if settings.shuffle else None,
        )
    return PiCamera(size=(settings.width, settings.height), rate_fps=settings.rate_fps)
