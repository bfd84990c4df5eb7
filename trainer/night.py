"""The night process: is tonight a good night? Start a SuperNode, answer the server, end with the window."""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx

from appliance.command import run_command
from appliance.config import DEFAULT_PATH, Settings, load
from appliance.errors import NightError, SitecamError
from appliance.files import write_atomically
from appliance.fleet import Fleet, load_fleet
from appliance.models.shelf import Shelf
from appliance.paths import CameraPaths
from appliance.ports import free_port
from trainer import flower
from trainer.client import Camera, client_app
from trainer.executor import Executor
from trainer.ledger import note_traffic
from trainer.reach import wait_for_server
from trainer.wire import WireProcess

logger = logging.getLogger(__name__)

_NICENESS = 10
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


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
        self._node: subprocess.Popen[bytes] | None = None
        self._paths.flower.mkdir(parents=True, exist_ok=True)
        self.camera = Camera(
            settings=settings,
            paths=self._paths,
            shelf=Shelf(self._paths.models, self._fleet.signing_key),
            night=name,
            closing=self._paths.flower / "closing",
            stopping=self._stopping,
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
            self._wait_for_server()
            self._serve()
        except (SitecamError, OSError) as error:
            camera.say("failed", str(error))
            raise
        if self._stopping.is_set():
            camera.say("failed", "Stopped before the server had closed the night")
        elif not camera.closing.exists():
            camera.say("done", "The window ended before the server had closed the night")

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

    def _serve(self) -> None:
        """Answer the server's messages until the night ends."""
        wire = WireProcess(*self._fleet.address)
        try:
            runtime = self._start_node(wire)
            Executor(runtime, self._secret, client_app(self.camera)).run(self._going)
            if self.camera.closing.exists():
                time.sleep(2)  # the SuperNode still has to send the last reply
        finally:
            self._end_node()
            traffic = wire.close()
            note_traffic(self._paths.ledger, self._name, traffic.up_bytes, traffic.down_bytes)

    @property
    def _secret(self) -> Path:
        return self._paths.flower / "executor.secret"

    @property
    def _log(self) -> Path:
        return self._paths.flower / "supernode.log"

    def _going(self) -> bool:
        if self._node is not None and self._node.poll() is not None and not self._stopping.is_set():
            raise _node_ended(self._node.returncode, self._log)
        return not (self._stopping.is_set() or self.camera.closing.exists() or time.monotonic() > self._ends)

    def _wait_for_server(self) -> None:
        wait_for_server(
            *self._fleet.address,
            self._paths.fleet / "ca.pem",
            ends=self._ends,
            stopping=self._stopping,
            say=lambda text: self.camera.say("waiting", text),
        )

    def _start_node(self, wire: WireProcess) -> str:
        """Start the SuperNode; return its Runtime API's address once that answers."""
        write_atomically(self._secret, secrets.token_bytes(32), mode=0o600)
        port = free_port(
            "127.0.0.1",
            self._settings.night.runtime_port,
            means="The SuperNode can't start",
            do="Set another one as night.runtime_port in sitecam.toml, or 0 for any that is free",
        )
        host, server_port = self._fleet.address
        command = [
            flower.program("flower-supernode"),
            *("--superlink", flower.endpoint(host, server_port)),
            *("--root-certificates", str(self._paths.fleet / "ca.pem")),
            *("--auth-supernode-private-key", str(self._paths.node_key)),
            *("--isolation", "process"),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--superexec-auth-secret-file", str(self._secret)),
        ]
        environment = flower.environment(self._paths.flower, HTTPS_PROXY=wire.url)
        with self._log.open("wb") as log:
            self._node = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent
            )
        address = f"127.0.0.1:{port}"
        while self._going():
            try:
                httpx.get(f"http://{address}/", timeout=2, trust_env=False)
                return address
            except httpx.TransportError:
                time.sleep(0.2)
        raise NightError("The night ended before it began", means="Nothing was trained")

    def _end_node(self) -> None:
        if self._node is None:
            return
        self._node.terminate()
        try:
            self._node.wait(10)
        except subprocess.TimeoutExpired:
            self._node.kill()
            self._node.wait()


def _die_with_parent() -> None:
    """In the child: a SuperNode whose night was killed must not go on telling the server that it is there."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _node_ended(status: int, log: Path) -> NightError:
    """Why the SuperNode ended, as far as its log tells."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if any("Failed to activate SuperNode" in line for line in lines):
        return NightError(
            "The server refuses this camera: it doesn't know its key, or the clocks differ by seconds",
            means="It does not train tonight; its model stays",
            do="Check the clock; then let it in on the server with sitecam-server enrol",
        )
    first = next((number for number, line in enumerate(lines) if "Exit Code" in line), max(0, len(lines) - 3))
    return NightError(
        f"The SuperNode ended with status {status}: {' / '.join(lines[first : first + 3])[:600] or 'it said nothing'}",
        means="Tonight ends here for this camera; its model stays",
        do=f"Read {log}",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The ``sitecam-night`` command."""
    parser = argparse.ArgumentParser(prog="sitecam-night", description="Train with the fleet for one night.")
    parser.add_argument("--config", type=Path, default=DEFAULT_PATH, help="the camera's sitecam.toml")
    parser.add_argument("--window-minutes", type=float, default=240, help="end by itself after so long (default: 240)")
    parser.add_argument("--night", default="", help="name of the night (default: today's date, UTC)")
    return run_command("sitecam-night", load, _hold, parser.parse_args(arguments))


def _hold(settings: Settings, options: argparse.Namespace) -> int:
    flower.settle_in(CameraPaths(settings.state_dir).flower)
    night = Night(
        settings,
        name=options.night or datetime.now(UTC).date().isoformat(),
        window_s=options.window_minutes * 60,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: night.stop())
    night.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
