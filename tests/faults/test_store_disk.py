"""The store on a full disk: nothing that was saved is lost, the reader is told, and it goes on once there is room."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import StoreError, StoreFullError
from appliance.frame import Pixels
from appliance.store.archive import read_archive, write_archive
from appliance.store.frames import FrameStore, Limits, NewFrame
from appliance.store.pictures import PictureFiles
from tests.fakes.pictures import encoded
from tests.fakes.store_writer import look

NOON = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)


def noise() -> Pixels:
    """What a JPEG needs some 50 kB for, uint8 [240, 320, 3]."""
    return np.random.default_rng().integers(0, 256, (240, 320, 3), np.uint8)


def frames(count: int, label: str | None = "head") -> list[NewFrame]:
    return [
        NewFrame(
            encoded(noise()),
            NOON + timedelta(seconds=number),
            "live",
            label,
            "Ada" if label else None,
        )
        for number in range(count)
    ]


def add_without_end(store: FrameStore, saved: dict[str, str | None] | None = None) -> None:
    for _ in range(1000):
        for added in store.add_all(frames(1)):
            if saved is not None:
                saved[added.frame.id] = "head"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of eight megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system can't be mounted here ({mounted.stderr.decode().strip()})")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    path = folder / "filler"
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return path


def test_a_disk_that_is_really_full_costs_nothing_that_was_saved(small_disk: Path) -> None:
    root = small_disk / "store"
    saved: dict[str, str | None] = {}
    with FrameStore(root) as store:
        filler = small_disk / "somebody-elses.log"
        filler.write_bytes(bytes(1_000_000))
        with pytest.raises((OSError, StoreError), match=r"disk is full|No space left"):
            add_without_end(store, saved)
        fill(small_disk)
        assert {frame.id: frame.label for frame in store.frames()} == saved
        for frame_id in saved:  # labels too find no room, or say that they are saved
            try:
                store.label(frame_id, "hardhat", by="Bo")
                saved[frame_id] = "hardhat"
            except StoreError as error:
                assert "Nothing was changed" in error.means  # noqa: PT017  either is right
        with pytest.raises((OSError, StoreError)):
            store.add_all(frames(2))
        assert {frame.id: frame.label for frame in store.frames()} == saved
        look(store, root)
    with FrameStore(root) as store:  # starts, on a disk that is full
        assert {frame.id: frame.label for frame in store.frames()} == saved
        store.delete_all(sorted(saved)[:3])  # which can be done on a disk that is full to the last byte
        (small_disk / "filler").unlink()
        filler.unlink()
        assert store.add_all(frames(1))[0].new
        for frame_id in sorted(saved)[3:]:
            assert store.pixels(frame_id).shape == (240, 320, 3)
        look(store, root)


def test_with_a_floor_the_store_stops_before_the_disk_is_full(small_disk: Path) -> None:
    root = small_disk / "store"
    floor = 3_000_000
    with FrameStore(root, Limits(10**9, floor, 10_000)) as store:
        for _ in range(150):
            store.add_all(frames(1, None))  # old ones go: there is always room for a new one
        with pytest.raises(StoreFullError, match=r"store\.floor_mb"):
            add_without_end(store)
        usage = os.statvfs(small_disk)
        assert usage.f_bavail * usage.f_frsize > floor - 1_000_000  # the log may grow into it
        assert store.room().state == "full"
        assert {frame.label for frame in store.frames(labelled_only=False)} == {"head"}
        store.delete_all([frame.id for frame in store.frames()[:30]])
        assert store.add_all(frames(1))[0].new


@pytest.mark.parametrize("at", ["keep", "sync"])
def test_a_batch_that_finds_no_room_is_not_stored_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    with FrameStore(tmp_path / "store") as store:
        before = [added.frame for added in store.add_all(frames(2))]
        real, calls = getattr(PictureFiles, at), 0

        def full(files: PictureFiles, *arguments: object) -> None:
            nonlocal calls
            calls += 1
            if at == "sync" or calls == 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(files, *arguments)

        with monkeypatch.context() as broken:
            broken.setattr(PictureFiles, at, full)
            with pytest.raises(OSError, match="No space left"):
                store.add_all(frames(4))
        assert store.frames(labelled_only=False) == before
        look(store, store.root)
        assert len(store.add_all(frames(4))) == 4


def test_an_import_that_finds_no_room_leaves_nothing(tmp_path: Path, small_disk: Path) -> None:
    path = tmp_path / "export.zip"
    with FrameStore(tmp_path / "store") as store:
        store.add_all(frames(200))
        path.write_bytes(b"".join(write_archive(store, camera="gate")))
    with FrameStore(small_disk / "store") as store:
        with pytest.raises(OSError, match="No space left"):
            read_archive(store, path, labels=["head"])
        assert store.frames(labelled_only=False) == []
        look(store, store.root)
        assert store.add_all(frames(1))[0].new


def test_a_thumbnail_that_finds_no_room_is_shown_all_the_same(small_disk: Path) -> None:
    root = small_disk / "store"
    with FrameStore(root) as store:
        frame_id = store.add_all(frames(1))[0].frame.id
        filler = fill(small_disk)
        assert store.thumbnail(frame_id)
        assert store.pictures.thumbnail_bytes == 0
        look(store, root)
        filler.unlink()
        assert len(store.thumbnail(frame_id)) == store.pictures.thumbnail_bytes
        look(store, root)
