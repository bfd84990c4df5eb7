"""What is left of a night's window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from server.window import Window


def began(ago_s: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(timespec="seconds")


def test_a_window_counts_from_the_nights_beginning() -> None:
    assert 85 < Window(began(10), 100).left_s <= 90
    assert Window(began(200), 100).left_s < 0


def test_a_beginning_in_the_future_makes_no_window_longer() -> None:
    assert Window(began(-3600), 100).left_s <= 100


def test_deadlines_leave_what_is_reserved() -> None:
    window = Window(began(0), 100)
    assert window.within(30) == 30
    assert window.within(300) == pytest.approx(99.5, abs=1)
    assert window.within(300, reserve_s=60) == pytest.approx(39.5, abs=1)
    assert window.within(300, reserve_s=600) == 1.0
