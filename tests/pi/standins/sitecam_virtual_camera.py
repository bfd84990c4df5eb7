"""Tests only, never installed on a camera: has an unmodified picamera2 open libcamera's virtual camera.

Loaded by a .pth file when Python starts; changes picamera2 when that is imported. Four differences are bridged: the
virtual camera has no raw stream to ask sensor modes of; it wants the two planes of NV12 apart, where a Pi's ISP takes
one; it sends pictures as fast as it can make them, where a sensor keeps the rate that it was asked for; and it can't
stall, so ``stalled`` (an Event) holds its pictures back for tests of just that.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

_TARGET = "picamera2.picamera2"
_USUAL_US = 33333
stalled = threading.Event()


def _pace(camera: Any) -> None:
    """Wait until a sensor at the rate that was asked for would have its next picture."""
    asked = (camera.camera_config or {}).get("controls", {}).get("FrameDurationLimits", (_USUAL_US,))
    due_s = getattr(camera, "_tests_due_s", 0.0)
    time.sleep(max(0.0, due_s - time.monotonic()))
    camera._tests_due_s = max(due_s, time.monotonic()) + asked[0] / 1e6


def _modes(real_modes: Callable[[Any], Any]) -> Callable[[Any], Any]:
    import libcamera

    def modes(self: Any) -> Any:
        if self.camera_properties_.get("PipelineHandler") != "virtual":
            return real_modes(self)
        formats = self.camera.generate_configuration([libcamera.StreamRole.Viewfinder]).at(0).formats
        return [
            {"format": str(pixel_format), "size": (size.width, size.height)}
            for pixel_format in formats.pixel_formats
            for size in formats.sizes(pixel_format)
        ]

    return modes


def _change(module: Any) -> None:
    import libcamera
    from picamera2.allocators import DmaAllocator

    real_process = module.Picamera2.process_requests

    class TwoPlanes(DmaAllocator):  # type: ignore[misc]  # picamera2 has no type information
        def allocate(self, configuration: Any, use_case: Any) -> None:
            super().allocate(configuration, use_case)
            for stream in configuration:
                if str(stream.pixel_format) == "NV12":
                    whole = self.frame_buffers[stream.stream]
                    self.frame_buffers[stream.stream] = [self._apart(stream, buffer) for buffer in whole]

        def _apart(self, stream: Any, whole: Any) -> Any:
            luma_bytes = stream.stride * stream.size.height
            planes = []
            for offset, length in ((0, luma_bytes), (luma_bytes, luma_bytes // 2)):
                plane = libcamera.FrameBuffer.Plane()
                plane.fd, plane.offset, plane.length = whole.planes[0].fd, offset, length
                planes.append(plane)
            apart = libcamera.FrameBuffer(planes)
            self.mapped_buffers[apart] = self.mapped_buffers.pop(whole)
            self.libcamera_fds.append(apart.planes[0].fd)
            self.mapped_buffers_used[apart.planes[0].fd] = False
            return apart

    def process(self: Any, display: Any) -> None:
        for _ in range(len(self._requests)):  # what comes meanwhile wakes this thread again
            if stalled.is_set():
                return
            _pace(self)
            with self._requestslock:
                first, later = self._requests[:1], self._requests[1:]
                self._requests = first
            real_process(self, display)
            with self._requestslock:
                self._requests = later + self._requests

    module.Picamera2._get_raw_modes = _modes(module.Picamera2._get_raw_modes)
    module.Picamera2.process_requests = process
    module.DmaAllocator = TwoPlanes


class _Loader(importlib.abc.Loader):
    def __init__(self, real: importlib.abc.Loader) -> None:
        self._real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        _change(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _TARGET:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


sys.meta_path.insert(0, _Finder())
