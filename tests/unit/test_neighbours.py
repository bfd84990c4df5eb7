"""The neighbours that the settings name hear of every change; settings that can't work are found before anything."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.config import MqttSettings, Settings, WebhookSettings, load
from appliance.errors import ConfigError
from appliance.events import Event, EventLog
from appliance.notify.neighbours import Neighbours
from appliance.notify.settings_check import check
from appliance.paths import CameraPaths
from tests.fakes.certificates import Authority
from tests.fakes.http_receiver import receiving
from tests.fakes.waiting import wait_until

PROJECT = Path(__file__).resolve().parents[2]


def base(tmp_path: Path) -> Settings:
    path = tmp_path / "camera.toml"
    path.write_text('state_dir = "state"\n[camera]\nname = "North gate"\n')
    return load(path)


def private(path: Path, content: str = "a secret of thirty-two symbols !") -> Path:
    path.write_text(content)
    path.chmod(0o600)
    return path


def with_webhook(tmp_path: Path, url: str) -> Settings:
    secret = private(tmp_path / "webhook.secret")
    return replace(base(tmp_path), webhook=WebhookSettings(url, secret_file=secret))


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Neighbours]:
    neighbours = Neighbours(settings, fleet="Harbour site")
    neighbours.start()
    try:
        yield neighbours
    finally:
        neighbours.stop(deadline_s=30)


def test_every_change_of_an_event_reaches_the_webhook_and_no_name_of_a_person(tmp_path: Path) -> None:
    with receiving() as receiver:
        settings = with_webhook(tmp_path, f"http://127.0.0.1:{receiver.port}/")
        log = EventLog(CameraPaths(settings.state_dir).events)
        with running(settings) as neighbours:
            log.tell(neighbours.put)
            log.start()
            begun = Event("seen", "bare head seen", datetime.now(UTC), detail={"agreed": 5.0, "odd": float("nan")})
            log.put(begun)
            log.put(replace(begun, ended_utc=datetime.now(UTC)))
            log.mark_false(begun.id, "Ada Lovelace")
            got = receiver.wait(4)
            log.stop(deadline_s=30)
            (status,) = wait_until(lambda: [each for each in neighbours.status() if not each.waiting])
            assert (status.name, status.ok, status.sent, status.dropped) == ("webhook", True, 4, 0)
            assert status.sentence == "The webhook: it takes what it is sent."
            (today,) = neighbours.sent_today()
            assert (today.neighbour, today.messages) == ("webhook", 4)
            assert today.size_bytes == sum(len(each.body) for each in got)
    bodies = [json.loads(each.body) for each in got]
    assert [body["change"] for body in bodies] == ["began", "ended", "acknowledged", "false"]
    assert {(body["camera"], body["fleet"], body["event"]["id"]) for body in bodies} == {
        ("North gate", "Harbour site", begun.id)
    }
    assert bodies[0]["event"]["detail"] == {"agreed": 5.0}
    assert bodies[3]["event"]["false"]
    assert [body["delivery"] for body in bodies] == [each.headers["Sitecam-Delivery"] for each in got]
    assert len({body["delivery"] for body in bodies}) == 4
    assert not any(b"Lovelace" in each.body for each in got)


def test_a_dead_neighbour_is_said_and_keeps_what_waits(tmp_path: Path) -> None:
    with receiving() as receiver:
        port = receiver.port
    settings = with_webhook(tmp_path, f"http://127.0.0.1:{port}/")
    event = Event("seen", "bare head seen", datetime.now(UTC))
    with running(settings) as neighbours:
        neighbours.put(event, "began")
        (status,) = wait_until(lambda: [each for each in neighbours.status() if not each.ok])
        assert "can't be reached" in status.sentence
        assert status.sentence.endswith("1 message waits.")
    with receiving(port=port) as receiver, running(settings) as neighbours:
        neighbours.put(event, "began")  # told again after a restart: the same delivery
        (got,) = receiver.wait(1)
        wait_until(lambda: not neighbours.status()[0].waiting)
        assert len({each.headers["Sitecam-Delivery"] for each in receiver.got}) == 1
    assert json.loads(got.body)["change"] == "began"


def test_what_waits_about_a_deleted_event_is_taken_back(tmp_path: Path) -> None:
    with receiving() as receiver:
        port = receiver.port
    with running(with_webhook(tmp_path, f"http://127.0.0.1:{port}/")) as neighbours:
        event = Event("seen", "bare head seen", datetime.now(UTC))
        neighbours.put(event, "began")
        neighbours.put(event, "deleted")
        assert neighbours.status()[0].waiting == 0


def test_a_camera_without_neighbours_keeps_no_outbox(tmp_path: Path) -> None:
    settings = base(tmp_path)
    with running(settings) as neighbours:
        neighbours.put(Event("seen", "bare head seen", datetime.now(UTC)), "began")
        assert neighbours.status() == ()
        assert neighbours.sent() == []
    assert not CameraPaths(settings.state_dir).events.exists()


# Puts three changes, and waits to be killed between two tries.
CAMERA = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from appliance.events import Event
from appliance.notify.neighbours import Neighbours
from tests.unit.test_neighbours import with_webhook

neighbours = Neighbours(with_webhook(Path(sys.argv[1]), sys.argv[2]))
for number in range(3):
    neighbours.put(Event("seen", f"number {number}", datetime.now(UTC), id=f"{number:032x}"), "began")
neighbours.start()
neighbours._webhook._thread.join()
"""


