"""The server's memory, in a real SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.errors import StoreError
from appliance.models.verdict import SwapFigures, Verdict
from server.registry import EnrolledCamera, Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry.sqlite")


def test_cameras_come_back_by_name_with_node_ids_of_64_bits(registry: Registry) -> None:
    registry.enrol(2**64 - 1, "yard", "key 1")
    registry.enrol(7, "gate", "key 2")
    assert registry.cameras() == [EnrolledCamera(7, "gate"), EnrolledCamera(2**64 - 1, "yard")]


@pytest.mark.parametrize(("node", "name", "key"), [(7, "new", "new"), (8, "gate", "new"), (8, "new", "key")])
def test_a_name_or_key_is_taken_once(registry: Registry, node: int, name: str, key: str) -> None:
    registry.enrol(7, "gate", "key")
    with pytest.raises(StoreError):
        registry.enrol(node, name, key)
    assert registry.cameras() == [EnrolledCamera(7, "gate")]


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


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "r.sqlite")
    registry.enrol(7, "gate", "key")
    registry.note(registry.begin("tonight"), "it began")
    again = Registry(tmp_path / "r.sqlite")
    assert again.cameras() == registry.cameras()
    assert [text for _, text in again.events(1)] == ["it began"]


def test_two_processes_may_make_a_new_file_at_once(tmp_path: Path) -> None:
    problems: list[Exception] = []

    def make() -> None:
        try:
            Registry(tmp_path / "r.sqlite").cameras()
        except StoreError as error:
            problems.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


@pytest.mark.parametrize("keep", [0, 100])
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "registry.sqlite"
    Registry(path).enrol(7, "gate", "key")
    damaged = path.read_bytes()[:keep] + b"rubbish" * 1000
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=rf"{path} can't be used.*backup"):
        Registry(path).cameras()
    assert path.read_bytes() == damaged


def test_a_file_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    Registry(path)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match=r"schema 99.*Upgrade Sitecam"):
        Registry(path)
