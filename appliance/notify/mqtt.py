"""Publishes events and the camera's state to an MQTT broker, where Home Assistant finds them by itself.

One thread does it all: it connects, keeps the connection, publishes, and waits for the broker's word that it has a
message before the next one leaves. Every connection gets a client of its own, so that nothing waits inside the library
that the outbox doesn't know of. The broker publishes ``offline`` for us when this process dies.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from appliance.config import MqttSettings
from appliance.events_record import SEEN, Change, Event
from appliance.notify.backoff import Backoff
from appliance.notify.camera_state import CameraState
from appliance.notify.home_assistant import OFF, OFFLINE, ON, ONLINE, Topics, discovery
from appliance.notify.outbox import Message, Outbox
from appliance.notify.settings_check import secret, tls

logger = logging.getLogger(__name__)

NAME = "mqtt"

_CONNECT_S = 10.0
_ANSWER_S = 20.0  # to a message
_KEEP_ALIVE_S = 30
_TICK_S = 0.25
_LOOK_EVERY_S = 2.0  # at the camera's state
_CHANGED_EVERY_S = 5.0  # a state that changes is published so often at most,
_STATE_EVERY_S = 60.0  # and one that doesn't so often at least
_OLDEST_S = 86400.0
_GOODBYE_S = 1.0


@dataclass(frozen=True)
class Portrait:
    """Who this camera is, for a broker.

    Attributes:
        identity: Names it among all cameras; letters, digits, ``_`` and ``-``.
        camera: Its name for people.
        fleet: The fleet's name; may be empty.
        alarm: What an alarm is called: "Bare head seen".
    """

    identity: str
    camera: str
    fleet: str
    alarm: str

    def topics(self, prefix: str) -> Topics:
        """Below the prefix and the camera's name, in which what MQTT keeps for itself is replaced."""
        name = "".join("-" if mark in "+#/" or not mark.isprintable() else mark for mark in self.camera)
        return Topics(f"{prefix}/{name}")


