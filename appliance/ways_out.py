"""What leaves a camera beside its nights: events, to the neighbours that its settings name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from appliance.config import Settings
from appliance.notify.outbox import Sent
from appliance.privacy import OtherWay


def other_ways(settings: Settings, sent: Sequence[Sent]) -> tuple[OtherWay, ...]:
    """The privacy page's lines, day by day.

    Args:
        settings: The camera's: where it goes, and whether with pictures.
        sent: What left per day; :meth:`appliance.notify.neighbours.Neighbours.sent`.
    """
    mqtt, webhook = settings.mqtt, urlsplit(settings.webhook.url).hostname  # its path may be a secret
    where = {
        "mqtt": f"the MQTT broker {mqtt.host}:{mqtt.port}" if mqtt.host else "an MQTT broker of earlier settings",
        "webhook": f"the webhook's server {webhook}" if webhook else "a webhook of earlier settings",
    }
    pictures = "with pictures of events where there were any" if mqtt.snapshots else "without pictures"
    what = {"mqtt": f"events and state, {pictures}", "webhook": "events, without pictures"}
    return tuple(
        OtherWay(
            each.neighbour,
            f"{each.messages} messages ({each.size_bytes:,} bytes) to {where.get(each.neighbour, each.neighbour)}:"
            f" {what.get(each.neighbour, 'events')}.",
            datetime.fromisoformat(each.day).replace(tzinfo=UTC),
        )
        for each in sent
    )
