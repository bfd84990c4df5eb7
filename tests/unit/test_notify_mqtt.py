"""A real broker gets events, state and discovery; it hears when the camera dies, and the camera outlives the broker."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.config import MqttSettings
from appliance.events import Event
from appliance.notify.backoff import Backoff
from appliance.notify.camera_state import CameraState
from appliance.notify.home_assistant import Topics, discovery
from appliance.notify.mqtt import Mqtt, Portrait
from appliance.notify.outbox import Message, Outbox
from tests.fakes.broker import PASSWORD, USER, Broker, Subscriber, broker_in, needs_mosquitto
from tests.fakes.certificates import Authority
from tests.fakes.waiting import wait_until

PROJECT = Path(__file__).resolve().parents[2]
PORTRAIT = Portrait("north_gate_12345678", "North gate", "Harbour site", "Bare head seen")
BASE = "sitecam/North gate"
STATE = CameraState("hardhat", 0.97, 7, 9.8, 51.25)
JPEG = b"\xff\xd8 a picture"


def message(number: int, what: str = "began") -> Message:
    return Message("mqtt", f"{number:032x}", "event-1", what, b'{"number": %d}' % number, datetime.now(UTC))


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    outbox = Outbox(tmp_path / "outbox.sqlite")
    yield outbox
    outbox.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with broker_in(tmp_path / "broker") as broker:
        yield broker


def settings(broker: Broker, tmp_path: Path, password: str = PASSWORD) -> MqttSettings:
    path = tmp_path / "mqtt.password"
    path.write_text(password)
    path.chmod(0o600)
    return MqttSettings("127.0.0.1", broker.port, ca=broker.authority.pem, user=USER, password_file=path)


@contextlib.contextmanager
def publishing(settings: MqttSettings, outbox: Outbox, states: list[CameraState] | None = None) -> Iterator[Mqtt]:
    now = states or [STATE]
    mqtt = Mqtt(
        settings,
        outbox,
        PORTRAIT,
        state=lambda: now[0],
        snapshot=lambda event_id: JPEG if event_id == "event-1" else None,
        backoff=Backoff(first_s=0.05, most_s=0.2),
    )
    mqtt.start()
    try:
        yield mqtt
    finally:
        mqtt.stop(deadline_s=30)


# Against the broker


@needs_mosquitto
def test_state_availability_and_events_reach_the_broker(broker: Broker, outbox: Outbox, tmp_path: Path) -> None:
    with Subscriber(broker) as subscriber, publishing(settings(broker, tmp_path), outbox) as mqtt:
        for number in range(3):
            outbox.put(message(number))
        wait_until(lambda: len(subscriber.bodies(f"{BASE}/event")) == 3)
        wait_until(lambda: outbox.waiting("mqtt") == 0)
        assert mqtt.fault is None
        assert mqtt.sent == 3
        assert subscriber.bodies(f"{BASE}/event") == [message(number).body for number in range(3)]
        assert subscriber.last(f"{BASE}/availability") == b"online"
        assert json.loads(subscriber.last(f"{BASE}/state")) == {
            "label": "hardhat",
            "version": 7,
            "problem": "",
            "problem_state": "OFF",
            "confidence_percent": 97.0,
            "decisions_per_s": 9.8,
            "temperature_c": 51.2,
        }
        assert subscriber.bodies(f"{BASE}/snapshot") == []  # pictures stay here
    assert sum(each.messages for each in outbox.sent()) > 3 + 2


@needs_mosquitto
def test_who_comes_later_finds_state_availability_and_discovery_but_no_old_event(
    broker: Broker, outbox: Outbox, tmp_path: Path
) -> None:
    with publishing(settings(broker, tmp_path), outbox):
        outbox.put(message(1))
        wait_until(lambda: outbox.waiting("mqtt") == 0)
        with Subscriber(broker) as late:
            wait_until(lambda: late.last(f"{BASE}/state"))
            wait_until(lambda: late.last(f"{BASE}/alarm") == b"OFF")
            assert late.last(f"{BASE}/availability") == b"online"
            assert sum(each.topic.startswith("homeassistant/") for each in late.heard) == 7
            assert late.bodies(f"{BASE}/event") == []
            assert all(each.retained for each in late.heard)


@needs_mosquitto
def test_the_alarm_is_on_while_somebody_is_seen(broker: Broker, outbox: Outbox, tmp_path: Path) -> None:
    begun = Event("seen", "bare head seen", datetime.now(UTC))
    with Subscriber(broker) as subscriber, publishing(settings(broker, tmp_path), outbox) as mqtt:
        alarm = f"{BASE}/alarm"
        wait_until(lambda: subscriber.last(alarm) == b"OFF")
        mqtt.note(Event("dark", "Black", datetime.now(UTC)), "began")
        mqtt.note(begun, "began")
        wait_until(lambda: subscriber.last(alarm) == b"ON")
        mqtt.note(replace(begun, ended_utc=datetime.now(UTC)), "ended")
        wait_until(lambda: subscriber.last(alarm) == b"OFF")
        assert subscriber.bodies(alarm) == [b"OFF", b"ON", b"OFF"]


@needs_mosquitto
def test_pictures_leave_only_where_the_settings_say_so(broker: Broker, outbox: Outbox, tmp_path: Path) -> None:
    with_pictures = replace(settings(broker, tmp_path), snapshots=True)
    with Subscriber(broker) as subscriber, publishing(with_pictures, outbox):
        outbox.put(message(1))
        wait_until(lambda: subscriber.bodies(f"{BASE}/snapshot") == [JPEG])
        outbox.put(message(2, "acknowledged"))
        wait_until(lambda: len(subscriber.bodies(f"{BASE}/event")) == 2)
        assert len(subscriber.bodies(f"{BASE}/snapshot")) == 1
    with Subscriber(broker) as late:
        wait_until(lambda: late.last(f"{BASE}/availability"))
        assert late.bodies(f"{BASE}/snapshot") == []  # the broker keeps none


@needs_mosquitto
def test_a_broker_that_was_away_gets_everything_in_order(broker: Broker, outbox: Outbox, tmp_path: Path) -> None:
    with publishing(settings(broker, tmp_path), outbox) as mqtt:
        wait_until(lambda: mqtt.fault is None)
        broker.stop()
        wait_until(lambda: mqtt.fault is not None)
        for number in range(4):
            outbox.put(message(number))
        assert outbox.waiting("mqtt") == 4
        broker.start()
        with Subscriber(broker) as subscriber:
            wait_until(lambda: outbox.waiting("mqtt") == 0)
            wait_until(lambda: message(3).body in subscriber.bodies(f"{BASE}/event") or mqtt.sent == 4)
        assert mqtt.fault is None
        assert mqtt.sent == 4


@needs_mosquitto
def test_a_camera_that_stops_says_goodbye(broker: Broker, outbox: Outbox, tmp_path: Path) -> None:
    with Subscriber(broker) as subscriber:
        with publishing(settings(broker, tmp_path), outbox):
            wait_until(lambda: subscriber.last(f"{BASE}/availability") == b"online")
        wait_until(lambda: subscriber.last(f"{BASE}/availability") == b"offline")


# Publishes until it is killed.
CAMERA = """
import sys
from pathlib import Path
from appliance.config import MqttSettings
from appliance.notify.camera_state import CameraState
from appliance.notify.mqtt import Mqtt
from appliance.notify.outbox import Outbox
from tests.unit.test_notify_mqtt import PORTRAIT

