"""The camera process: constructs every part, starts them, and stops them in reverse."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Protocol

from appliance.alarm import Alarm
from appliance.by_hand import HandOver
from appliance.camera.folder import FolderCamera
from appliance.camera.picamera import PiCamera
from appliance.camera.source import CameraSource
from appliance.canary import Canary
from appliance.capture import Capture
from appliance.config import CameraSettings, Settings
from appliance.decide import Decider
from appliance.eim.runner import RunningImpulse, start_impulse
from appliance.ending import resume
from appliance.errors import ModelError
from appliance.events import EventLog
from appliance.fleet import load_fleet
from appliance.ladder import Ladder
from appliance.learn_empty import EmptyLearner
from appliance.live import LiveLoop
from appliance.models.shelf import Shelf
from appliance.paths import CameraPaths
from appliance.starter import Starter
from appliance.swap import Swapper, SwapRules
from appliance.systemd import Notifier
from appliance.tuning import Tuner
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
        threads = settings.model.threads
        self._shelf = Shelf(paths.models, fleet.signing_key)
        self._shelf.sweep()
        resume(self._shelf)
        if not self._shelf.versions():
            raise ModelError("There is no model on this camera", do="Enrol it again with its bundle")
        if self._shelf.current is None:  # its pointer was damaged or lost
            self._shelf.activate(max(self._shelf.factory or 0, self._shelf.previous or 0))
        self.notifier = Notifier(os.environ)
        self.events = EventLog(paths.events)
        self.alarm = Alarm(settings.alarm, self.events.put)
        self.watch = Watch(settings.camera.name, fleet.name, paths, self._shelf)
        self.learner = EmptyLearner(paths, lambda: self.watch.labels)
        self.starter = Starter(self._shelf, self._start_impulse, threads=threads)
        decider = Decider(settings.model.sure_above)
        self.loop = LiveLoop(
            self.starter,
            decide=decider,
            listeners=[self.watch, self.alarm, self.learner],
            beat=self.notifier.beat,
        )
        source = open_source(settings.camera)
        self.capture = Capture(
            source,
            self.loop.take,
            timeout_s=settings.camera.capture_timeout_s,
            rate_fps=settings.camera.rate_fps,
            ladder=Ladder(
                paths.camera_restarts,
                paths.reboot_request,
                restart_after_s=settings.camera.restart_after_s,
                # a replay whose files are gone is no reason to reboot a machine
                reboot_after_restarts=settings.camera.reboot_after_restarts if source.is_live else 0,
            ),
            on_event=self.events.put,
        )
        canary = Canary(paths.store, self._shelf, self._start_impulse, margin=settings.model.margin)
        rules = SwapRules(soak_decisions=settings.model.soak_decisions)
        self.swapper = Swapper(self._shelf, self.loop, self._start_impulse, canary, threads=threads, rules=rules)
        self._hand_over = HandOver(self._shelf, self.swapper, threads=threads)
        self._tuner = Tuner(settings, self._shelf, self.loop, decider)
        self.watch.follow(self.loop, self.capture, self.swapper, self.starter, self.alarm, self.events)
        self.page = PageServer(
            create_app(self.watch, time_zone=settings.page.time_zone, hosts=[settings.page.host]),
            settings.page.host,
            settings.page.port,
        )
        self._started: list[_Part] = []

    @property
    def must_restart(self) -> str | None:
        """Why this process should end and be started afresh; None while it should go on."""
        if not self.page.alive:
            return "The page's server ended. The camera service starts afresh."
        return self.capture.must_restart

    def start(self) -> None:
        """Start page, loop, camera and the rest; a taken port is found before anything else is started.

        Raises:
            ConfigError: The page's address can't be used.
        """
        parts: tuple[_Part, ...] = (
            *(self.page, self.events, self.loop, self.capture),
            *(self._hand_over, self.swapper, self._tuner),
        )
        try:
            for part in parts:
                part.start()
                self._started.append(part)
        except BaseException:
            self.stop()
            raise
        self.notifier.ready()

    def stop(self) -> None:
        """Stop what was started, last first."""
        self.notifier.stopping()
        self.learner.stop()
        while self._started:
            part = self._started.pop()
            if part is self.events:
                self.alarm.pause()  # what lasts ends now, and is written
            part.stop()
        self.notifier.close()

    def _start_impulse(self, path: Path) -> RunningImpulse:
        model = self._settings.model
        return start_impulse(
            path,
            start_deadline_s=model.start_deadline_s,
            reply_deadline_s=model.reply_deadline_s,
            memory_bytes=model.memory_mb * 2**20,
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
