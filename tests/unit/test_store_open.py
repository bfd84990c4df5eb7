"""Opening a store: what was left behind is swept, and a database that can't be trusted is never replaced."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.errors import StoreError
from appliance.store.frames import FrameStore
from tests.fakes.pictures import encoded, scene, write

NOON = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store of three frames."""
    with FrameStore(tmp_path / "store") as store:
        for seed in range(3):
            store.label(store.add(encoded(scene(seed)), taken_utc=NOON, source="live").frame.id, "head", by="Ada")
    return tmp_path / "store"


def pictures(root: Path) -> list[Path]:
    return sorted(path for path in (root / "frames").rglob("*") if path.is_file())


def test_files_without_a_row_are_swept(root: Path) -> None:
    before = pictures(root)
    orphan = write(root / "frames" / "ab" / f"{'ab' * 16}.jpg", b"half an import")
    temporary = write(before[0].with_name(f".{before[0].name}.0badcafe.tmp"), b"half a fr")
    imported = write(root / "incoming" / "tmpx1y2" / "0.jpg", b"a dead import's")
    FrameStore(root).close()
    assert pictures(root) == before
    assert not any(path.exists() for path in (orphan, temporary, imported.parent))


def test_a_sweep_leaves_a_writer_alone_that_is_between_its_file_and_its_row(root: Path) -> None:
    frame_id = "ab" * 16
    with FrameStore(root) as writing, FrameStore(root) as sweeping:
        with writing.pictures.writing():
            writing.pictures.keep(frame_id, encoded(scene(9)))
            assert sweeping.sweep() == 0
            assert writing.jpeg(frame_id) == encoded(scene(9))
        assert sweeping.sweep() == 1
        assert not writing.pictures.path(frame_id).exists()


def test_files_of_other_kinds_are_left_alone(root: Path) -> None:
    note = write(root / "frames" / "ab" / "README.txt", b"somebody's note")
    FrameStore(root).close()
    assert note.exists()


def test_a_running_imports_folder_is_not_swept(root: Path) -> None:
    with FrameStore(root) as importing, importing.incoming() as incoming:
        prepared = write(incoming / "0.jpg", b"prepared")
        FrameStore(root).close()
        assert prepared.exists()
    assert not incoming.exists()


def test_the_database_is_set_to_survive_power_cuts(root: Path) -> None:
    with FrameStore(root) as store:
        settings = {
            name: store.database._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "user_version")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "user_version": 2}


@pytest.mark.parametrize("damage", ["overwritten head", "overwritten middle", "not a database"])
def test_a_damaged_database_is_an_error_and_nothing_is_touched(root: Path, damage: str) -> None:
    path = root / "frames.sqlite"
    content = bytearray(path.read_bytes())
    if damage == "not a database":
        content[:] = b"x" * len(content)
    else:
        start = 100 if damage == "overwritten head" else 4096
        content[start : start + 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    before = pictures(root)
    with pytest.raises(StoreError, match=r"frames\.sqlite can't be used") as refused:
        FrameStore(root)
    assert "backup" in refused.value.do
    assert path.read_bytes() == content
    assert pictures(root) == before


@pytest.mark.parametrize("left", ["nothing", "an empty file"])
def test_a_lost_database_is_not_replaced_while_its_pictures_are_there(root: Path, left: str) -> None:
    for path in root.glob("frames.sqlite*"):
        path.unlink()
    if left == "an empty file":
        (root / "frames.sqlite").touch()
    before = pictures(root)
    for _ in range(2):
        with pytest.raises(StoreError, match="there are pictures beside it") as refused:
            FrameStore(root)
        assert "backup" in refused.value.do
    assert len(before) == 3
    assert pictures(root) == before


def test_a_newer_releases_database_is_refused(root: Path) -> None:
    database = sqlite3.connect(root / "frames.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match="schema 99") as refused:
        FrameStore(root)
    assert "Upgrade" in refused.value.do
    assert len(pictures(root)) == 3
