"""Whether the timer should hold a night now: it fires every quarter of an hour, and a night is held once."""

from __future__ import annotations

from datetime import UTC, datetime

from appliance.night_window import ends_after, window_at
from server.config import ServerSettings
from server.registry import Registry

_TRIES = 3  # of a night that fails, before somebody should look first


def not_due(settings: ServerSettings, registry: Registry, now_utc: datetime) -> str:
    """Why no night should be begun now, in a sentence; empty where one should, or where one was cut off.

    Args:
        settings: The server's.
        registry: Its nights.
        now_utc: Timezone-aware.
    """
    begins, zone = settings.night.begins, settings.page.time_zone
    ends = ends_after(begins, settings.night.window_s)
    window = window_at(now_utc, begins, ends, zone)
    if window is None:
        return f"It is day: nights are from {begins} to {ends} ({zone})."
    tonight = [
        record
        for record in registry.nights(limit=20)
        if datetime.fromisoformat(record.began_utc).astimezone(UTC) >= window.begins_utc
    ]
    for record in tonight:
        if record.outcome not in (None, "failed", "deployed"):
            return f"Tonight's night was held: {record.outcome}. {record.message}".strip()
    if sum(record.outcome == "failed" for record in tonight) >= _TRIES:
        return f"Tonight's night has failed {_TRIES} times: {tonight[0].message} Look at that first."
    return ""
