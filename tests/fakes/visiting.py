"""A running camera's page, as somebody sees it who is logged in there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.config import load
from server.demo.pages import page_state
from server.demo.site import DemoCamera


def state_of(config: Path) -> dict[str, Any] | None:
    """What the page of the camera with that sitecam.toml says; None where it doesn't answer."""
    settings = load(config)
    scheme = "https" if settings.page.https else "http"
    page = f"{scheme}://127.0.0.1:{settings.page.port}/"
    return page_state(DemoCamera(settings.camera.name, config, settings.state_dir, settings.camera.path, page))


def wait_for_state(config: Path, good: Callable[[dict[str, Any]], bool], *, timeout_s: float = 30) -> dict[str, Any]:
    """Wait until that page shows something."""
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends:
        state = state_of(config)
        if state is not None and good(state):
            return state
        time.sleep(0.1)
    raise AssertionError(f"the page did not show it within {timeout_s:g} s")
