"""What Home Assistant must be told to show a camera: one retained message per entity.

The keys are those of its MQTT integration ("MQTT Discovery", "MQTT binary sensor", "MQTT sensor", "MQTT image" at
home-assistant.io/integrations/mqtt).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appliance import __version__

ONLINE, OFFLINE = "online", "offline"
ON, OFF = "ON", "OFF"

_DIAGNOSTIC = {"entity_category": "diagnostic"}
_SILENT_S = 300  # a state that is older is unknown: it comes once a minute


@dataclass(frozen=True)
class Topics:
    """Where a camera publishes.

    Attributes:
        base: Everything is below it: the setting and the camera's name.
    """

    base: str

    @property
    def availability(self) -> str:
        """``online`` or ``offline``, retained."""
        return f"{self.base}/availability"

    @property
    def alarm(self) -> str:
        """``ON`` while somebody must hear of something, retained."""
        return f"{self.base}/alarm"

    @property
    def state(self) -> str:
        """The camera's state as JSON, retained."""
        return f"{self.base}/state"

    @property
    def event(self) -> str:
        """Every change of an event as JSON."""
        return f"{self.base}/event"

    @property
    def snapshot(self) -> str:
        """The newest event's picture as a JPEG file, only where the settings say so."""
        return f"{self.base}/snapshot"


def discovery(
    topics: Topics, *, prefix: str, identity: str, camera: str, alarm: str, fleet: str, snapshots: bool
) -> Mapping[str, bytes]:
    """Discovery messages by topic, to be published retained.

    Args:
        topics: The camera's.
        prefix: Home Assistant's, ``homeassistant``.
        identity: Names this camera among all; letters, digits, ``_`` and ``-``.
        camera: Its name for people.
        alarm: What an alarm is called: "Bare head seen".
        fleet: The fleet's name; may be empty.
        snapshots: Whether pictures are published.
    """
    entities: dict[tuple[str, str], dict[str, Any]] = {
        ("binary_sensor", "alarm"): {
            "name": alarm,
            "device_class": "safety",  # ON means unsafe
            "state_topic": topics.alarm,
            "payload_on": ON,
            "payload_off": OFF,
            "json_attributes_topic": topics.event,
            "icon": "mdi:hard-hat",
        },
        ("binary_sensor", "problem"): {
            "name": "Problem",
            "device_class": "problem",
            "state_topic": topics.state,
            "value_template": "{{ value_json.problem_state }}",
            "payload_on": ON,
            "payload_off": OFF,
            "json_attributes_topic": topics.state,
            "json_attributes_template": "{{ {'problem': value_json.problem} | tojson }}",
            **_DIAGNOSTIC,
        },
        ("sensor", "decision"): _sensor(topics, "Decision", "label", icon="mdi:eye"),
        ("sensor", "confidence"): _sensor(
            topics, "Confidence", "confidence_percent", unit_of_measurement="%", state_class="measurement"
        ),
        ("sensor", "version"): _sensor(topics, "Model version", "version", icon="mdi:brain", **_DIAGNOSTIC),
        ("sensor", "rate"): _sensor(
            topics,
            "Frames per second",
            "decisions_per_s",
            unit_of_measurement="fps",
            state_class="measurement",
            **_DIAGNOSTIC,
        ),
        ("sensor", "temperature"): _sensor(
            topics,
            "Temperature",
            "temperature_c",
            device_class="temperature",
            unit_of_measurement="°C",
            state_class="measurement",
            **_DIAGNOSTIC,
        ),
    }
    if snapshots:
        entities["image", "snapshot"] = {
            "name": "Last event",
            "image_topic": topics.snapshot,
            "content_type": "image/jpeg",
        }
    shared = {
        "availability_topic": topics.availability,
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "qos": 1,
        "device": {
            "identifiers": [f"sitecam_{identity}"],
            "name": camera,
            "manufacturer": "Sitecam",
            "model": f"Hardhat camera of {fleet}" if fleet else "Hardhat camera",
            "sw_version": __version__,
        },
        "origin": {"name": "Sitecam", "sw_version": __version__},
    }
    messages = {}
    for (component, name), entity in entities.items():
        body = {**entity, "unique_id": f"sitecam_{identity}_{name}", **shared}
        if component == "image":
            del body["qos"]  # the image platform has none
        messages[f"{prefix}/{component}/sitecam_{identity}/{name}/config"] = json.dumps(body).encode()
    return messages


def _sensor(topics: Topics, name: str, value: str, **more: str) -> dict[str, Any]:
    return {
        "name": name,
        "state_topic": topics.state,
        "value_template": f"{{{{ value_json.{value} }}}}",
        "expire_after": _SILENT_S,
        **more,
    }
