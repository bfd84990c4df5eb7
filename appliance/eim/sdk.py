"""Edge Impulse's Python SDK, importable without PyAudio. Importing this module imports the SDK and OpenCV."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys

from appliance.errors import ConfigError

try:
    importlib.import_module("pyaudio")
except ImportError:
    # The SDK imports PyAudio for its microphone, which nobody here uses. PyAudio has no wheel for Linux:
    # asking for it would mean a compiler on every camera. An empty module of that name is all it needs.
    _spec = importlib.machinery.ModuleSpec("pyaudio", None)
    sys.modules["pyaudio"] = importlib.util.module_from_spec(_spec)

try:
    importlib.import_module("cv2")  # asked first: the SDK's own answer to its absence is exit(1)
    from edge_impulse_linux.image import ImageImpulseRunner
    from edge_impulse_linux.runner import ImpulseRunner
except ImportError as error:
    raise ConfigError(
        f"Edge Impulse's Linux SDK can't be imported ({error})",
        means="No .eim can be run here",
        do='Install the "camera" extra: it brings edge_impulse_linux, opencv-python-headless and six',
    ) from error

__all__ = ["ImageImpulseRunner", "ImpulseRunner"]
