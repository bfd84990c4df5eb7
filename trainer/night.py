"""The night process: is tonight a good night? Start a SuperNode, answer the server, end with the window."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from appliance.command import run_command
from appliance.config import DEFAULT_PATH, Settings, load
from appliance.errors import NightError, SitecamError
from appliance.files import write_atomically
from appliance.fleet import Fleet, load_fleet
from appliance.forget import is_forgetting
from appliance.models.shelf import Shelf
from appliance.night_status import NightStatus, read_night_status, write_night_status
from appliance.paths import CameraPaths
from appliance.ports import free_port
from appliance.system import System
from trainer import flower
from trainer.client import Camera, client_app
from trainer.executor import Executor
from trainer.ledger import note_traffic
from trainer.reach import wait_for_server
from trainer.readiness import Care, left_s, not_now, objections
from trainer.supernode import SuperNode
from trainer.wire import WireProcess

logger = logging.getLogger(__name__)

_NICENESS = 10
_STILL_THERE_S = 150.0  # flwr 1.41 takes a node for lost two heartbeats of 30 s after its last one
_AGAIN_S = 10.0
_BY_DAY_S = 4 * 3600.0  # somebody started it by hand
_BREAKS = 5  # of the SuperNode in one night


class Night:
    """One night of one camera.

    Args:
        settings: The camera's.
        name: The night's name, for status and ledger.
        window_s: The process ends by itself after so long.
    """

    def __init__(self, settings: Settings, *, name: str, window_s: float) -> None:
        self._settings = settings
        self._paths = CameraPaths(settings.state_dir)
        self._fleet: Fleet = load_fleet(self._paths.fleet)
        self._name = name
        self._ends = time.monotonic() + window_s
        self._stopping = threading.Event()
        self._node: SuperNode | None = None
        self._paths.flower.mkdir(parents=True, exist_ok=True)
        self.camera = Camera(
            settings=settings,
            paths=self._paths,
            shelf=Shelf(self._paths.models, self._fleet.signing_key),
            night=name,
            closing=self._paths.flower / "closing",
            stopping=self._stopping,
            between=self._take_care,
        )
        self._care = Care(
            System(settings.state_dir),
            say=lambda text: self.camera.say("waiting", text),
            wait=self._stopping.wait,
        )

    def stop(self) -> None:
        """End soon: the message under way is abandoned."""
        self._stopping.set()

    def run(self) -> None:
        """Train with the fleet until the server closes the night or the window ends.

        Raises:
            SitecamError: The night could not be held, or ended early; the page says why too.
        """
        camera = self.camera
        os.nice(_NICENESS)  # the live loop comes first
        try:
            self._prepare()
            self._take_part()
        except (SitecamError, OSError) as error:
            camera.say("failed", str(error))
            raise
        if self._stopping.is_set():
            camera.say("failed", "Stopped before the server had closed the night")
        elif not camera.closing.exists():
            camera.say("done", "The window ended before the server had closed the night")
        elif read_night_status(self._paths.night_status).phase != "done":  # no version came that would have said so
            camera.say("done", "The server has closed the night; this camera's model stays")

    def _prepare(self) -> None:
        """Compute the features that tonight needs, while nobody waits for them."""
        camera = self.camera
        camera.closing.unlink(missing_ok=True)
        objection = camera.status().objection
        if objection:  # it comes along all the same: it too shall have the new model
            logger.warning("This camera does not train tonight: %s", objection)
            camera.say("waiting", f"Not training tonight: {objection}")
            return
        for split in ("train", "test"):
            camera.say("features", f"Looking at the {split} frames")
            camera.examples(split)
        camera.say("waiting", "Waiting for the server")

    def _take_part(self) -> None:
        """Wait for the server and answer it, all over the one way out; note what went over it."""
        wire = WireProcess(*self._fleet.address)
        try:
            self._wait_for_server(wire)
            self._serve(wire)
        finally:
            self._end_node()
            traffic = wire.close()
            if traffic.up_bytes:
                note_traffic(self._paths.ledger, self._name, traffic.up_bytes, traffic.down_bytes)

    def _serve(self, wire: WireProcess) -> None:
        """Answer the server's messages until the night ends."""
        refused_until = time.monotonic() + _STILL_THERE_S
        breaks = 0
        while not self._serve_once(wire):
            # After a power cut the server believes for a while that this camera is still there, and refuses it.
            if self._node is not None and self._node.unknown:
                if time.monotonic() > refused_until:
                    raise self._ended()
                self.camera.say("waiting", f"The server does not let this camera in yet. {self._ended()}")
                self._stopping.wait(_AGAIN_S)
                continue
            self._end_node()
            breaks += 1
            if breaks > _BREAKS:
                raise self._ended()
            logger.warning("The SuperNode is started again: %s", self._ended())
            self._wait_for_server(wire)
            refused_until = time.monotonic() + _STILL_THERE_S

    def _serve_once(self, wire: WireProcess) -> bool:
        """Answer messages for as long as the SuperNode lives; False where it ended before the night did."""
        write_atomically(self._secret, secrets.token_bytes(32), mode=0o600)
        port = free_port(
            "127.0.0.1",
            self._settings.night.runtime_port,
            means="The SuperNode can't start",
            do="Set another one as night.runtime_port in sitecam.toml, or 0 for any that is free",
        )
        self._node = SuperNode(self._paths, self._fleet, self._secret, port, wire.url)
        try:
            self._node.wait_until_up(self._going)
            Executor(self._node.address, self._secret, client_app(self.camera)).run(self._going)
        except NightError:
            if self._stopping.is_set() or self._node.refused or time.monotonic() > self._ends:
                raise
            return False
        if self.camera.closing.exists():
            time.sleep(2)  # the SuperNode still has to send the last reply
        return True

    @property
    def _secret(self) -> Path:
        return self._paths.flower / "executor.secret"

    def _going(self) -> bool:
        if self._node is not None and not self._node.running and not self._stopping.is_set():
            raise self._ended()
        if not self._on():
            return False
        self._take_care()
        return self._on()

    def _take_care(self) -> None:
        """Look at the board; where it says no, the night ends, and no SuperNode is started in its place."""
        try:
            self._care.step(self._on)
        except NightError:
            self._stopping.set()
            raise

    def _on(self) -> bool:
        over = self._stopping.is_set() or self.camera.closing.exists() or time.monotonic() > self._ends
        return not (over or is_forgetting(self._paths))

    def _ended(self) -> NightError:
        return self._node.why() if self._node else NightError("The SuperNode never started")

    def _wait_for_server(self, wire: WireProcess) -> None:
        wait_for_server(
            *self._fleet.address,
            self._paths.fleet / "ca.pem",
            wire.url,
            ends=self._ends,
            stopping=self._stopping,
            say=lambda text: self.camera.say("waiting", text),
        )

    def _end_node(self) -> None:
        if self._node is not None:
            self._node.end()


