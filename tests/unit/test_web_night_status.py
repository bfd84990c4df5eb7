from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.night_status import IDLE, PHASES, NightStatus, read_night_status, write_night_status

NOW = datetime(2026, 11, 22, 2, 14, 5, tzinfo=UTC)


@pytest.mark.parametrize("phase", PHASES)
def test_what_is_written_is_read_again(tmp_path: Path, phase: str) -> None:
    path = tmp_path / "night.json"
    status = NightStatus(phase, "2026-11-22", 2, 3, "Straße, 24 frames", NOW)  # type: ignore[arg-type]
    write_night_status(path, status)
    assert read_night_status(path) == status
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_an_idle_night(tmp_path: Path) -> None:
    assert read_night_status(tmp_path / "night.json") == IDLE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"phase": "training"}',
        b'{"phase": "dancing", "night": null, "round": 0, "rounds": 0, "message": "", "updated_utc": null}',
        b'{"phase": "idle", "night": null, "round": "x", "rounds": 0, "message": "", "updated_utc": null}',
        b'{"phase": ["idle"], "night": null, "round": 0, "rounds": 0, "message": "", "updated_utc": null}',
        b'{"phase": "idle", "night": 1, "round": 0, "rounds": 0, "message": "", "updated_utc": "12:00"}',
    ],
)
def test_a_damaged_file_is_an_idle_night_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "night.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert read_night_status(path) == IDLE
    assert len(caplog.records) == 1
    assert str(path) in caplog.text


def test_a_time_that_is_not_utc_is_refused() -> None:
    with pytest.raises(ValueError, match="not UTC"):
        NightStatus(updated_utc=datetime(2026, 11, 22))  # noqa: DTZ001  # that is the point
