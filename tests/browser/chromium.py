"""Drives a headless Chromium through its DevTools protocol: just enough to look at a page."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
DEADLINE_S = 30.0


class Chromium:
    """One browser process with an empty profile."""

    def __init__(self, profile: Path) -> None:
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if program is None:
            pytest.skip("chromium isn't installed (Debian: apt install chromium)")
        self._log = (profile.parent / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        port_file = profile / "DevToolsActivePort"
        try:
            wait_until(lambda: port_file.exists() and port_file.read_text().count("\n") >= 1)
        except AssertionError:
            self.close()
            raise
        port, path = port_file.read_text().split("\n")[:2]
        self._address = f"ws://127.0.0.1:{port}"
        self._browser = Session(f"{self._address}{path}")

    def open(self, *, width: int, height: int, dark: bool = False, phone: bool = False) -> Tab:
        """A new blank page of that size, in CSS pixels."""
        target = self._browser.call("Target.createTarget", url="about:blank")["targetId"]
        tab = Tab(Session(f"{self._address}/devtools/page/{target}"))
        tab.session.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.session.call("Emulation.setEmulatedMedia", features=[scheme])
        for domain in ("Page", "Runtime", "Log", "Network", "Accessibility"):
            tab.session.call(f"{domain}.enable")
        return tab

    def close(self) -> None:
        """End the browser and wait until it has ended."""
        if hasattr(self, "_browser"):
            self._browser.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class LeftError(Exception):
    """The page was left while it was asked something."""


class Session:
    """One DevTools connection: commands, and the events that came meanwhile."""

    def __init__(self, url: str) -> None:
        websockets = pytest.importorskip("websockets.sync.client", reason="the websockets package is missing")
        self._stack = contextlib.ExitStack()
        self._socket = self._stack.enter_context(websockets.connect(url, max_size=None, proxy=None))
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message: dict[str, Any] = json.loads(self._socket.recv(timeout=DEADLINE_S))
            if message.get("id") == self._number:
                error = message.get("error")
                if error and "navigated" in error["message"]:
                    raise LeftError(f"{method}: {error}")
                assert not error, f"{method}: {error}"
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def close(self) -> None:
        self._stack.close()


class Tab:
    """One page."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def go(self, url: str) -> None:
        """Open an address and wait until its HTML is read (not for pictures: a stream never ends)."""
        self.session.call("Page.navigate", url=url)
        self.wait_for("location.href !== 'about:blank' && document.readyState !== 'loading'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.session.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def text(self, selector: str) -> str:
        """What an element says, as rendered."""
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def wait_for(self, script: str) -> None:
        """Wait until a JavaScript expression is true, on this page or on one that it leads to."""

        def ready() -> bool:
            try:
                return bool(self.run(script))
            except LeftError:
                return False

        wait_until(ready, what=script)

    def press(self, key: str) -> None:
        """Press and release a key such as ``Tab`` or ``Enter``."""
        text = {"text": "\r"} if key == "Enter" else {}
        self.session.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, **text, **_code(key))
        self.session.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, **_code(key))

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Save what is to be seen as PNG; with ``whole``, all the way down."""
        shot = self.session.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """Everything on the console that isn't plain talk: errors, exceptions, refused resources."""
        self.run("0")  # collects what has arrived
        found = []
        for event in self.session.events:
            params = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                found.append(str(params["args"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        return found

    def addresses(self) -> list[str]:
        """Every address that the page asked for."""
        self.run("0")
        return [
            event["params"]["request"]["url"]
            for event in self.session.events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        self.session.call("Page.close")
        self.session.close()


def wait_until(ready: Callable[[], bool], *, what: str = "the browser") -> None:
    """Poll until something is so."""
    ends = time.monotonic() + DEADLINE_S
    while not ready():
        assert time.monotonic() < ends, f"waited {DEADLINE_S:g} s for {what}"
        time.sleep(0.05)


def _code(key: str) -> dict[str, int]:
    return {"windowsVirtualKeyCode": {"Tab": 9, "Enter": 13}[key]}