folder, port, ca, user = sys.argv[1:]
settings = MqttSettings("127.0.0.1", int(port), ca=Path(ca), user=user, password_file=Path(folder) / "mqtt.password")
mqtt = Mqtt(settings, Outbox(Path(folder) / "o.sqlite"), PORTRAIT, state=CameraState, snapshot=lambda _id: None)
mqtt.start()
mqtt._thread.join()
"""


@needs_mosquitto
def test_the_broker_says_offline_when_the_camera_is_killed(broker: Broker, tmp_path: Path) -> None:
    settings(broker, tmp_path)
    arguments = [str(tmp_path), str(broker.port), str(broker.authority.pem), USER]
    with Subscriber(broker) as subscriber:
        camera = subprocess.Popen([sys.executable, "-c", CAMERA, *arguments], cwd=PROJECT)
        try:
            wait_until(lambda: subscriber.last(f"{BASE}/availability") == b"online", 60)
        finally:
            camera.send_signal(signal.SIGKILL)
            camera.wait()
        wait_until(lambda: subscriber.last(f"{BASE}/availability") == b"offline")


@needs_mosquitto
def test_a_wrong_password_is_said_and_nothing_is_lost(broker: Broker, outbox: Outbox, tmp_path: Path) -> None:
    outbox.put(message(1))
    with publishing(settings(broker, tmp_path, "wrong"), outbox) as mqtt:
        fault = wait_until(lambda: mqtt.fault if "refused" in (mqtt.fault or "") else "")
        assert fault
        assert "mqtt.password_file" in fault
    assert outbox.waiting("mqtt") == 1


@needs_mosquitto
def test_a_broker_with_another_authoritys_certificate_is_not_trusted(
    broker: Broker, outbox: Outbox, tmp_path: Path
) -> None:
    outbox.put(message(1))
    wrong = replace(settings(broker, tmp_path), ca=Authority(tmp_path, "other-ca").pem)
    with publishing(wrong, outbox) as mqtt:
        wait_until(lambda: "is not trusted" in (mqtt.fault or ""))
    assert outbox.waiting("mqtt") == 1


def test_a_broker_that_is_not_there_is_said_and_stops_nobody(outbox: Outbox) -> None:
    nobody = MqttSettings("127.0.0.1", 9, tls=False)
    outbox.put(message(1))
    with publishing(nobody, outbox) as mqtt:
        wait_until(lambda: "can't be reached" in (mqtt.fault or ""))
        assert outbox.waiting("mqtt") == 1


@needs_mosquitto
def test_a_state_that_cannot_be_found_out_is_a_problem_and_events_still_leave(
    broker: Broker, outbox: Outbox, tmp_path: Path
) -> None:
    def fail() -> CameraState:
        raise ValueError("no state")

    mqtt = Mqtt(settings(broker, tmp_path), outbox, PORTRAIT, state=fail, snapshot=lambda _id: None)
    with Subscriber(broker) as subscriber:
        mqtt.start()
        outbox.put(message(1))
        wait_until(lambda: subscriber.bodies(f"{BASE}/event"))
        assert json.loads(wait_until(lambda: subscriber.last(f"{BASE}/state")))["problem_state"] == "ON"
        mqtt.stop(deadline_s=30)


# Discovery

# Home Assistant's documented keys: home-assistant.io/integrations/{mqtt,binary_sensor.mqtt,sensor.mqtt,image.mqtt}
SHARED = {
    *("availability", "availability_mode", "availability_template", "availability_topic", "payload_available"),
    *("payload_not_available", "default_entity_id", "device", "origin", "enabled_by_default", "encoding"),
    *("entity_category", "entity_picture", "icon", "json_attributes_template", "json_attributes_topic", "name"),
    *("platform", "qos", "unique_id"),
}
READ = SHARED | {"device_class", "expire_after", "force_update", "state_topic", "value_template"}
KNOWN = {
    "binary_sensor": READ | {"off_delay", "payload_off", "payload_on"},
    "sensor": READ
    | {"last_reset_value_template", "options", "state_class", "suggested_display_precision", "unit_of_measurement"},
    "image": (SHARED - {"qos"}) | {"content_type", "image_encoding", "image_topic", "url_template", "url_topic"},
}
REQUIRED = {"binary_sensor": {"state_topic"}, "sensor": {"state_topic"}, "image": {"image_topic"}}
DEVICE = {
    *("configuration_url", "connections", "hw_version", "identifiers", "manufacturer", "model", "model_id", "name"),
    *("serial_number", "suggested_area", "sw_version", "via_device"),
}
ORIGIN = {"name", "sw_version", "support_url"}
CLASSES = {"binary_sensor": {"safety", "problem"}, "sensor": {"temperature"}, "image": set[str]()}
UNITS = {"temperature": {"°C", "°F", "K"}}


def discovered(*, snapshots: bool = True) -> dict[str, dict[str, Any]]:
    messages = discovery(
        Topics(BASE),
        prefix="homeassistant",
        identity=PORTRAIT.identity,
        camera=PORTRAIT.camera,
        fleet=PORTRAIT.fleet,
        alarm=PORTRAIT.alarm,
        snapshots=snapshots,
    )
    return {topic: json.loads(body) for topic, body in messages.items()}


def test_discovery_uses_documented_keys_only() -> None:
    for topic, body in discovered().items():
        prefix, component, node, name, config = topic.split("/")
        assert (prefix, config) == ("homeassistant", "config")
        assert set(node + name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
        assert body.keys() <= KNOWN[component], topic
        assert REQUIRED[component] <= body.keys()
        assert body["device"].keys() <= DEVICE
        assert body["origin"].keys() <= ORIGIN
        assert body["origin"]["name"]
        assert body.get("entity_category") in (None, "diagnostic")  # "config" is not for what only tells
        assert body.get("device_class") in {None, *CLASSES[component]}
        if "device_class" in body and body["device_class"] in UNITS:
            assert body["unit_of_measurement"] in UNITS[body["device_class"]]
        assert body.get("state_class") in (None, "measurement")


def test_every_entity_has_an_id_of_its_own_and_all_are_one_device() -> None:
    bodies = list(discovered().values())
    assert len({body["unique_id"] for body in bodies}) == len(bodies) == 8
    assert {tuple(body["device"]["identifiers"]) for body in bodies} == {("sitecam_north_gate_12345678",)}
    assert {body["availability_topic"] for body in bodies} == {f"{BASE}/availability"}
    assert {(body["payload_available"], body["payload_not_available"]) for body in bodies} == {("online", "offline")}
    names = {body["name"] for body in bodies}
    assert {"Bare head seen", "Problem", "Decision", "Model version", "Frames per second", "Temperature"} <= names


def test_there_is_no_picture_entity_where_no_picture_leaves() -> None:
    assert not any("/image/" in topic for topic in discovered(snapshots=False))


def test_what_mqtt_keeps_for_itself_is_no_part_of_a_topic() -> None:
    topics = replace(PORTRAIT, camera="gate+1/#\x00\u2028x").topics("sitecam")
    assert topics.event == "sitecam/gate-1----x/event"
