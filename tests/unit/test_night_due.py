from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server import cli
from server.config import ServerSettings, load
from server.night_due import not_due
from server.registry import Registry
from tests.fakes.site import write_server_settings

NOW = datetime.now(UTC)


def settings(root: Path, begins: datetime, *, window_s: float = 7200) -> tuple[Path, ServerSettings]:
    path = write_server_settings(root / "sitecam-server.toml")
    text = path.read_text()
    head, section, rest = text.partition("[night]\n")
    path.write_text(f'{head}[night]\nbegins = "{begins:%H:%M}"\nwindow_s = {window_s}\n{rest if section else ""}')
    loaded = load(path)
    loaded.state_dir.mkdir(exist_ok=True)
    return path, loaded


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    (tmp_path / "state").mkdir(exist_ok=True)
    return Registry(tmp_path / "state" / "registry.sqlite")


def test_a_night_is_due_once(tmp_path: Path, registry: Registry) -> None:
    _, found = settings(tmp_path, NOW - timedelta(hours=1))
    assert not_due(found, registry, NOW) == ""
    night = registry.begin("tonight")
    assert not_due(found, registry, NOW) == ""  # cut off: it goes on
    registry.end(night, "no quorum", "1 of 2 cameras came", {})
    assert not_due(found, registry, NOW) == "Tonight's night was held: no quorum. 1 of 2 cameras came"
    assert not_due(found, registry, NOW + timedelta(days=1)) == ""


def test_a_night_that_fails_is_tried_three_times(tmp_path: Path, registry: Registry) -> None:
    _, found = settings(tmp_path, NOW - timedelta(hours=1))
    for number in range(3):
        assert not_due(found, registry, NOW) == ""
        registry.end(registry.begin(f"try {number}"), "failed", "The disk is full.", {})
    assert not_due(found, registry, NOW) == (
        "Tonight's night has failed 3 times: The disk is full. Look at that first."
    )


def test_by_day_the_timer_s_command_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, found = settings(tmp_path, NOW + timedelta(hours=3))
    assert cli.main(["--config", str(path), "round", "--when-due"]) == 0
    assert "It is day: nights are from" in capsys.readouterr().out
    assert Registry(found.state_dir / "registry.sqlite").nights() == []