def main(arguments: Sequence[str] | None = None) -> int:
    """The ``sitecam-night`` command."""
    parser = argparse.ArgumentParser(prog="sitecam-night", description="Train with the fleet for one night.")
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="the camera's sitecam.toml")
    parser.add_argument(
        "--window-minutes", type=float, help="end by itself after so long (default: at night.ends; by day, 240)"
    )
    parser.add_argument("--night", default="", help="name of the night (default: today's date, UTC)")
    parser.add_argument("--check", action="store_true", help="only say whether a night may begin now: 0 yes, 1 no")
    options = parser.parse_args(arguments)
    return run_command("sitecam-night", load, _check if options.check else _hold, options)


def _check(settings: Settings, _: argparse.Namespace) -> int:
    """May a night begin now? For the timer, which asks again every quarter of an hour."""
    paths, now = CameraPaths(settings.state_dir), datetime.now(UTC)
    load_fleet(paths.fleet)
    why_not = "This camera is being forgotten." if is_forgetting(paths) else not_now(settings, now)
    if why_not:
        print(why_not, flush=True)
        return 1
    found = objections(System(settings.state_dir).look(), now)
    if found:
        said = f"Not now: {' '.join(map(str, found))} It looks again every quarter of an hour of this night."
        write_night_status(
            paths.night_status, NightStatus("failed", now.date().isoformat(), message=said, updated_utc=now)
        )
        print(said, flush=True)
    return int(bool(found))


def _hold(settings: Settings, options: argparse.Namespace) -> int:
    if is_forgetting(CameraPaths(settings.state_dir)):
        raise NightError("This camera is being forgotten", means="It takes part in no night", do="Enrol it again")
    flower.settle_in(CameraPaths(settings.state_dir).flower)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log every look for a task: five lines a second
    now = datetime.now(UTC)
    window_s = left_s(settings, now) or _BY_DAY_S if options.window_minutes is None else options.window_minutes * 60
    night = Night(settings, name=options.night or now.date().isoformat(), window_s=window_s)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: night.stop())
    night.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
