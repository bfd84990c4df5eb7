"""A Debian machine in a folder, and a small Sitecam to install on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.debian import FakeDebian, make_source


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDebian:
    """The machine; whoever runs the tests counts as root there."""
    monkeypatch.setattr("appliance.installing.machine.os.geteuid", lambda: 0)
    monkeypatch.setattr("appliance.installing.placing.os.chown", lambda *_: None)
    monkeypatch.setattr("appliance.installing.machine.platform.machine", lambda: "x86_64")
    monkeypatch.setattr("appliance.installing.machine.free_mb", lambda _: 20_000)
    monkeypatch.setattr("appliance.installing.machine._taken", lambda _: False)
    return FakeDebian(tmp_path / "machine")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A Sitecam of version 1.0.0."""
    return make_source(tmp_path / "source")
