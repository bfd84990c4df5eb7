"""When nights are: a window of the day in the site's time, over midnight and through changes of the clock.

Standard library only: the installer makes its timers of this before anything is installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

STEP_MINUTES = 15  # how often a camera looks again within its window


@dataclass(frozen=True)
class Window:
    """One night's window.

    Attributes:
        begins_utc: From here on, timezone-aware UTC.
        ends_utc: Until here, exclusive.
    """

    begins_utc: datetime
    ends_utc: datetime


def read_time(text: str) -> time:
    """A time of the day, ``HH:MM``.

    Raises:
        ValueError: It isn't one.
    """
    hours, colon, minutes = text.partition(":")
    if not (colon and len(hours) == len(minutes) == 2 and (hours + minutes).isascii() and text.isprintable()):
        raise ValueError(f"{text!r} is not a time like 01:00")
    return time(int(hours), int(minutes))


def is_time(text: str) -> bool:
    """Whether this is a time of the day, ``HH:MM``."""
    try:
        read_time(text)
    except ValueError:
        return False
    return True


def window_at(now_utc: datetime, begins: str, ends: str, zone: str) -> Window | None:
    """The window that this moment lies in; None by day.

    Args:
        now_utc: Timezone-aware.
        begins: ``HH:MM`` in the site's time.
        ends: Likewise; not later than ``begins`` where the night goes over midnight.
        zone: The site's time zone, an IANA name.
    """
    today = now_utc.astimezone(ZoneInfo(zone)).date()
    for day in (today - timedelta(days=1), today):
        window = _window(day, begins, ends, zone)
        if window.begins_utc <= now_utc < window.ends_utc:
            return window
    return None


def next_window(now_utc: datetime, begins: str, ends: str, zone: str) -> Window:
    """The first window that begins after this moment; arguments as for :func:`window_at`."""
    today = now_utc.astimezone(ZoneInfo(zone)).date()
    days = (today + timedelta(days=number) for number in range(-1, 3))
    return next(window for day in days if (window := _window(day, begins, ends, zone)).begins_utc > now_utc)


def calendar_lines(begins: str, ends: str, zone: str) -> list[str]:
    """What a systemd timer needs to fire every quarter of an hour within the window.

    Args:
        begins: ``HH:MM`` in the site's time.
        ends: Likewise.
        zone: An IANA name.

    Returns:
        Values for ``OnCalendar=`` (systemd.time(7), "Calendar Events").
    """
    minutes_of: dict[int, list[int]] = {}
    for moment in _steps(begins, ends):
        minutes_of.setdefault(moment.hour, []).append(moment.minute)
    hours_of: dict[tuple[int, ...], list[int]] = {}
    for hour, minutes in minutes_of.items():
        hours_of.setdefault(tuple(minutes), []).append(hour)
    return [f"*-*-* {_list(sorted(hours))}:{_list(minutes)}:00 {zone}" for minutes, hours in hours_of.items()]


def _list(numbers: Iterable[int]) -> str:
    return ",".join(f"{number:02}" for number in numbers)


def _steps(begins: str, ends: str) -> Iterator[time]:
    first, last = (_minute(text) for text in (begins, ends))
    if last <= first:
        last += 24 * 60
    for minute in range(first, last, STEP_MINUTES):
        yield time(minute // 60 % 24, minute % 60)


def _minute(text: str) -> int:
    moment = read_time(text)
    return moment.hour * 60 + moment.minute


def _window(day: date, begins: str, ends: str, zone: str) -> Window:
    last = day if _minute(ends) > _minute(begins) else day + timedelta(days=1)
    return Window(_utc(day, begins, zone), _utc(last, ends, zone))


def _utc(day: date, text: str, zone: str) -> datetime:
    """A local time as UTC; one that the clock jumps over is the moment of the jump, as good as any."""
    return datetime.combine(day, read_time(text), ZoneInfo(zone)).astimezone(UTC)


def ends_after(begins: str, length_s: float) -> str:
    """When a window of some length ends, ``HH:MM``; one of a day or more ends just before it begins again."""
    minutes = min(int(length_s // 60), 24 * 60 - STEP_MINUTES)
    last = (_minute(begins) + max(1, minutes)) % (24 * 60)
    return f"{last // 60:02}:{last % 60:02}"