class _TidySocket(ssl.SSLSocket):
    """Closed when its handshake fails: the library forgets it then."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


class _LostError(Exception):
    """The connection is of no use any longer; its text says why."""


class Mqtt:
    """Empties the outbox into a broker, and keeps the camera's state there.

    Args:
        settings: Checked already.
        outbox: Where messages wait.
        portrait: Who this camera is.
        state: How it is now.
        snapshot: An event's picture as a JPEG file, by its id.
        backoff: The waits between attempts to connect.

    Attributes:
        fault: Why the broker takes nothing now, for a person; None while it does.

    Raises:
        ConfigError: The files that the settings name can't be used any longer.
    """

    def __init__(
        self,
        settings: MqttSettings,
        outbox: Outbox,
        portrait: Portrait,
        *,
        state: Callable[[], CameraState],
        snapshot: Callable[[str], bytes | None],
        backoff: Backoff | None = None,
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._portrait = portrait
        self._topics = portrait.topics(settings.topic)
        self._state = state
        self._snapshot = snapshot
        self._backoff = backoff or Backoff(most_s=60.0)
        no_password = settings.password_file == Path()
        self._password = None if no_password else secret(settings.password_file, "mqtt.password_file")
        self._tls = tls(settings.ca, "mqtt.ca") if settings.tls else None
        if self._tls is not None:
            self._tls.sslsocket_class = _TidySocket
        self._lasting: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="mqtt", daemon=True)
        self.fault: str | None = "The broker has not been reached yet."
        self.sent = 0
        # of the connection that stands
        self._granted: ReasonCode | None = None
        self._under_way: tuple[int, Message, float, int] | None = None  # packet's number, since when, bytes
        self._alarm_said: str | None = None
        self._state_said = b""
        self._state_said_s = self._looked_s = 0.0

    def start(self) -> None:
        """Connect, and publish what waits."""
        self._thread.start()

    def stop(self, *, deadline_s: float = 5.0) -> None:
        """Say goodbye to the broker, and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def note(self, event: Event, change: Change) -> None:
        """Whether somebody must hear of something now. Returns at once."""
        if event.kind == SEEN and change == "began" and event.ended_utc is None:
            self._lasting.add(event.id)
        elif change in ("ended", "deleted"):
            self._lasting.discard(event.id)

    # The thread

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self._session()
            except (_LostError, ssl.SSLError, OSError, ValueError) as error:
                self._say(self._why(error))
            except Exception as error:
                logger.exception("The MQTT thread made a mistake, and goes on")
                self._say(f"It made a mistake of its own ({error!r}).")
            self._stopping.wait(self._backoff.next_s())

    def _session(self) -> None:
        """Connect, and publish until the connection is lost."""
        client = self._client()
        self._granted = self._under_way = self._alarm_said = None
        self._state_said, self._state_said_s, self._looked_s = b"", 0.0, 0.0
        try:
            client.connect(self._settings.host, self._settings.port, keepalive=_KEEP_ALIVE_S)
            self._await_grant(client)
            self._backoff.reset()
            self._say(None)
            self._introduce(client)
            while not self._stopping.is_set():
                self._turn(client)
                self._publish_alarm(client)
                self._publish_state(client)
                self._publish_next(client)
            self._part(client)
        finally:
            client.disconnect()

    def _client(self) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=f"sitecam-{self._portrait.identity}")
        client.connect_timeout = _CONNECT_S
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.will_set(self._topics.availability, OFFLINE, qos=1, retain=True)
        if self._settings.user:
            client.username_pw_set(self._settings.user, self._password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        return client

    def _await_grant(self, client: paho.Client) -> None:
        ends_s = time.monotonic() + _CONNECT_S
        while self._granted is None:
            if self._stopping.is_set() or time.monotonic() > ends_s:
                raise _LostError("The broker did not answer.")
            code = client.loop(_TICK_S)
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS and self._granted is None:
                raise _LostError("The broker closed the connection before it answered.")
        if self._granted.is_failure:
            raise _LostError(f"The broker refused: {self._granted}. Check mqtt.user and mqtt.password_file.")

    def _introduce(self, client: paho.Client) -> None:
        portrait, settings = self._portrait, self._settings
        if settings.discovery:
            messages = discovery(
                self._topics,
                prefix=settings.discovery,
                identity=portrait.identity,
                camera=portrait.camera,
                fleet=portrait.fleet,
                alarm=portrait.alarm,
                snapshots=settings.snapshots,
            )
            for topic, body in messages.items():
                self._publish(client, topic, body, retain=True)
        self._publish(client, self._topics.availability, ONLINE.encode(), retain=True)

    def _turn(self, client: paho.Client, wait_s: float = _TICK_S) -> None:
        """Let the library send and receive."""
        code = client.loop(wait_s)
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise _LostError(f"The connection to the broker was lost ({paho.error_string(code)})")

    def _publish_alarm(self, client: paho.Client) -> None:
        alarm = ON if self._lasting else OFF
        if alarm != self._alarm_said:
            self._publish(client, self._topics.alarm, alarm.encode(), retain=True)
            self._alarm_said = alarm

    def _publish_state(self, client: paho.Client) -> None:
        now_s = time.monotonic()
        if self._looked_s and now_s - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
        told, body = _state_body(self._state_now())
        since_s = now_s - self._state_said_s
        if self._state_said and since_s < (_CHANGED_EVERY_S if told != self._state_said else _STATE_EVERY_S):
            return
        self._publish(client, self._topics.state, body, retain=True)
        self._state_said, self._state_said_s = told, now_s

    def _state_now(self) -> CameraState:
        try:
            return self._state()
        except Exception as error:  # noqa: BLE001  # said to the broker; events must leave all the same
            return CameraState(problem=f"The camera can't say how it is ({error!r}).")

    def _publish_next(self, client: paho.Client) -> None:
        if self._under_way is not None:
            if time.monotonic() - self._under_way[2] > _ANSWER_S:
                raise _LostError("The broker did not confirm a message.")
            return
        self._outbox.drop_older(NAME, _OLDEST_S)
        message = self._outbox.next(NAME)
        if message is None:
            return
        if self._settings.snapshots and message.what in ("began", "ended"):
            jpeg = self._snapshot(message.about)
            if jpeg is not None:
                self._publish(client, self._topics.snapshot, jpeg)
        info = client.publish(self._topics.event, message.body, qos=1)
        self._under_way = info.mid, message, time.monotonic(), len(self._topics.event) + len(message.body)

    def _publish(self, client: paho.Client, topic: str, body: bytes, *, retain: bool = False) -> None:
        client.publish(topic, body, qos=1, retain=retain)
        self._outbox.count(NAME, len(topic.encode()) + len(body))

    def _part(self, client: paho.Client) -> None:
        self._publish_alarm(client)
        self._publish(client, self._topics.availability, OFFLINE.encode(), retain=True)
        ends_s = time.monotonic() + _GOODBYE_S
        while client.want_write() and time.monotonic() < ends_s:
            self._turn(client, 0.05)

    def _on_connect(
        self, _client: paho.Client, _data: object, _flags: object, code: ReasonCode, _properties: Properties | None
    ) -> None:
        self._granted = code

    def _on_publish(
        self, _client: paho.Client, _data: object, number: int, _code: ReasonCode, _properties: Properties
    ) -> None:
        if self._under_way is not None and self._under_way[0] == number:
            _, message, _, size_bytes = self._under_way
            self._outbox.done(message, sent_bytes=size_bytes)
            self.sent += 1
            self._under_way = None

    def _why(self, error: Exception) -> str:
        where = f"{self._settings.host}:{self._settings.port}"
        if isinstance(error, _LostError):
            return str(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"The certificate of {where} is not trusted ({error.verify_message}). Check mqtt.ca."
        return f"{where} can't be reached ({error})."

    def _say(self, fault: str | None) -> None:
        if fault and fault != self.fault:
            logger.warning("MQTT: %s", fault)
        self.fault = fault


def _state_body(state: CameraState) -> tuple[bytes, bytes]:
    """What of a state is worth saying soon, and all of it as JSON."""
    label = state.label or ("unsure" if state.version is not None else None)
    soon: Mapping[str, object] = {
        "label": label,
        "version": state.version,
        "problem": state.problem,
        "problem_state": ON if state.problem else OFF,
    }
    rest = {
        "confidence_percent": round(100 * state.confidence, 1),
        "decisions_per_s": round(state.decisions_per_s, 1),
        "temperature_c": None if state.temperature_c is None else round(state.temperature_c, 1),
    }
    return json.dumps(soon).encode(), json.dumps({**soon, **rest}).encode()
