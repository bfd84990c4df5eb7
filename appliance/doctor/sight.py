"""The camera: its driver, its sensor, a few pictures of it, and the small stream that the model sees."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable

from appliance.camera.opening import open_source
from appliance.camera.picamera import SMALL_HEIGHT
from appliance.config import Settings
from appliance.doctor.finding import Finding, fault, ok, warning
from appliance.frame import Frame
from appliance.status import Status, warnings

_FRAMES = 15  # after the first one: a second and a half at ten a second
_LONGEST_S = 5.0
_SLOW = 0.8  # of the rate that was asked for


def driver(settings: Settings) -> Finding:
    """Whether picamera2 is there, and which sensors it sees."""
    if settings.camera.source != "picamera2":
        return ok("driver", f"none is needed: pictures come from {settings.camera.path}")
    if importlib.util.find_spec("picamera2") is None:
        return fault(
            "driver",
            "picamera2 isn't installed, so there is no picture. On Raspberry Pi OS: sudo apt install"
            " --no-install-recommends python3-picamera2, and make the environment with --system-site-packages."
            ' Elsewhere set camera.source = "folder".',
        )
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:ERROR")  # its news would stand among the findings
    try:
        import libcamera
        from picamera2 import Picamera2

        sensors = [str(each.get("Model", "a camera")) for each in Picamera2.global_camera_info()]
        release = str(getattr(libcamera, "__version__", "") or libcamera.CameraManager.singleton().version)
    except Exception as error:  # noqa: BLE001  # said, whatever it is: a driver's import can fail in any way
        text = f"picamera2 can't be used ({error})."
        if "numpy" in str(error):  # built for another numpy than the one that was found first
            text += " Its packages want apt's numpy: remove numpy from this environment (pip uninstall numpy)."
        return fault("driver", text)
    if not sensors:
        return fault(
            "driver",
            f"libcamera {release} sees no sensor. Switch the board off, check the ribbon cable at both ends (contacts"
            " to the right side), and that camera_auto_detect=1 stands in /boot/firmware/config.txt.",
        )
    return ok("driver", f"picamera2 on libcamera {release}; sensors: {', '.join(sensors)}")


def capture(settings: Settings, running: Status | None) -> Finding:
    """A few pictures; where the camera process has the camera, what it says of itself."""
    if running is not None:
        return _of_process(settings, running)
    if settings.camera.source == "picamera2" and importlib.util.find_spec("picamera2") is None:
        return fault("camera", "picamera2 isn't installed, so there is no picture: see the line about the driver.")
    source = open_source(settings.camera)
    try:
        source.open()
        frame = source.capture(settings.camera.capture_timeout_s)
        rate_fps = _rate(lambda: source.capture(settings.camera.capture_timeout_s))
    finally:
        source.close()
    height, width = frame.pixels.shape[:2]
    text = f"{source.name}: {width} x {height} at {rate_fps:.1f} frames a second{_small(frame)}"
    wanted = settings.camera.rate_fps
    if rate_fps < _SLOW * wanted:
        return warning(
            "camera", f"{text}; {wanted:g} were asked for. Use a shorter exposure (more light), or a lower rate_fps."
        )
    if frame.small is not None and frame.small.shape[0] > max(SMALL_HEIGHT, 1):
        return warning("camera", f"{text}. The ISP gives a larger small stream than asked for: the loop is slower.")
    return ok("camera", text)


def _of_process(settings: Settings, running: Status) -> Finding:
    asked = f"{settings.camera.rate_fps:g} frames a second asked for"
    text = f"the camera process has it: {running.loop.decisions_per_s:.1f} decisions a second, {asked}"
    found = [*running.faults, *warnings(running)]
    if running.faults:
        return Finding("camera", "fault" if running.model.version else "warning", f"{text}. {' '.join(found)}")
    return warning("camera", f"{text}. {' '.join(found)}") if found else ok("camera", text)


def _rate(take: Callable[[], Frame]) -> float:
    began, taken = time.monotonic(), 0
    while taken < _FRAMES and time.monotonic() - began < _LONGEST_S:
        take()
        taken += 1
    return taken / (time.monotonic() - began)


def _small(frame: Frame) -> str:
    if frame.small is None:
        return ""
    height, width = frame.small.shape[:2]
    return f"; the ISP makes {width} x {height} for the model"
