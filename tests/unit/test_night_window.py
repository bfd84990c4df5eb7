from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.config import load
from appliance.errors import ConfigError
from appliance.night_window import calendar_lines, next_window, read_time, window_at

BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("now", "begins", "ends", "zone", "inside"),
    [
        ("2026-11-24T00:59", "01:00", "05:00", "UTC", False),
        ("2026-11-24T01:00", "01:00", "05:00", "UTC", True),
        ("2026-11-24T04:59", "01:00", "05:00", "UTC", True),
        ("2026-11-24T05:00", "01:00", "05:00", "UTC", False),
        ("2026-11-24T00:00", "01:00", "05:00", BERLIN, True),  # 01:00 there
        ("2026-07-24T23:00", "01:00", "05:00", BERLIN, True),  # in summer an hour earlier
        ("2026-11-24T22:30", "22:00", "04:00", "UTC", True),
        ("2026-11-25T03:59", "22:00", "04:00", "UTC", True),
        ("2026-11-25T04:00", "22:00", "04:00", "UTC", False),
        ("2026-11-25T12:00", "22:00", "04:00", "UTC", False),
    ],
)
def test_a_moment_lies_in_the_window_or_not(now: str, begins: str, ends: str, zone: str, inside: bool) -> None:
    window = window_at(at(now), begins, ends, zone)
    assert (window is not None) == inside
    if window:
        assert window.begins_utc <= at(now) < window.ends_utc


def test_the_nights_of_clock_changes_are_an_hour_longer_or_shorter() -> None:
    autumn = window_at(at("2026-10-25T00:30"), "01:00", "05:00", BERLIN)
    spring = window_at(at("2026-03-29T00:30"), "01:00", "05:00", BERLIN)
    assert autumn is not None
    assert spring is not None
    assert autumn.ends_utc - autumn.begins_utc == timedelta(hours=5)
    assert spring.ends_utc - spring.begins_utc == timedelta(hours=3)


def test_the_next_window_is_tonights_or_tomorrows() -> None:
    assert next_window(at("2026-11-24T00:59"), "01:00", "05:00", "UTC").begins_utc == at("2026-11-24T01:00")
    assert next_window(at("2026-11-24T02:00"), "01:00", "05:00", "UTC").begins_utc == at("2026-11-25T01:00")
    assert next_window(at("2026-11-24T23:00"), "22:00", "04:00", "UTC").begins_utc == at("2026-11-25T22:00")


def test_a_timer_fires_every_quarter_of_an_hour_within_the_window() -> None:
    assert calendar_lines("01:00", "05:00", BERLIN) == ["*-*-* 01,02,03,04:00,15,30,45:00 Europe/Berlin"]
    assert calendar_lines("23:50", "00:25", "UTC") == ["*-*-* 23:50:00 UTC", "*-*-* 00:05,20:00 UTC"]
    assert calendar_lines("01:00", "01:10", "UTC") == ["*-*-* 01:00:00 UTC"]


@pytest.mark.parametrize(
    "text", ["1:00", "24:00", "01:60", "0100", "", "aa:bb", "01:00:00", "-1:00", "\uff10\uff11:00"]
)
def test_what_is_no_time_of_the_day_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_time(text)
    path = tmp_path / "sitecam.toml"
    path.write_text(f'state_dir = "s"\n[camera]\nname = "gate"\n[night]\nbegins = "{text}"\n')
    with pytest.raises(ConfigError, match=r"night\.begins"):
        load(path)


def test_a_window_that_is_empty_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sitecam.toml"
    path.write_text('state_dir = "s"\n[camera]\nname = "gate"\n[night]\nbegins = "02:00"\nends = "02:00"\n')
    with pytest.raises(ConfigError, match=r"night\.ends"):
        load(path)
