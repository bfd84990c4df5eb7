"""Events are shown at once, are on the disk a moment later, and are gone for good when a person deletes them."""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import stat
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from appliance.config import EventSettings
from appliance.errors import NotThereError, StoreFullError
from appliance.events import Event, EventLog
from appliance.events_memory import Unwritten
from appliance.events_store import DATABASE, EventStore
from appliance.frame import Frame
from appliance.vision import decode
from tests.fakes.event_parts import HOUR_AGO, NOW, Heard, event, frame, lasting, reopened, running, vote

# Memory and disk


def test_events_are_shown_newest_first_and_survive_the_process(tmp_path: Path) -> None:
    with running(tmp_path / "events") as log:
        for minute in range(5):
            log.put(event(minute))
        expected = (event(4), event(3), event(2))
        assert log.recent(3) == expected
        ids = [each.id for each in log.recent(5)]
    assert reopened(tmp_path / "events", 3) == expected
    assert [each.id for each in reopened(tmp_path / "events")] == ids


def test_an_event_that_ended_takes_the_place_of_its_beginning(tmp_path: Path) -> None:
    begun = lasting(0)
    ended = replace(begun, ended_utc=begun.began_utc + timedelta(minutes=9), detail={"agreed": 12.0})
    with running(tmp_path / "events") as log:
        log.put(begun)
        log.put(event(0, kind="slow"))
        log.put(ended)
        assert log.recent(10) == (event(0, kind="slow"), ended)
    assert reopened(tmp_path / "events") == (event(0, kind="slow"), ended)


def test_an_event_that_lasted_when_the_power_went_ends_where_it_was_last_seen(tmp_path: Path) -> None:
    without, seen = lasting(0, "dark"), lasting(1)
    with running(tmp_path / "events") as log:
        log.put(without)
        log.witness(seen.id, [vote(60), vote(75)])
        log.put(seen)
        assert [each.ended_utc for each in log.recent(2)] == [None, None]
    newest, oldest = reopened(tmp_path / "events")
    assert newest.ended_utc == HOUR_AGO + timedelta(seconds=75)
    assert oldest.ended_utc == oldest.began_utc


def test_the_trail_and_the_best_frame_are_kept_with_the_event(tmp_path: Path) -> None:
    seen = lasting(0)
    with running(tmp_path / "events") as log:
        log.witness(seen.id, [vote(0), vote(0.25, None)], frame(40))
        log.put(seen)
        log._flush()
        assert log.recent(1)[0].snapshot
        log.witness(seen.id, [vote(0.5)])
        log.witness(seen.id, (), frame(200))
        assert [each.label for each in log.trail(seen.id)] == ["head", None, "head"]
        log.put(replace(seen, ended_utc=NOW))
        assert log.recent(1)[0].snapshot  # whoever reports the end does not know of it
    with running(tmp_path / "events") as log:
        assert log.trail(seen.id) == [vote(0), vote(0.25, None), vote(0.5)]
        jpeg = log.snapshot(seen.id)
        assert jpeg is not None
        assert abs(int(decode(jpeg).mean()) - 200) < 3  # the better one
        assert log.event(seen.id).snapshot
    (path,) = (tmp_path / "events" / "snapshots").iterdir()
    assert path.name == f"{seen.id}.jpg"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "events" / DATABASE).stat().st_mode) == 0o600


def test_no_picture_is_kept_where_the_settings_say_so(tmp_path: Path) -> None:
    seen = lasting(0)
    with running(tmp_path / "events", EventSettings(snapshots=False)) as log:
        log.witness(seen.id, [vote(0)], frame(1))
        log.put(seen)
        log._flush()
        assert log.snapshot(seen.id) is None
        assert not log.recent(1)[0].snapshot


def test_a_frame_that_cannot_be_encoded_costs_the_snapshot_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen = lasting(0)
    with running(tmp_path / "events") as log, caplog.at_level(logging.ERROR):
        log.witness(seen.id, [vote(0)], Frame(np.zeros((0, 0, 3), np.uint8), NOW, 0))
        log.put(seen)
        log._flush()
        assert log.trail(seen.id) == [vote(0)]
    assert "goes without" in caplog.text


