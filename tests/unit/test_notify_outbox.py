"""Messages wait on the disk for neighbours, within bounds, and the books say what has left."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.notify.outbox import Message, Outbox


def message(number: int, neighbour: str = "webhook", about: str = "event") -> Message:
    return Message(neighbour, f"{number:032x}", about, "began", b"body %d" % number, datetime.now(UTC))


@contextlib.contextmanager
def opened(path: Path, *, most: int = 1000) -> Iterator[Outbox]:
    outbox = Outbox(path, most=most)
    yield outbox
    outbox.close()


def test_messages_come_out_in_order_and_stay_until_they_are_done(tmp_path: Path) -> None:
    with opened(tmp_path / "o.sqlite") as outbox:
        first, second, other = message(1), message(2), message(3, "mqtt")
        for each in (first, second, other):
            outbox.put(each)
        assert outbox.next("webhook") == first
        assert outbox.next("webhook") == first
        outbox.done(first)
        assert outbox.next("webhook") == second
        assert (outbox.waiting("webhook"), outbox.waiting("mqtt")) == (1, 1)
        outbox.done(second)
        assert outbox.next("webhook") is None
        assert outbox.next("mqtt") == other


def test_messages_survive_the_process_and_are_nobody_elses_to_read(tmp_path: Path) -> None:
    path = tmp_path / "events" / "o.sqlite"
    kept = message(1)
    with opened(path) as outbox:
        outbox.put(kept)
    with opened(path) as outbox:
        assert outbox.next("webhook") == kept
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_message_that_waits_already_is_not_put_twice(tmp_path: Path) -> None:
    with opened(tmp_path / "o.sqlite") as outbox:
        outbox.put(message(1))
        outbox.put(replace(message(1), body=b"again"))
        assert outbox.waiting("webhook") == 1


def test_the_oldest_are_dropped_and_counted_when_too_many_wait(tmp_path: Path) -> None:
    with opened(tmp_path / "o.sqlite", most=3) as outbox:
        for number in range(5):
            outbox.put(message(number))
        outbox.put(message(9, "mqtt"))
        assert (outbox.waiting("webhook"), outbox.dropped("webhook"), outbox.dropped("mqtt")) == (3, 2, 0)
        newest = outbox.next("webhook")
        assert newest is not None
        assert newest.body == b"body 2"


def test_what_is_too_old_is_dropped_and_counted(tmp_path: Path) -> None:
    with opened(tmp_path / "o.sqlite") as outbox:
        outbox.put(replace(message(1), made_utc=datetime.now(UTC) - timedelta(hours=2)))
        outbox.put(message(2))
        assert outbox.drop_older("webhook", 3600) == 1
        assert outbox.drop_older("webhook", 3600) == 0
        assert (outbox.waiting("webhook"), outbox.dropped("webhook")) == (1, 1)


def test_what_is_about_a_deleted_event_is_gone_from_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "o.sqlite"
    with opened(path) as outbox:
        outbox.put(replace(message(1, about="a"), body=b"xyzzy"))
        outbox.put(message(2, about="b"))
        outbox.forget("a")
        assert outbox.waiting("webhook") == 1
        for file in tmp_path.iterdir():
            assert b"xyzzy" not in file.read_bytes()


def test_the_books_say_what_left_per_day_and_survive(tmp_path: Path) -> None:
    path = tmp_path / "o.sqlite"
    with opened(path) as outbox:
        for number in range(3):
            outbox.put(message(number))
            outbox.done(message(number))
        outbox.put(message(7))
        outbox.done(message(7), dropped=True)
        outbox.count("mqtt", 100)
    with opened(path) as outbox:
        outbox.count("mqtt", 11)
        today = datetime.now(UTC).date().isoformat()
        assert [(each.day, each.neighbour, each.messages, each.size_bytes) for each in outbox.sent()] == [
            (today, "mqtt", 2, 111),
            (today, "webhook", 3, 18),
        ]


def test_messages_wait_in_memory_where_there_is_no_disk(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("")
    with opened(tmp_path / "in the way" / "o.sqlite") as outbox:
        outbox.put(message(1))
        assert outbox.fault is not None
        assert "memory only" in outbox.fault
        assert outbox.next("webhook") is not None


def test_a_disk_that_fills_up_keeps_messages_in_memory_and_their_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path / "o.sqlite") as outbox:
        outbox.put(message(0))
        outbox._database.execute("PRAGMA query_only = ON")  # every write fails from here on
        with caplog.at_level(logging.ERROR):
            for number in range(1, 4):
                outbox.put(message(number))
        assert "in memory only" in caplog.text
        sent = []
        while (each := outbox.next("webhook")) is not None:
            sent.append(each.body)
            outbox.done(each)
        assert sent == [b"body 0", b"body 1", b"body 2", b"body 3"]
        assert outbox.waiting("webhook") == 0
        for number in range(200):
            outbox.put(message(1000 + number))
        assert (outbox.waiting("webhook"), outbox.dropped("webhook")) == (100, 100)
        outbox._database.execute("PRAGMA query_only = OFF")
        outbox.put(message(5000))
        assert outbox.waiting("webhook") == 101
    with opened(tmp_path / "o.sqlite") as outbox:
        assert outbox.waiting("webhook") in (101, 102)  # the first may come again: its removal was never written


def test_a_damaged_file_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "o.sqlite"
    path.write_bytes(b"rubbish" * 1000)
    with caplog.at_level(logging.ERROR), opened(path) as outbox:
        outbox.put(message(1))
        assert outbox.fault is None
    assert "is damaged" in caplog.text
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT COUNT(*) FROM messages").fetchone() == (1,)
