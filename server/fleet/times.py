"""Times as people on the site read them."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta, tzinfo

from appliance.errors import ConfigError

_EVENING, _MORNING = 18, 10  # the hours between which a time yesterday or today was "last night"


def site_zone(name: str) -> tzinfo:
    """The site's time zone.

    Raises:
        ConfigError: It is unknown.
    """
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(
            f"The time zone {name!r} is unknown",
            means="The fleet page can't show the site's time",
            do='Write [page] time_zone in the server\'s settings like "Europe/Berlin"',
        ) from error


def parse_utc(text: str) -> datetime:
    """A time as the registry holds it, timezone-aware UTC; one without zone is UTC."""
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def site_time(at_utc: str | None, now: datetime, zone: tzinfo) -> str:
    """ "14:05" today, "3 Nov, 14:05" on another day, with its year where that isn't this one; empty for None."""
    if not at_utc:
        return ""
    local, today = parse_utc(at_utc).astimezone(zone), now.astimezone(zone)
    clock = local.strftime("%H:%M")
    if local.date() == today.date():
        return clock
    year = "" if local.year == today.year else f" {local.year}"
    return f"{local.day} {local.strftime('%b')}{year}, {clock}"


def site_day(at_utc: str, zone: tzinfo) -> str:
    """ "3 Nov"."""
    local = parse_utc(at_utc).astimezone(zone)
    return f"{local.day} {local.strftime('%b')}"


def last_seen(at_utc: str | None, now: datetime, zone: tzinfo, *, tonight: bool) -> str:
    """When a camera was last heard: "tonight", "last night", "today", a date, or "never".

    Args:
        at_utc: ISO 8601; None for never.
        now: Timezone-aware.
        zone: The site's.
        tonight: Whether that was in a night that still goes on.
    """
    if not at_utc:
        return "never"
    at = parse_utc(at_utc)
    local, clock = at.astimezone(zone), at.astimezone(zone).strftime("%H:%M")
    if tonight:
        return f"tonight, {clock}"
    if timedelta(0) <= now - at < timedelta(hours=24):
        if local.hour >= _EVENING or local.hour < _MORNING:
            return f"last night, {clock}"
        return f"today, {clock}" if local.date() == now.astimezone(zone).date() else f"yesterday, {clock}"
    return site_time(at_utc, now, zone)