def test_what_was_put_before_the_start_is_written_too(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events")
    log.put(event(1))
    log.start()
    log.stop(deadline_s=30)
    assert reopened(tmp_path / "events") == (event(1),)


def test_several_threads_lose_no_event(tmp_path: Path) -> None:
    with running(tmp_path / "events") as log:

        def put_ten(kind: str) -> None:
            for minute in range(10):
                log.put(event(minute, kind))

        threads = [threading.Thread(target=put_ten, args=[kind]) for kind in ("dark", "frozen", "slow", "seen")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(log.recent(100)) == 40
    assert len(reopened(tmp_path / "events")) == 40


def test_an_event_that_lasts_is_at_hand_however_many_come_after_it(tmp_path: Path) -> None:
    slow = lasting(0, "slow")
    with running(tmp_path / "events") as log:
        log.put(slow)
        for minute in range(550):
            log.put(event(minute))
        assert len(log.recent(1000)) == 500
        assert log.recent(1000)[-1] == slow


# Retention


def test_old_events_and_those_beyond_the_most_are_deleted_with_their_pictures(tmp_path: Path) -> None:
    ancient = replace(event(0), began_utc=NOW - timedelta(days=91), ended_utc=NOW - timedelta(days=91))
    with running(tmp_path / "events") as log:
        for each in (ancient, *map(event, range(12)), lasting(13)):
            log.witness(each.id, [vote(0)], frame(9))
            log.put(each)
    with running(tmp_path / "events", EventSettings(days=90, most=10)) as log:
        log._flush()
        kept = log.recent(100)
        assert len(kept) == 10
        assert ancient not in kept
        assert len(log.events(count=100)) == 10
    assert len(list((tmp_path / "events" / "snapshots").iterdir())) == 10


def test_what_still_lasts_is_not_purged(tmp_path: Path) -> None:
    store = EventStore(tmp_path / "events")
    slow = replace(lasting(0, "slow"), began_utc=NOW - timedelta(days=200))
    store.write({slow.id: Unwritten(slow)}, told=True)
    assert store.purge(days=1, most=0) == []
    store.close()


# What earlier releases wrote


def test_the_old_file_is_taken_over_once_and_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = tmp_path / "events.jsonl"
    lines = [
        {"kind": "dark", "sentence": "Black", "began_utc": "2026-10-01T12:00:00+00:00",
         "ended_utc": "2026-10-01T12:05:00+00:00", "detail": {"mean": 1.5}},
        {"kind": "seen", "sentence": "bare head seen", "began_utc": "2026-10-01T13:00:00+00:00", "ended_utc": None,
         "detail": {}},
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "slow"}\n[]\n{"kind'
    settings = EventSettings(days=36500)
    heard = Heard()
    for _ in range(2):  # a power cut between taking it over and removing it
        old.write_text(text)
        with caplog.at_level(logging.WARNING):
            log = EventLog(tmp_path / "events", settings)
        log.tell(heard)
        log.start()
        log.stop(deadline_s=30)
        newest, oldest = log.recent(10)
        assert (oldest.sentence, oldest.detail) == ("Black", {"mean": 1.5})
        assert newest.ended_utc == newest.began_utc
        assert not old.exists()
    assert caplog.text.count("no event") == 6
    assert heard.said == []


def test_an_old_file_of_rubbish_costs_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "events.jsonl").write_bytes(b"\xff\xfe\x00")
    with caplog.at_level(logging.WARNING), running(tmp_path / "events") as log:
        log.put(event(1))
    assert "start anew" in caplog.text
    assert reopened(tmp_path / "events") == (event(1),)


# Lists


def test_the_list_is_paged_and_narrowed(tmp_path: Path) -> None:
    with running(tmp_path / "events") as log:
        for minute in range(10):
            log.put(event(minute, "seen" if minute % 2 else "dark"))
        log._flush()
        first = log.events(count=4)
        assert [each.sentence for each in first] == ["seen at 9", "dark at 8", "seen at 7", "dark at 6"]
        second = log.events(before=first[-1].id, count=4)
        assert [each.sentence for each in second] == ["seen at 5", "dark at 4", "seen at 3", "dark at 2"]
        assert [each.kind for each in log.events(kind="seen")] == ["seen"] * 5
        log.acknowledge(first[0].id, "Ada")
        assert first[0].id not in [each.id for each in log.events(open_only=True)]
        assert len(log.events(open_only=True)) == 9
        assert log.events()[0].acknowledged_by == "Ada"


def test_an_unknown_id_is_said_to_be_none(tmp_path: Path) -> None:
    with running(tmp_path / "events") as log:
        for nonsense in ("f" * 32, "../../etc/passwd", "", "F" * 32, "a" * 31 + "\n"):
            for ask in (log.event, log.trail, lambda each: log.acknowledge(each, "Ada")):
                with pytest.raises(NotThereError):
                    ask(nonsense)
            with pytest.raises(NotThereError):
                log.events(before=nonsense)
        with pytest.raises(NotThereError):
            log.snapshot("../events")


# People


def test_who_acknowledged_first_stays_and_the_end_does_not_undo_it(tmp_path: Path) -> None:
    seen = lasting(0)
    with running(tmp_path / "events") as log:
        log.put(seen)
        assert log.acknowledge(seen.id, "Ada").acknowledged_by == "Ada"
        assert log.acknowledge(seen.id, "Bob").acknowledged_by == "Ada"
        log.put(replace(seen, ended_utc=NOW))
        assert log.recent(1)[0].acknowledged_by == "Ada"
    (kept,) = reopened(tmp_path / "events")
    assert (kept.acknowledged_by, kept.ended_utc, kept.false) == ("Ada", NOW, False)
    assert kept.acknowledged_utc is not None


def test_an_acknowledgement_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    with running(tmp_path / "events") as log:
        log.put(event(0))
        log.acknowledge(log.recent(1)[0].id, "Ada")
        with contextlib.closing(sqlite3.connect(tmp_path / "events" / DATABASE)) as other:
            assert other.execute("SELECT acknowledged_by FROM events").fetchall() == [("Ada",)]


def test_a_false_event_gives_its_picture_away_once_and_is_acknowledged(tmp_path: Path) -> None:
    given: list[tuple[str, bytes]] = []
    log = EventLog(tmp_path / "events", on_false=lambda event, jpeg: given.append((event.id, jpeg)))
    log.start()
    seen = lasting(0)
    log.witness(seen.id, [vote(0)], frame(77))
    log.put(seen)
    log._flush()
    marked = log.mark_false(seen.id, "Ada")
    log.mark_false(seen.id, "Bob")
    log.stop(deadline_s=30)
    assert (marked.false, marked.acknowledged_by) == (True, "Ada")
    assert [each[0] for each in given] == [seen.id]
    assert decode(given[0][1]).shape == (32, 48, 3)


def test_an_event_stays_as_it_is_where_its_picture_finds_no_room(tmp_path: Path) -> None:
    def refuse(_event: Event, _jpeg: bytes) -> None:
        raise StoreFullError("No room")

    log = EventLog(tmp_path / "events", on_false=refuse)
    log.start()
    seen = lasting(0)
    log.witness(seen.id, [vote(0)], frame(77))
    log.put(seen)
    log._flush()
    with pytest.raises(StoreFullError):
        log.mark_false(seen.id, "Ada")
    assert not log.event(seen.id).false
    log.stop(deadline_s=30)


# Deletion


def test_deletion_takes_what_touches_the_time_and_leaves_nothing_of_it_on_the_disk(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    secretive = replace(lasting(10), sentence="xyzzy was here", ended_utc=HOUR_AGO + timedelta(minutes=12))
    with running(folder) as log:
        heard = Heard()
        log.tell(heard)
        for each in (event(0), secretive, event(30)):
            log.witness(each.id, [replace(vote(0), label="plugh")], frame(9))
            log.put(each)
        log._flush()
        begin, end = HOUR_AGO + timedelta(minutes=11), HOUR_AGO + timedelta(minutes=20)
        assert log.count_between(begin, end) == 1
        assert log.delete(begin, end) == 1
        assert heard.said[-1] == ("xyzzy was here", "deleted")
        assert log.count_between(begin, end) == 0
        assert [each.sentence for each in log.events()] == ["dark at 30", "dark at 0"]
        with pytest.raises(NotThereError):
            log.event(secretive.id)
        for path in folder.rglob("*"):
            assert path.is_dir() or b"xyzzy" not in path.read_bytes()
        assert not (folder / "snapshots" / f"{secretive.id}.jpg").exists()
    assert len(reopened(folder)) == 2


def test_a_deleted_event_does_not_come_back_with_its_end(tmp_path: Path) -> None:
    seen = lasting(0)
    with running(tmp_path / "events") as log:
        log.put(seen)
        assert log.delete(HOUR_AGO, NOW) == 1  # it lasts, so it touches everything since
        log.witness(seen.id, [vote(1)], frame(3))
        log.put(replace(seen, ended_utc=NOW))
        assert log.recent(10) == ()
    assert reopened(tmp_path / "events") == ()
    assert list((tmp_path / "events" / "snapshots").iterdir()) == []
