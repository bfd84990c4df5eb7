"""The page that is attacked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.security.whole import Whole, whole_page


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Whole]:
    with whole_page(tmp_path / "camera") as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """One for all tests of a module that change nothing."""
    with whole_page(tmp_path_factory.mktemp("shared") / "camera") as running:
        yield running


@pytest.fixture(scope="module")
def looker(shared: Whole) -> Iterator[httpx.Client]:
    """An admin who only looks at the shared page."""
    with shared.client("admin") as client:
        yield client


@pytest.fixture(scope="module")
def passer_by(shared: Whole) -> Iterator[httpx.Client]:
    """A stranger who only looks at the shared page."""
    with shared.client() as client:
        yield client


@pytest.fixture
def stranger(page: Whole) -> Iterator[httpx.Client]:
    with page.client() as client:
        yield client


@pytest.fixture
def admin(page: Whole) -> Iterator[httpx.Client]:
    with page.client("admin") as client:
        yield client
