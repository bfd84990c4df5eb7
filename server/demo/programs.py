"""The demo's processes: the very commands that run on a camera, started and ended together."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from appliance.errors import NightError, SitecamError
from server.demo.pages import page_state
from server.demo.site import DemoCamera

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Programs:
    """Processes that end when the demo does.

    Args:
        logs: Folder for their output.

    Attributes:
        before: What is put before a background command of that name, to start it differently.
    """

    before: Callable[[str], Sequence[str]] = staticmethod(lambda _: ())

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()

    def run(self, module: str, *arguments: str, typed: str | None = None) -> str:
        """Run a command to its end; return what it printed.

        Args:
            module: The command's.
            arguments: Its command line.
            typed: What it reads from standard input.

        Raises:
            SitecamError: It failed, with its own words.
        """
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            input=typed,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode:
            raise SitecamError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"{module} failed")
        return done.stdout.strip()

    def start(self, name: str, module: str, *arguments: str) -> None:
        """Start a command in the background."""
        with (self._logs / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                [*self.before(name), sys.executable, "-m", module, *arguments], stdout=log, stderr=subprocess.STDOUT
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

    def printed(self, name: str) -> str:
        """All that a command has printed so far."""
        return (self._logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def last_words(self, name: str) -> str:
        """The end of it."""
        return " / ".join(self.printed(name).strip().splitlines()[-3:])[-500:]

    def wait_for(self, name: str, look: Callable[[], T | None], *, what: str, timeout_s: float = 90) -> T:
        """Look until a running command has come so far.

        Args:
            name: The command's.
            look: Gives None until then.
            what: What is waited for, for the error.
            timeout_s: For how long.

        Raises:
            NightError: It didn't in time, or the command ended.
        """
        ends = time.monotonic() + timeout_s
        while time.monotonic() < ends:
            if self.status(name) is not None:
                raise NightError(f"{name} ended: {self.last_words(name)}")
            found = look()
            if found is not None:
                return found
            time.sleep(0.3)
        raise NightError(f"{name} did not show {what} within {timeout_s:.0f} s: {self.last_words(name)}")

    def stop(self) -> None:
        """End everything that still runs; interrupted in that, end it at once."""
        try:
            for process in self._running.values():
                if process.poll() is None:
                    process.terminate()
            for name in self._running:
                if self.wait(name, timeout_s=20) is None:
                    logger.warning("%s did not end by itself and was killed", name)
                    self.kill(name)
        finally:
            for process in self._running.values():
                if process.poll() is None:
                    process.kill()


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

    def look() -> dict[str, Any] | None:
        state = page_state(camera)
        return state if state is not None and good(state) else None

    return programs.wait_for(camera.name, look, what=what, timeout_s=timeout_s)
