"""The camera process: constructs every part, starts them, and stops them in reverse."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from appliance.camera.folder import FolderCamera
from appliance.camera.picamera import PiCamera
from appliance.camera.source import CameraSource
from appliance.config import CameraSettings, Settings
from appliance.eim.runner import RunningImpulse, start_impulse
from appliance.errors import ModelError
from appliance.fleet import load_fleet
from appliance.live import LiveLoop, RunningModel
from appliance.models.shelf import Shelf
from appliance.paths import CameraPaths
from appliance.swap import Swapper, SwapRules, stage
from appliance.watch import Watch
from appliance.web.app import create_app
from appliance.web.server import PageServer

logger = logging.getLogger(__name__)


class _Part(Protocol):
    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End."""


class CameraProcess:
    """Everything that runs all day on a camera.

    Args:
        settings: The camera's.

    Raises:
        CertificateError: The camera isn't enrolled.
        ModelError: There is no model to run.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        paths = CameraPaths(settings.state_dir)
        fleet = load_fleet(paths.fleet)
        self._shelf = Shelf(paths.models, fleet.signing_key)
        self._shelf.sweep()
        if self._shelf.current is None:
            raise ModelError("No model is active on this camera", do="Enrol it again with its bundle")
        self.watch = Watch(settings.camera.name, fleet.name, paths, self._shelf)
        self.loop = LiveLoop(
            open_source(settings.camera),
            self._start_current,
            sure_above=settings.model.sure_above,
            capture_timeout_s=settings.camera.capture_timeout_s,
            listeners=[self.watch],
        )
        self.watch.follow(self.loop)
        self.page = PageServer(
            create_app(self.watch, time_zone=settings.page.time_zone, hosts=[settings.page.host]),
            settings.page.host,
            settings.page.port,
        )
        rules = SwapRules(soak_decisions=settings.model.soak_decisions)
        self.swapper = Swapper(self._shelf, self.loop, self._start_impulse, threads=settings.model.threads, rules=rules)
        self._started: list[_Part] = []

    def start(self) -> None:
        """Start page, loop and swapper; a taken port is found before anything else is started.

        Raises:
            ConfigError: The page's address can't be used.
        """
        parts: tuple[_Part, ...] = (self.page, self.loop, self.swapper)
        try:
            for part in parts:
                part.start()
                self._started.append(part)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what was started, last first."""
        while self._started:
            self._started.pop().stop()

    def _start_current(self) -> RunningModel:
        version = self._shelf.current
        if version is None:
            raise ModelError("No model is active on this camera", do="Enrol it again with its bundle")
        path, _ = stage(self._shelf, version, threads=self._settings.model.threads)
        return RunningModel(version, self._start_impulse(path))

    def _start_impulse(self, path: Path) -> RunningImpulse:
        return start_impulse(
            path,
            start_deadline_s=self._settings.model.start_deadline_s,
            reply_deadline_s=self._settings.model.reply_deadline_s,
        )


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