def test_a_process_killed_between_two_tries_loses_nothing(tmp_path: Path) -> None:
    with receiving() as receiver:
        receiver.answers += [(500, {})] * 2
        url = f"http://127.0.0.1:{receiver.port}/"
        camera = subprocess.Popen([sys.executable, "-c", CAMERA, str(tmp_path), url], cwd=PROJECT, env={**os.environ})
        try:
            receiver.wait(1, timeout_s=60)
            time.sleep(0.05)
        finally:
            camera.send_signal(signal.SIGKILL)
            camera.wait()
        before = {each.headers["Sitecam-Delivery"] for each in receiver.got}
        with running(with_webhook(tmp_path, url)) as neighbours:
            wait_until(lambda: not neighbours.status()[0].waiting)
    taken = receiver.got[len(before) :]
    sentences = [json.loads(each.body)["event"]["sentence"] for each in taken]
    assert sentences[-3:] == ["number 0", "number 1", "number 2"]
    assert before <= {each.headers["Sitecam-Delivery"] for each in taken}


# Settings


def test_good_settings_pass(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    secret = private(tmp_path / "secret")
    check(base(tmp_path))
    check(replace(base(tmp_path), webhook=WebhookSettings("https://host.example:8443/a?b=c", secret, authority.pem)))
    for url in ("http://127.0.0.1:1/", "http://[::1]/", "http://localhost/x"):
        check(replace(base(tmp_path), webhook=WebhookSettings(url, secret)))
    for host in ("broker.example", "192.0.2.7", "::1"):
        check(replace(base(tmp_path), mqtt=MqttSettings(host, ca=authority.pem, user="u", password_file=secret)))


@pytest.mark.parametrize(
    "url",
    [
        "http://host.example/",
        "ftp://host.example/",
        "https://",
        "https://name:password@host.example/",
        "https://host.example/a b",
        "https://host.example/\r\nX: y",
        "https://host.example:99999/",
        "https://[::1/",
        "host.example",
        "https://host.example/#part",
        "file:///etc/passwd",
    ],
)
def test_a_url_that_cannot_work_is_found_at_the_start(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="webhook"):
        Neighbours(with_webhook(tmp_path, url))


def test_secrets_that_are_missing_open_short_or_not_one_line_are_refused(tmp_path: Path) -> None:
    url = "https://host.example/"
    empty, short = private(tmp_path / "empty", "\n"), private(tmp_path / "short", "hunter2")
    lines = private(tmp_path / "lines", "one of sixteen symbols\ntwo of sixteen symbols")
    readable = private(tmp_path / "readable")
    readable.chmod(0o640)
    for path, sentence in (
        (Path(), "is not"),
        (tmp_path / "missing", "can't be read"),
        (empty, "one line"),
        (lines, "one line"),
        (short, "shorter"),
        (readable, "mode 640"),
    ):
        with pytest.raises(ConfigError, match=sentence) as refused:
            check(replace(base(tmp_path), webhook=WebhookSettings(url, path)))
        assert refused.value.do


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"host": "mqtts://broker"}, "no host name"),
        ({"host": "broker:8883"}, "no host name"),
        ({"topic": ""}, "mqtt.topic"),
        ({"topic": "sitecam/#"}, "mqtt.topic"),
        ({"topic": "/sitecam"}, "mqtt.topic"),
        ({"discovery": "home+"}, "mqtt.discovery"),
        ({"ca": Path("/missing.pem")}, "mqtt.ca"),
        ({"user": ""}, "mqtt.user"),
        ({"tls": False}, "no TLS"),
        ({"password_file": Path("/missing")}, "mqtt.password_file"),
    ],
)
def test_mqtt_settings_that_cannot_work_are_found_at_the_start(
    tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    good = MqttSettings("broker.example", user="u", password_file=private(tmp_path / "secret"))
    check(replace(base(tmp_path), mqtt=good))
    with pytest.raises(ConfigError, match=sentence):
        check(replace(base(tmp_path), mqtt=replace(good, **change)))  # type: ignore[arg-type]
