"""The server's memory, in a real SQLite file."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.errors import StoreError
from appliance.models.verdict import SwapFigures, Verdict
from server.fleet.history import History
from server.registry import TABLES, ModelRecord, Registry, ReplyRecord, RoundRecord
from trainer.messages import CameraStatus


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry.sqlite")


def test_the_first_end_of_a_night_counts(registry: Registry) -> None:
    night = registry.begin("tonight")
    assert registry.night(night).outcome is None
    registry.end(night, "published", "Version 2 runs on 2 of 2 cameras", {"rounds": [1, 2]})
    registry.end(night, "failed", "The ServerApp ended without an outcome", {})
    record = registry.night(night)
    assert (record.outcome, record.message) == ("published", "Version 2 runs on 2 of 2 cameras")
    assert record.figures == {"rounds": [1, 2]}


def test_nights_of_the_same_name_are_two(registry: Registry) -> None:
    first, second = registry.begin("2026-03-01"), registry.begin("2026-03-01")
    assert second > first
    registry.end(first, "kept", "why", {})
    assert registry.night(second).outcome is None


def test_there_is_no_night_that_never_began(registry: Registry) -> None:
    with pytest.raises(StoreError, match="no night 9"):
        registry.night(9)


def test_events_are_read_on_from_where_one_stopped(registry: Registry) -> None:
    night, other = registry.begin("one"), registry.begin("two")
    registry.note(night, "a")
    registry.note(other, "not ours")
    registry.note(night, "b")
    seen = registry.events(night)
    assert [text for _, text in seen] == ["a", "b"]
    registry.note(night, "c")
    assert [text for _, text in registry.events(night, after=seen[-1][0])] == ["c"]


def test_a_camera_that_did_not_answer_has_no_verdict_but_a_line(registry: Registry) -> None:
    night = registry.begin("tonight")
    verdict = Verdict(2, True, "Version 2 runs", datetime.now(UTC), SwapFigures(0, 12.5, 11.0))
    registry.put_verdict(night, "yard", 2, None)
    registry.put_verdict(night, "gate", 2, verdict)
    assert registry.verdicts(night) == {"gate": verdict, "yard": None}
    assert registry.verdicts(registry.begin("next")) == {}


def test_a_later_verdict_replaces_an_absent_one(registry: Registry) -> None:
    night = registry.begin("tonight")
    verdict = Verdict(2, False, "it crashed", datetime.now(UTC))
    registry.put_verdict(night, "gate", 2, None)
    registry.put_verdict(night, "gate", 2, verdict)
    assert registry.verdicts(night) == {"gate": verdict}


def test_a_verdict_on_an_older_version_does_not_hide_the_newest(registry: Registry) -> None:
    night = registry.begin("tonight")
    old, new = (Verdict(version, True, "it held", datetime.now(UTC)) for version in (2, 3))
    registry.put_verdict(night, "gate", 3, new)
    registry.put_verdict(night, "yard", 2, old)
    assert registry.verdicts(night) == {"gate": new}
    assert registry.verdicts(night, 2) == {"yard": old}


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "r.sqlite")
    night = registry.begin("tonight")
    registry.note(night, "it began")
    registry.put_checkpoint(night, {"round": 2})
    again = Registry(tmp_path / "r.sqlite")
    assert [text for _, text in again.events(1)] == ["it began"]
    assert again.checkpoint(night) == {"round": 2}
    assert [record.name for record in again.unended()] == ["tonight"]


def test_a_night_that_ended_has_nothing_to_go_on_with(registry: Registry) -> None:
    night = registry.begin("tonight")
    registry.put_checkpoint(night, {"head": "..."})
    registry.end(night, "kept", "why", {})
    assert registry.checkpoint(night) == {}
    assert registry.unended() == []


def test_a_cameras_last_word_is_its_last(registry: Registry, tmp_path: Path) -> None:
    for number in (1, 2):
        status = CameraStatus("gate", number, {"head": number}, {}, (), "", "Not watching")
        registry.put_status(registry.begin(str(number)), "gate", status)
    sighting = History(tmp_path / "registry.sqlite").last_words()["gate"]
    assert (sighting.night, sighting.status.version, sighting.status.train_frames) == (2, 2, {"head": 2})
    assert sighting.status.health == "Not watching"


def test_rounds_replies_and_models_come_back_as_they_were(registry: Registry) -> None:
    night = registry.begin("tonight")
    first = RoundRecord(1, 2.5, "fedavg", 3, 2, 75, 70, 0.25, None, "2026-03-01T00:00:00+00:00")
    second = RoundRecord(2, 2.0, "fedavg", 3, 3, 75, 71, 0.2, 1.5, "2026-03-01T00:01:00+00:00")
    for record in (second, first):
        registry.put_round(night, record)
    assert registry.rounds(night) == [first, second]
    assert registry.noisy_rounds() == 1
    used = ReplyRecord(1, "train", "gate", True, False, "", 12, 0.5, 1.25)
    bad = ReplyRecord(1, "train", "yard", False, True, "it sent NaN")
    registry.put_replies(night, [bad, used])
    assert registry.replies(night) == [used, bad]
    model = ModelRecord(2, night, 1, "canary", "cannot tell", {"server_accuracy": 0.9}, "2026-03-01T00:02:00+00:00")
    registry.put_model(model)
    registry.put_model(dataclasses.replace(model, outcome="withdrawn", reason="it crashed"))
    assert [(m.outcome, m.reason, m.created_utc) for m in registry.models()] == [
        ("withdrawn", "it crashed", model.created_utc)
    ]


def test_an_export_holds_every_table_but_codes_and_requests(registry: Registry) -> None:
    registry.note(registry.begin("tonight"), "it began")
    assert registry.table("events")[0]["text"] == "it began"
    assert all(registry.table(name) is not None for name in TABLES)
    for name in ("codes", "requests", "nights; DROP TABLE nights"):
        with pytest.raises(KeyError):
            registry.table(name)
