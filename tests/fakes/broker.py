"""A real mosquitto on a free loopback port, with TLS and a password; and somebody who listens to it."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.fakes.certificates import Authority
from tests.fakes.waiting import wait_until

USER, PASSWORD = "sitecam", "broker's password"  # a test's

_PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
_PROGRAMS = [shutil.which(name, path=_PLACES) for name in ("mosquitto", "mosquitto_passwd")]

needs_mosquitto = pytest.mark.skipif(None in _PROGRAMS, reason="mosquitto is not installed (apt install mosquitto)")


class Broker:
    """A broker that can be stopped and started again.

    Args:
        folder: Its files.
    """

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder, "broker-ca")
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "mosquitto.log"
        certificate, key = self.authority.issue()
        passwords = folder / "passwords"
        passwords.touch(mode=0o600)
        subprocess.run([str(_PROGRAMS[1]), "-b", str(passwords), USER, PASSWORD], check=True, timeout=30)
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\ncafile {self.authority.pem}\ncertfile {certificate}\nkeyfile {key}\n"
            f"allow_anonymous false\npassword_file {passwords}\npersistence true\npersistence_location {folder}/\n"
            + ("user root\n" if os.geteuid() == 0 else "")
        )

    def start(self) -> None:
        """Start it; returns when it takes connections."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(_PROGRAMS[0]), "-c", str(self._config)], stdout=log, stderr=subprocess.STDOUT
            )
        wait_until(self._answers)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


@dataclass(frozen=True)
class Heard:
    """A message."""

    topic: str
    body: bytes
    retained: bool


class Subscriber:
    """Hears everything from the moment it is there; what is retained, first."""

    def __init__(self, broker: Broker) -> None:
        self.heard: list[Heard] = []
        self._there = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(USER, PASSWORD)
        self._client.tls_set_context(ssl.create_default_context(cafile=str(broker.authority.pem)))
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._there.set()
        self._client.on_message = lambda _c, _d, each: self.heard.append(
            Heard(each.topic, bytes(each.payload), each.retain)
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", broker.port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        assert self._there.wait(30)
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def bodies(self, topic: str) -> list[bytes]:
        """What came to a topic so far, in order."""
        return [each.body for each in list(self.heard) if each.topic == topic]

    def last(self, topic: str) -> bytes:
        """The newest message of a topic; empty before the first."""
        return (self.bodies(topic) or [b""])[-1]


@contextmanager
def broker_in(folder: Path) -> Iterator[Broker]:
    """A broker that runs."""
    folder.mkdir(parents=True, exist_ok=True)
    broker = Broker(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
