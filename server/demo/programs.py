"""The demo's processes: the very commands that run on a camera, started and ended together."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from appliance.errors import NightError, SitecamError
from server.demo.site import DemoCamera

logger = logging.getLogger(__name__)


class Programs:
    """Processes that end when the demo does.

    Args:
        logs: Folder for their output.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()

    def run(self, module: str, *arguments: str) -> str:
        """Run a command to its end; return what it printed.

        Raises:
            SitecamError: It failed, with its own words.
        """
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode:
            raise SitecamError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"{module} failed")
        return done.stdout.strip()

    def start(self, name: str, module: str, *arguments: str) -> None:
        """Start a command in the background."""
        with (self._logs / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], stdout=log, stderr=subprocess.STDOUT
            )

    def status(self, name: str) -> int | None:
        """The exit status of a command; None while it runs."""
        return self._running[name].poll()

    def wait(self, name: str, *, timeout_s: float) -> int | None:
        """Wait for a command's end; None where it goes on."""
        try:
            return self._running[name].wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self, name: str) -> None:
        """End a command as a power cut would."""
        self._running[name].kill()
        self._running[name].wait()

    def last_words(self, name: str) -> str:
        """The end of what a command printed."""
        text = (self._logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        return " / ".join(text.strip().splitlines()[-3:])[-500:]

    def stop(self) -> None:
        """End everything that still runs."""
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        for name, process in self._running.items():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                logger.warning("%s did not end by itself and was killed", name)
                process.kill()
                process.wait()


def page_state(camera: DemoCamera) -> dict[str, Any] | None:
    """What a camera's page says; None where it doesn't answer."""
    try:
        answer = httpx.get(f"{camera.page}api/status", timeout=5, trust_env=False)
        answer.raise_for_status()
        return dict(answer.json())
    except httpx.HTTPError:
        return None


def wait_for_page(
    programs: Programs,
    camera: DemoCamera,
    good: Callable[[dict[str, Any]], bool],
    *,
    what: str,
    timeout_s: float = 90,
) -> dict[str, Any]:
    """Wait until a camera's page shows something.

    Raises:
        NightError: It didn't in time, or the camera's process ended.
    """
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends:
        if programs.status(camera.name) is not None:
            raise NightError(f"{camera.name} ended: {programs.last_words(camera.name)}")
        state = page_state(camera)
        if state is not None and good(state):
            return state
        time.sleep(0.3)
    raise NightError(
        f"{camera.name}'s page did not show {what} within {timeout_s:.0f} s: {programs.last_words(camera.name)}"
    )
