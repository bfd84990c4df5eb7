"""The fixture that puts the stand-in picamera2 where Sitecam imports it from."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.fakes.picamera2_fake import FakeSensor


@pytest.fixture
def sensor(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSensor]:
    """A camera on the ribbon cable, and the two modules that drive it."""
    fake = FakeSensor()
    for name, module in fake.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    yield fake
    fake.stalled.clear()
    if fake.hang_on_close is not None:
        fake.hang_on_close.set()
