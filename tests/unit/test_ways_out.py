from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from appliance.config import Settings, load
from appliance.notify.outbox import Sent
from appliance.ways_out import other_ways

SENT = [Sent("2026-11-23", "mqtt", 12, 3456), Sent("2026-11-22", "webhook", 1, 99)]


def settings(root: Path, more: str = "") -> Settings:
    path = root / "sitecam.toml"
    path.write_text(f'state_dir = "state"\n[camera]\nname = "North gate"\n{more}')
    return load(path)


def test_what_leaves_beside_the_nights_is_told_by_day_and_to_whom(tmp_path: Path) -> None:
    broker = '[mqtt]\nhost = "broker"\nsnapshots = true\n'
    hook = '[webhook]\nurl = "https://hooks.example/services/SECRET"\n'
    mqtt, webhook = other_ways(settings(tmp_path, broker + hook), SENT)
    assert mqtt.sentence.startswith("12 messages (3,456 bytes) to the MQTT broker broker:8883")
    assert "with pictures" in mqtt.sentence
    assert mqtt.at_utc == datetime(2026, 11, 23, tzinfo=UTC)
    assert "hooks.example" in webhook.sentence
    assert "SECRET" not in webhook.sentence


def test_without_snapshots_it_says_without_pictures(tmp_path: Path) -> None:
    mqtt, webhook = other_ways(settings(tmp_path, '[mqtt]\nhost = "broker"\n'), SENT)
    assert "without pictures" in mqtt.sentence
    assert "without pictures" in webhook.sentence


def test_neighbours_that_the_settings_no_longer_name_are_told_too(tmp_path: Path) -> None:
    mqtt, webhook = other_ways(settings(tmp_path), SENT)
    assert "an MQTT broker of earlier settings" in mqtt.sentence
    assert "a webhook of earlier settings" in webhook.sentence


def test_where_nothing_left_nothing_is_told(tmp_path: Path) -> None:
    assert other_ways(settings(tmp_path), []) == ()
