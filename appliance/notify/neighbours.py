"""All neighbours at once: hands every change of an event to those that the settings name, and says how they are."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime

from appliance.config import Settings
from appliance.events_record import Change, Event
from appliance.notify.camera_state import CameraState
from appliance.notify.mqtt import NAME as MQTT
from appliance.notify.mqtt import Mqtt, Portrait
from appliance.notify.outbox import Message, Outbox, Sent
from appliance.notify.settings_check import check
from appliance.notify.webhook import NAME as WEBHOOK
from appliance.notify.webhook import Webhook
from appliance.paths import CameraPaths
from appliance.status import Neighbour

OUTBOX = "outbox.sqlite"  # in the events' folder


class Neighbours:
    """Who is told of events. An ``appliance.events.EventListener`` (:meth:`put`).

    Args:
        settings: The camera's.
        fleet: The fleet's name; may be empty.
        alarm: What an alarm is called: "Bare head seen".
        state: How the camera is now; asked from a thread of ours, every other second.
        snapshot: An event's picture as a JPEG file, by its id; published only where ``mqtt.snapshots`` says so.

    Raises:
        ConfigError: See :func:`appliance.notify.settings_check.check`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        fleet: str = "",
        alarm: str = "Bare head seen",
        state: Callable[[], CameraState] = CameraState,
        snapshot: Callable[[str], bytes | None] = lambda _id: None,
    ) -> None:
        check(settings)
        self._camera, self._fleet = settings.camera.name, fleet
        path = CameraPaths(settings.state_dir).events / OUTBOX
        wanted = bool(settings.mqtt.host or settings.webhook.url)
        self._outbox = Outbox(path) if wanted or path.exists() else None
        self._mqtt: Mqtt | None = None
        self._webhook: Webhook | None = None
        if self._outbox is not None and settings.mqtt.host:
            portrait = Portrait(_identity(fleet, self._camera), self._camera, fleet, alarm)
            self._mqtt = Mqtt(settings.mqtt, self._outbox, portrait, state=state, snapshot=snapshot)
        if self._outbox is not None and settings.webhook.url:
            self._webhook = Webhook(settings.webhook, self._outbox)

    def start(self) -> None:
        """Tell them what waits."""
        for each in (self._mqtt, self._webhook):
            if each is not None:
                each.start()

    def stop(self, *, deadline_s: float = 5.0) -> None:
        """End; what they have not taken yet stays on the disk."""
        for each in (self._mqtt, self._webhook):
            if each is not None:
                each.stop(deadline_s=deadline_s)
        if self._outbox is not None:
            self._outbox.close()

    def put(self, event: Event, change: Change) -> None:
        """Have a change of an event wait for every neighbour; it is on the disk when this returns.

        ``deleted`` takes back what still waits about the event.
        """
        if self._outbox is None:
            return
        if self._mqtt is not None:
            self._mqtt.note(event, change)
        if change == "deleted":
            self._outbox.forget(event.id)
            return
        names = [name for name, each in ((MQTT, self._mqtt), (WEBHOOK, self._webhook)) if each is not None]
        for name in names:
            delivery = hashlib.sha256(f"{name} {event.id} {change}".encode()).hexdigest()[:32]
            body = self._body(event, change, delivery)
            self._outbox.put(Message(name, delivery, event.id, change, body, datetime.now(UTC)))
        if self._webhook is not None:
            self._webhook.wake()

    def status(self) -> tuple[Neighbour, ...]:
        """How each of them is."""
        found = []
        for name, each in ((MQTT, self._mqtt), (WEBHOOK, self._webhook)):
            if each is None or self._outbox is None:
                continue
            waiting, fault = self._outbox.waiting(name), each.fault or self._outbox.fault
            sentence = f"{_WORDS[name]}: {fault or 'it takes what it is sent.'}"
            if waiting and fault:
                sentence += f" {waiting} {'message waits' if waiting == 1 else 'messages wait'}."
            found.append(Neighbour(name, fault is None, sentence, each.sent, waiting, self._outbox.dropped(name)))
        return tuple(found)

    def sent(self, *, days: int = 30) -> list[Sent]:
        """What left for each of them per day (UTC), newest first; also for those that the settings no longer name."""
        return self._outbox.sent(days=days) if self._outbox is not None else []

    def sent_today(self) -> list[Sent]:
        """What left today (UTC)."""
        return self.sent(days=1)

    def _body(self, event: Event, change: Change, delivery: str) -> bytes:
        """Who took note of an event stays on the camera: neighbours need to know that somebody did."""
        body = {
            "delivery": delivery,
            "change": change,
            "camera": self._camera,
            "fleet": self._fleet,
            "event": {
                "id": event.id,
                "kind": event.kind,
                "sentence": event.sentence,
                "began_utc": event.began_utc.isoformat(),
                "ended_utc": event.ended_utc and event.ended_utc.isoformat(),
                "detail": {name: value for name, value in event.detail.items() if math.isfinite(value)},
                "acknowledged_utc": event.acknowledged_utc and event.acknowledged_utc.isoformat(),
                "false": event.false,
            },
        }
        return json.dumps(body).encode()


_WORDS = {MQTT: "The MQTT broker", WEBHOOK: "The webhook"}


def _identity(fleet: str, camera: str) -> str:
    """Letters, digits and underscores that no other camera has, of this fleet or of another on the same broker."""
    slug = re.sub(r"[^a-z0-9]+", "_", camera.lower()).strip("_")[:30]
    digest = hashlib.sha256(f"{fleet}\n{camera}".encode()).hexdigest()[:8]
    return f"{slug}_{digest}".lstrip("_")
