"""The camera process: constructs every part, starts them, and stops them in reverse."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Protocol

from appliance.alarm import Alarm, alarm_words
from appliance.alone import fleet_of, no_model, shelf_of, was_enrolled
from appliance.by_hand import HandOver
from appliance.camera.opening import open_source
from appliance.canary import Canary
from appliance.capture import Capture
from appliance.config import Settings
from appliance.decide import Decider
from appliance.eim.cell import Cell
from appliance.eim.runner import RunningImpulse, start_impulse
from appliance.ending import resume
from appliance.errors import ModelError
from appliance.events_record import Change, Event
from appliance.forget_asking import Forgetter
from appliance.keeping import Keeping
from appliance.ladder import Ladder
from appliance.learn_empty import EmptyLearner
from appliance.live import LiveLoop
from appliance.metrics import Metrics
from appliance.notify.camera_state import CameraState
from appliance.notify.neighbours import Neighbours
from appliance.paths import CameraPaths
from appliance.privacy import OtherWay
from appliance.starter import Starter
from appliance.status_file import StatusFile
from appliance.status_keeper import StatusKeeper
from appliance.surroundings import Sources
from appliance.swap import Swapper, SwapRules
from appliance.system import System
from appliance.systemd import Notifier
from appliance.tuning import Tuner
from appliance.watch import Watch
from appliance.ways_out import other_ways
from appliance.web.camera_page import CameraPage

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
        CertificateError: The fleet's files are damaged.
        ModelError: It has a fleet, and no model to run.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._paths = paths = CameraPaths(settings.state_dir)
        self._fleet = fleet = fleet_of(paths)
        threads = settings.model.threads
        self._shelf = shelf_of(paths, fleet)
        self._shelf.sweep()
        resume(self._shelf)
        if fleet and not self._shelf.versions():
            raise ModelError("There is no model on this camera", do="Enrol it again with its bundle")
        if fleet and self._shelf.current is None:  # its pointer was damaged or lost
            self._shelf.activate(max(self._shelf.factory or 0, self._shelf.previous or 0))
        self.notifier = Notifier(os.environ)
        self.keeping = Keeping(
            settings,
            paths,
            self._shelf,
            running=lambda: self.loop.version,
            in_alarm=lambda: self.alarm.current is not None,
            swapping=lambda: self.swapper.trial is not None,
        )
        self.events = self.keeping.events
        self.alarm = Alarm(settings.alarm, self.events.put, self.events.witness)
        fleet_name = fleet.name if fleet else ""
        self.watch = Watch(settings.camera.name, fleet_name, paths, self._shelf)
        self.learner = EmptyLearner(
            paths, lambda: self.watch.labels if fleet else self.keeping.model.labels, store=self.keeping.store
        )
        self.starter = Starter(self._shelf, self._start_impulse, threads=threads)
        decider = Decider(settings.model.sure_above)
        self.metrics = Metrics(lambda: self.status.status())
        self.loop = LiveLoop(
            self.starter if fleet else no_model,
            decide=decider,
            listeners=[
                *(self.watch, self.alarm, self.learner, self.metrics),
                *(self.keeping.recorder, self.keeping.burst),
            ],
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
        self.neighbours = Neighbours(
            settings,
            fleet=fleet_name,
            alarm=f"{alarm_words(settings.alarm.label).capitalize()} seen",
            state=self._state_for_neighbours,
            snapshot=self.events.snapshot,
        )
        self.forgetter = Forgetter(paths, settings.camera.name, self._quiet)
        self.page = CameraPage(
            settings,
            paths,
            fleet,
            self._shelf,
            self.watch,
            self.keeping,
            self.metrics,
            self.forgetter,
            self._other_ways,
        )
        system = System(settings.state_dir)
        self.status = StatusKeeper(
            self.watch.status,
            self.loop,
            self._shelf,
            paths,
            StatusFile(settings.state_dir, os.environ),
            Sources(
                system=system.look,
                store=self.keeping.store_state,
                queue=self.keeping.queue_state,
                neighbours=self.neighbours.status,
                tonight=self.keeping.tonight,
                recorder=lambda: self.keeping.recording()[1],
            ),
            page_url=lambda: self.page.url,
            viewers=lambda: self.page.viewers,
            verdict_came=self.metrics.verdict_came,
        )
        self.events.tell(self.neighbours.put)
        self.events.tell(self._count_event)
        self.watch.follow(
            *(self.loop, self.capture, self.swapper, self.starter, self.alarm, self.events),
            surroundings=lambda: self.status.surroundings,
        )
        self._started: list[_Part] = []
        self._stopping = threading.RLock()  # a person may ask to forget the camera while it ends

    @property
    def must_restart(self) -> str | None:
        """Why this process should end and be started afresh; None while it should go on."""
        if not self.page.alive:
            return "The page's server ended. The camera service starts afresh."
        if self._fleet is None and was_enrolled(self._paths):
            return "This camera was enrolled. Its service starts afresh, with the fleet's model."
        return self.capture.must_restart

    def tell_systemd(self) -> None:
        """Say how it goes, for ``systemctl status``."""
        state = self._state_for_neighbours()
        watching = "It watches" if state.version is None else f"It watches, with version {state.version}"
        self.notifier.status(state.problem or f"{watching}.")

    def start(self) -> None:
        """Start page, loop, camera and the rest; a taken port is found before anything else is started.

        Raises:
            ConfigError: The page's address can't be used.
        """
        parts: tuple[_Part, ...] = (
            *(self.page, self.forgetter, self.neighbours, self.keeping, self.loop, self.capture),
            *(self._hand_over, self.swapper, self._tuner, self.status),
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
        self._stop_until(0)
        self.notifier.close()

    def _quiet(self) -> None:
        """Stop everything but page and forgetter, which must still say what was deleted."""
        self._stop_until(2)

    def _stop_until(self, parts: int) -> None:
        with self._stopping:
            self.learner.stop()
            while len(self._started) > parts:
                part = self._started.pop()
                if part is self.keeping:
                    self.alarm.pause()  # what lasts ends now, and is written
                part.stop()

    # What parts ask of one another

    def _count_event(self, event: Event, change: Change) -> None:
        if change == "began":
            self.metrics.event_began(event.kind)

    def _state_for_neighbours(self) -> CameraState:
        status, newest = self.watch.status(), self.watch.newest(-1, 0)
        decision = newest[1] if newest else None
        system = self.status.surroundings.system
        faults = [fault for fault in (status.camera_fault, status.model_fault) if fault]
        return CameraState(
            label=decision.label if decision else None,
            confidence=decision.confidence if decision else 0.0,
            version=status.model_version,
            decisions_per_s=round(status.decisions_per_s, 1),
            temperature_c=system.temperature_c if system else None,
            problem=(faults + [each.sentence for each in status.conditions] + [""])[0],
        )

    def _other_ways(self) -> list[OtherWay]:
        return list(other_ways(self._settings, self.neighbours.sent()))

    def _start_impulse(self, path: Path) -> RunningImpulse:
        model = self._settings.model
        return start_impulse(
            path,
            start_deadline_s=model.start_deadline_s,
            reply_deadline_s=model.reply_deadline_s,
            memory_bytes=model.memory_mb * 2**20,
            cell=Cell.of(self._settings),
        )
