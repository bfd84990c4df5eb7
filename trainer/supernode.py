"""The camera's SuperNode: Flower's process that talks to the server; we start it, end it, and read why it ended."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from appliance.errors import NightError
from appliance.fleet import Fleet
from appliance.paths import CameraPaths
from trainer import flower

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_STAYS = "It does not train tonight; its model stays"


class SuperNode:
    """A SuperNode that only queues messages; see trainer/executor.py for who takes them.

    Args:
        paths: The camera's.
        fleet: Its fleet.
        secret: File with the secret that SuperNode and executor share.
        port: Of its Runtime API, on loopback.
        proxy: The one way out, an HTTP proxy's address.
    """

    def __init__(self, paths: CameraPaths, fleet: Fleet, secret: Path, port: int, proxy: str) -> None:
        self._log = paths.flower / "supernode.log"
        self.address = f"127.0.0.1:{port}"
        command = [
            flower.program("flower-supernode"),
            *("--superlink", flower.endpoint(*fleet.address)),
            *("--root-certificates", str(paths.fleet / "ca.pem")),
            *("--auth-supernode-private-key", str(paths.node_key)),
            *("--isolation", "process"),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--superexec-auth-secret-file", str(secret)),
        ]
        environment = flower.environment(paths.flower, HTTPS_PROXY=proxy)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent
            )

    def wait_until_up(self, going: Callable[[], bool]) -> None:
        """Wait until its Runtime API answers.

        Raises:
            NightError: ``going`` said no first.
        """
        while going():
            try:
                httpx.get(f"http://{self.address}/", timeout=2, trust_env=False)
                return
            except httpx.TransportError:
                time.sleep(0.2)
        raise NightError("The night ended before it began", means="Nothing was trained")

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self._process.poll() is None

    @property
    def unknown(self) -> bool:
        """Whether it ended because the server does not take its key now."""
        return not self.running and "Failed to activate SuperNode" in self._said()

    @property
    def refused(self) -> bool:
        """Whether it ended because the server refused it at work: Flower's way of taking a 401."""
        return self._process.poll() == 0 and "terminated gracefully" in self._said()

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def why(self) -> NightError:
        """Why it ended by itself, as far as its log tells; what flwr 1.41 says in which case was tried."""
        said, status = self._said(), self._process.returncode
        if self.unknown:
            return NightError(
                "The server refuses this camera: it doesn't know its key, or it was revoked",
                means=_STAYS,
                do="Let it in on the server: sitecam-server code there, sitecam enrol CODE here",
            )
        if self.refused:
            if "SuperNode ID:" in said:
                return NightError(
                    "The server refused this camera in mid-night: it was revoked, or its clock jumped",
                    means="Tonight ends here for this camera; its model stays",
                    do="Ask who looks after the fleet; sitecam-fleet's trail says who revoked it and why",
                )
            return NightError(
                "The server refuses this camera's signature: its clock differs from the server's",
                means=_STAYS,
                do="Let both synchronise (timedatectl should say System clock synchronized: yes)",
            )
        lines = said.strip().splitlines()
        first = next((number for number, line in enumerate(lines) if "Exit Code" in line), max(0, len(lines) - 3))
        words = " / ".join(lines[first : first + 3])[:600]
        return NightError(
            f"The SuperNode ended with status {status}: {words or 'it said nothing'}",
            means="Tonight ends here for this camera; its model stays",
            do=f"Read {self._log}",
        )

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")


def _die_with_parent() -> None:
    """In the child: a SuperNode whose night was killed must not go on telling the server that it is there."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
