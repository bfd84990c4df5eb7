"""The server's one SQLite file: made, brought up to date, damaged, newer than the program."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from appliance.errors import StoreError
from appliance.models.verdict import Verdict
from server import database as database_module
from server.database import Database
from server.registry import Registry
from server.roster import Roster

_FIRST_SCHEMA = """
CREATE TABLE cameras (
    node_id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, public_key TEXT NOT NULL UNIQUE, enrolled_utc TEXT NOT NULL
) STRICT;
CREATE TABLE nights (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, began_utc TEXT NOT NULL, ended_utc TEXT, outcome TEXT,
    message TEXT NOT NULL DEFAULT '', figures TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE TABLE events (
    id INTEGER PRIMARY KEY, night INTEGER NOT NULL REFERENCES nights(id), at_utc TEXT NOT NULL, text TEXT NOT NULL
) STRICT;
CREATE TABLE verdicts (
    night INTEGER NOT NULL REFERENCES nights(id), camera TEXT NOT NULL, version INTEGER NOT NULL,
    verdict TEXT, PRIMARY KEY (night, camera)
) STRICT;
INSERT INTO cameras VALUES ('18446744073709551615', 'gate', 'key', '2026-03-01T00:00:00+00:00');
INSERT INTO nights VALUES
    (1, 'first', '2026-03-01T00:00:00+00:00', '2026-03-01T00:05:00+00:00', 'published', 'x', '{}');
INSERT INTO events VALUES (1, 1, '2026-03-01T00:00:00+00:00', 'it began');
PRAGMA user_version = 1;
"""


def test_a_file_of_the_first_release_keeps_all_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    database = sqlite3.connect(path)
    database.executescript(_FIRST_SCHEMA)
    verdict = Verdict.from_json(
        '{"version": 2, "accepted": true, "reason": "it held", "at_utc": "2026-03-01T00:04:00+00:00", "swap": null}'
    )
    database.execute("INSERT INTO verdicts VALUES (1, 'gate', 2, ?)", (verdict.to_json(),))
    database.commit()
    database.close()
    registry, roster = Registry(path), Roster(path)
    assert [(camera.node_id, camera.name) for camera in roster.cameras()] == [(2**64 - 1, "gate")]
    assert registry.night(1).outcome == "published"
    assert [text for _, text in registry.events(1)] == ["it began"]
    assert registry.verdicts(1) == {"gate": verdict}
    roster.revoke("gate", "stolen")
    roster.enrol(5, "gate", "another key")  # its name is free again


def test_a_file_of_the_second_release_learns_to_keep_page_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.sqlite"
    monkeypatch.setattr(database_module, "_MIGRATIONS", database_module._MIGRATIONS[:2])
    Roster(path).enrol(7, "gate", "key")
    monkeypatch.undo()
    database = Database(path)
    row = ("f00", "7", b"nonce", '["gate.local"]', "2026-03-01T00:00:00+00:00", "2026-05-30T00:00:00+00:00", "ab")
    insert = "INSERT INTO page_certificates VALUES (?, ?, ?, ?, ?, ?, ?)"
    with database.open() as connection:
        connection.execute(insert, row)
        with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            connection.execute(insert, ("f01", *row[1:]))  # the same nonce of the same camera
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            connection.execute(insert, ("f02", "8", *row[2:]))  # of no camera
    assert [camera.name for camera in Roster(path).cameras()] == ["gate"]


def test_two_processes_may_make_a_new_file_at_once(tmp_path: Path) -> None:
    problems: list[Exception] = []

    def make() -> None:
        try:
            Roster(tmp_path / "r.sqlite").cameras()
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
    Roster(path).enrol(7, "gate", "key")
    damaged = path.read_bytes()[:keep] + b"rubbish" * 1000
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=rf"{path} can't be used.*backup"):
        Roster(path).cameras()
    assert path.read_bytes() == damaged


def test_a_file_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    Database(path)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match=r"schema 99.*Upgrade Sitecam"):
        Database(path)
