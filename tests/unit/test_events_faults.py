"""The event log where disk, files or listeners fail."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.errors import StoreError, StoreFullError
from appliance.events import Change, Event, EventLog
from appliance.events_memory import Unwritten
from appliance.events_store import DATABASE, EventStore
from tests.fakes.event_parts import HOUR_AGO, NOW, Heard, event, frame, lasting, reopened, running, vote

# Faults


def test_a_disk_that_takes_nothing_costs_the_file_not_the_caller(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in the way").write_text("a file")
    with caplog.at_level(logging.ERROR), running(tmp_path / "in the way" / "events") as log:
        log.put(event(1))
        log.put(event(2, "seen"))
        log._flush()
        assert log.recent(2) == (event(2, "seen"), event(1))
        assert [each.sentence for each in log.events(kind="seen")] == ["seen at 2"]
        assert log.fault is not None
        assert log.fault.startswith("Events are in memory only")
        with pytest.raises(StoreFullError):
            log.acknowledge(log.recent(1)[0].id, "Ada")
    assert "memory only" in caplog.text


def test_events_are_written_once_the_disk_takes_them(tmp_path: Path) -> None:
    blocker = tmp_path / "parent"
    blocker.write_text("a file")
    heard = Heard()
    log = EventLog(blocker / "events")
    log.tell(heard)
    log.start()
    seen = lasting(0)
    log.witness(seen.id, [vote(0)], frame(9))
    log.put(seen)
    log._flush()
    assert heard.said == [("seen at 0", "began")]  # told all the same
    assert log.snapshot(seen.id) is not None
    blocker.unlink()
    log._flush()
    assert log.fault is None
    assert log.acknowledge(seen.id, "Ada").acknowledged_by == "Ada"
    log.stop(deadline_s=30)
    with running(tmp_path / "parent" / "events") as again:
        assert again.trail(seen.id) == [vote(0)]
        assert again.snapshot(seen.id) is not None
        assert again.lost == 0


def test_a_full_disk_bounds_what_waits_in_memory(tmp_path: Path) -> None:
    (tmp_path / "parent").write_text("a file")
    with running(tmp_path / "parent" / "events") as log:
        for minute in range(300):
            each = event(minute)
            log.witness(each.id, [vote(0)], frame(9))
            log.put(each)
        log._flush()
        assert log.unwritten == 200
        assert log.lost == 100
        assert sum(log.snapshot(each.id) is not None for each in log.recent(300)) == 10


def test_a_damaged_database_is_moved_away_and_events_start_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "events"
    with running(folder) as log:
        log.put(event(0))
    (folder / DATABASE).write_bytes(b"rubbish" * 1000)
    with caplog.at_level(logging.ERROR), running(folder) as log:
        log.put(event(1))
        assert log.recent(5) == (event(1),)
        assert "is damaged" in caplog.text
        assert (folder / f"{DATABASE}.damaged").exists()
        log.delete(HOUR_AGO, NOW)
        assert not (folder / f"{DATABASE}.damaged").exists()


def test_a_database_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    with running(folder) as log:
        log.put(event(0))
    with contextlib.closing(sqlite3.connect(folder / DATABASE)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="Upgrade"):
        EventStore(folder)
    with running(folder) as log:
        assert log.fault is not None
        assert "schema 99" in log.fault


def test_pictures_of_no_event_and_half_written_ones_are_swept_at_the_start(tmp_path: Path) -> None:
    snapshots = tmp_path / "events" / "snapshots"
    snapshots.mkdir(parents=True)
    (snapshots / f"{'a' * 32}.jpg").write_bytes(b"orphan")
    (snapshots / ".half.jpg.1234.tmp").write_bytes(b"half")
    with running(tmp_path / "events"):
        assert list(snapshots.iterdir()) == []


def test_an_event_whose_picture_somebody_deleted_says_that_it_has_none(tmp_path: Path) -> None:
    seen = event(0, "seen")
    with running(tmp_path / "events") as log:
        log.witness(seen.id, [], frame(9))
        log.put(seen)
    (tmp_path / "events" / "snapshots" / f"{seen.id}.jpg").unlink()
    assert [each.snapshot for each in reopened(tmp_path / "events")] == [False]


def test_the_size_counts_database_and_pictures(tmp_path: Path) -> None:
    seen = event(0, "seen")
    with running(tmp_path / "events") as log:
        before = log.size_bytes()
        log.witness(seen.id, [], frame(9))
        log.put(seen)
        log._flush()
        jpeg = log.snapshot(seen.id)
        assert jpeg is not None
        assert log.size_bytes() >= before + len(jpeg)


# Listeners


def test_listeners_hear_of_every_change_in_its_order_after_it_was_written(tmp_path: Path) -> None:
    heard = Heard()
    log = EventLog(tmp_path / "events")
    log.tell(heard)
    log.start()
    seen = lasting(0)
    log.witness(seen.id, [vote(0)], frame(5))
    log.put(seen)
    log.put(replace(seen, detail={"more": 1.0}))  # nothing that anybody must hear of
    log.put(replace(seen, ended_utc=NOW))
    log.mark_false(seen.id, "Ada")
    log.stop(deadline_s=30)
    assert [change for _, change in heard.said] == ["began", "ended", "acknowledged", "false"]
    assert heard.snapshots[-1]
    again = Heard()
    log = EventLog(tmp_path / "events")
    log.tell(again)
    log.start()
    log.stop(deadline_s=30)
    assert again.said == []


def test_listeners_hear_at_the_next_start_what_a_power_cut_kept_from_them(tmp_path: Path) -> None:
    store = EventStore(tmp_path / "events")
    cut, over, stale = lasting(0), event(1), replace(event(2), began_utc=NOW - timedelta(days=3))
    store.write({each.id: Unwritten(each) for each in (cut, over, stale)}, told=False)
    store.mark_told([(over.id, "began")])
    store.close()
    heard = Heard()
    log = EventLog(tmp_path / "events")
    log.tell(heard)
    log.start()
    log.stop(deadline_s=30)
    assert heard.said == [("seen at 0", "began"), ("seen at 0", "ended"), ("dark at 1", "ended")]


def test_a_listener_that_fails_keeps_nobody_else_from_hearing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_event: Event, _change: Change) -> None:
        raise ValueError("broken")

    heard = Heard()
    log = EventLog(tmp_path / "events")
    log.tell(fail)
    log.tell(heard)
    log.start()
    log.put(event(0))
    log.stop(deadline_s=30)
    assert [change for _, change in heard.said] == ["began", "ended"]
    assert "could not be told" in caplog.text
    again = Heard()
    log = EventLog(tmp_path / "events")
    log.tell(again)
    log.start()
    log.stop(deadline_s=30)
    assert [change for _, change in again.said] == ["began", "ended"]  # not everybody knew


def test_events_that_nobody_listened_to_are_no_news_for_a_later_listener(tmp_path: Path) -> None:
    with running(tmp_path / "events") as log:
        log.put(event(0))
        log.mark_false(log.recent(1)[0].id, "Ada")
    heard = Heard()
    log = EventLog(tmp_path / "events")
    log.tell(heard)
    log.start()
    log.stop(deadline_s=30)
    assert heard.said == []
