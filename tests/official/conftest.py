"""The official Node command line, where it can be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.official.node import NoNodeError, install


@pytest.fixture(scope="session")
def node_runner() -> Path:
    """``edge-impulse-linux-runner``, pinned."""
    try:
        return install()
    except NoNodeError as error:
        pytest.skip(str(error))
