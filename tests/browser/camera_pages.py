"""Fixtures of a camera's pages in Playwright: a test module names this one in ``pytest_plugins``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.camera_site import CameraSite
from tests.browser.playing import Open, chromium, context_of

from playwright.sync_api import Browser, Page  # isort: skip  # skipped where it isn't installed


@pytest.fixture(scope="module")
def chrome() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def site(tmp_path: Path) -> Iterator[CameraSite]:
    running = CameraSite(tmp_path)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def open_as(chrome: Browser, site: CameraSite) -> Iterator[Open]:
    """``open_as("Ada", "/events", "phone")``: a page that has no error of its own in the end."""
    contexts, errors = [], []

    def opened(name: str | None, path: str, size: str = "desktop", *, dark: bool = False) -> Page:
        context = context_of(chrome, site, name, size, dark=dark)  # type: ignore[arg-type]  # it wants url and cookie
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(path, wait_until="domcontentloaded")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []
