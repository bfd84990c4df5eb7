"""Installs the official Node command line once a machine, and runs its ``edge-impulse-linux-runner``."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import connect

from tests.fakes.waiting import wait_until

_HERE = Path(__file__).resolve().parent
_CACHE = _HERE.parents[1] / ".sitecam" / "cache" / "tests" / "node"
_PINS = ("package.json", "package-lock.json")  # the lock's hashes say what is let in, wherever it comes from
_PATIENCE = ("--fetch-retries=1", "--fetch-retry-mintimeout=2000", "--fetch-timeout=30000")  # then it is unreachable
_UNREACHABLE = re.compile(r"ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|ENETUNREACH|network")
_COLOURS = re.compile(r"\x1b\[\d+m")
START_S = 60.0


class NoNodeError(Exception):
    """It can't be had here: no Node.js, or nowhere to fetch the packages from."""


def install() -> Path:
    """The command ``edge-impulse-linux-runner``, installed below the project's own cache.

    Raises:
        NoNodeError: See there.
        RuntimeError: npm failed otherwise.
    """
    if not (shutil.which("npm") and shutil.which("node")):
        raise NoNodeError("Node.js and npm are not installed (Debian: apt install nodejs npm)")
    pins = hashlib.sha256(b"".join((_HERE / name).read_bytes() for name in _PINS)).hexdigest()[:12]
    folder = _CACHE / pins
    command = folder / "node_modules" / ".bin" / "edge-impulse-linux-runner"
    folder.mkdir(parents=True, exist_ok=True)
    with (_CACHE / "lock").open("w") as lock:  # several test processes want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            for name in _PINS:
                shutil.copyfile(_HERE / name, folder / name)
            # No package's own install script is run: none of them is needed.
            ran = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *_PATIENCE]
            made = subprocess.run(ran, cwd=folder, capture_output=True, text=True, check=False)
            if made.returncode and _UNREACHABLE.search(made.stderr):
                raise NoNodeError(f"npm can't fetch the packages: {made.stderr.strip()[-300:]}")
            if made.returncode:
                raise RuntimeError(made.stderr)
            (folder / "complete").touch()
    return command


class NodeRunner:
    """An ``edge-impulse-linux-runner`` that runs an .eim.

    Attributes:
        url: Where its HTTP server listens, on loopback.
        process: Its process.
    """

    def __init__(self, command: Path, eim: Path, folder: Path, how: Callable[[int], list[str]]) -> None:
        """Start it; ``how`` gives the options for a free port."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "runner.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [command, "--model-file", eim, "--verbose", *how(port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HOST": "127.0.0.1", "HOME": str(folder)},
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """What it has said so far, without colours."""
        return _COLOURS.sub("", self._log.read_text(encoding="utf-8", errors="replace"))

    def get(self, path: str) -> httpx.Response:
        """Fetch something, as soon as it answers.

        Raises:
            AssertionError: It ended, or never answered.
        """

        def answered() -> httpx.Response | None:
            assert self.process.poll() is None, self.log
            try:
                return httpx.get(f"{self.url}{path}", timeout=20)
            except httpx.TransportError:
                return None

        found = wait_until(answered, START_S)
        assert found is not None
        return found

    def messages(self) -> Iterator[dict[str, Any]]:
        """What it tells a websocket, from its hello on."""
        with connect(self.url.replace("http", "ws"), open_timeout=20) as websocket:
            while True:
                yield json.loads(websocket.recv(timeout=20))

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        self.process.terminate()
        self.process.wait(20)


@contextmanager
def running(command: Path, eim: Path, folder: Path, how: Callable[[int], list[str]]) -> Iterator[NodeRunner]:
    """One that is stopped in the end."""
    runner = NodeRunner(command, eim, folder, how)
    try:
        yield runner
    finally:
        runner.stop()


def http_server(port: int) -> list[str]:
    """Options: pictures are sent to it."""
    return ["--run-http-server", str(port)]


def fake_camera(picture: Path, *more: str) -> Callable[[int], list[str]]:
    """Options: it watches one picture for ever and shows it on its page."""
    return lambda port: [
        *("--fake-camera", str(picture)),
        *("--preview-host", "127.0.0.1", "--preview-port", str(port)),
        *more,
    ]
