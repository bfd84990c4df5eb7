"""A browser, and a page to look at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.web.server import PageServer
from tests.browser.chromium import Chromium, Tab
from tests.browser.looking import LIVE, SIZES
from tests.fakes.camera_page import let_in_app
from tests.fakes.page_source import FakePageSource


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    chromium = Chromium(tmp_path_factory.mktemp("chromium") / "profile")
    yield chromium
    chromium.close()


@pytest.fixture
def source() -> FakePageSource:
    return FakePageSource(rate_fps=10, size=(1280, 960))


@pytest.fixture
def server(source: FakePageSource, tmp_path: Path) -> Iterator[PageServer]:
    """The live page, as somebody sees it who is logged in."""
    running = PageServer(let_in_app(source, tmp_path / "camera"), "127.0.0.1", 0)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def open_page(browser: Chromium, server: PageServer) -> Iterator[Callable[..., Tab]]:
    """Opens the page, live: ``open_page("phone", dark=True)``."""
    opened: list[Tab] = []

    def open_at(size: str, *, dark: bool = False) -> Tab:
        width, height = SIZES[size]
        tab = browser.open(width=width, height=height, dark=dark, phone=width < 600)
        opened.append(tab)
        tab.go(server.url)
        tab.wait_for(LIVE)
        return tab

    yield open_at
    for tab in opened:
        tab.close()


@pytest.fixture
def tab(open_page: Callable[..., Tab]) -> Tab:
    """The page on a phone, live."""
    return open_page("phone")


@pytest.fixture
def artefacts(tmp_path: Path) -> Path:
    """Where screenshots go: the folder that SITECAM_ARTEFACTS names, else the test's own."""
    folder = Path(os.environ.get("SITECAM_ARTEFACTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
