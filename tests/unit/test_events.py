from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.events import Event, EventLog

NOON = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)


def event(minute: int, kind: str = "dark") -> Event:
    began = NOON + timedelta(minutes=minute)
    return Event(kind, f"{kind} at {minute}", began, began + timedelta(seconds=30), detail={"mean": 3.5})


@contextlib.contextmanager
def running(path: Path, *, kept: int = 500) -> Iterator[EventLog]:
    """A log that has written everything at the end of the block."""
    log = EventLog(path, kept=kept)
    log.start()
    yield log
    log.stop(deadline_s=30)


def test_events_are_shown_newest_first_and_survive_the_process(tmp_path: Path) -> None:
    with running(tmp_path / "events.jsonl") as log:
        for minute in range(5):
            log.put(event(minute))
        expected = (event(4), event(3), event(2))
        assert log.recent(3) == expected
    assert EventLog(tmp_path / "events.jsonl").recent(3) == expected


def test_an_event_that_ended_takes_the_place_of_its_beginning(tmp_path: Path) -> None:
    ended = replace(event(0), ended_utc=NOON + timedelta(minutes=9))
    with running(tmp_path / "events.jsonl") as log:
        log.put(replace(event(0), ended_utc=None))
        log.put(event(0, kind="slow"))  # of another kind: not the same
        log.put(ended)
        assert log.recent(10) == (event(0, kind="slow"), ended)
    assert EventLog(tmp_path / "events.jsonl").recent(10) == log.recent(10)


def test_an_event_of_the_process_before_can_still_end(tmp_path: Path) -> None:
    for ended_utc in (None, NOON + timedelta(minutes=9)):
        with running(tmp_path / "events.jsonl") as log:
            log.put(replace(event(0), ended_utc=ended_utc))
    assert [each.ended_utc for each in log.recent(10)] == [NOON + timedelta(minutes=9)]


def test_an_event_that_lasted_when_the_power_went_does_not_last_for_ever(tmp_path: Path) -> None:
    with running(tmp_path / "events.jsonl") as log:
        log.put(replace(event(0), ended_utc=None))
        assert log.recent(1)[0].ended_utc is None
    assert EventLog(tmp_path / "events.jsonl").recent(1)[0].ended_utc == NOON


def test_old_events_are_forgotten_in_memory_and_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with running(path, kept=3) as log:
        for minute in range(10):
            log.put(event(minute))
    assert [each.began_utc.minute for each in log.recent(10)] == [9, 8, 7]
    assert len(path.read_text().splitlines()) == 3


def test_a_line_that_cannot_be_read_costs_itself_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "events.jsonl"
    with running(path) as log:
        log.put(event(1))
        log.put(event(2))
    first, second = path.read_text().splitlines()
    path.write_text(f'{first}\n{{"kind": "dark"\n[]\n{{"kind": "slow"}}\n{second}\n')
    with caplog.at_level(logging.WARNING):
        assert EventLog(path).recent(10) == (event(2), event(1))
    assert caplog.text.count("no event") == 3


def test_a_file_of_rubbish_starts_the_events_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    with caplog.at_level(logging.WARNING), running(path) as log:
        log.put(event(1))
    assert "start anew" in caplog.text
    assert EventLog(path).recent(10) == (event(1),)


def test_a_disk_that_takes_nothing_costs_the_file_not_the_caller(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), running(tmp_path / "no such folder" / "events.jsonl") as log:
        log.put(event(1))
        assert log.recent(1) == (event(1),)
    assert "could not be written" in caplog.text


def test_what_was_put_before_the_start_is_written_too(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.put(event(1))
    log.start()
    log.stop(deadline_s=30)
    assert EventLog(tmp_path / "events.jsonl").recent(1) == (event(1),)


def test_several_threads_lose_no_event(tmp_path: Path) -> None:
    with running(tmp_path / "events.jsonl") as log:

        def put_ten(kind: str) -> None:
            for minute in range(10):
                log.put(event(minute, kind))

        threads = [threading.Thread(target=put_ten, args=[kind]) for kind in ("dark", "frozen", "slow", "seen")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(log.recent(100)) == 40
    assert len(EventLog(tmp_path / "events.jsonl").recent(100)) == 40
