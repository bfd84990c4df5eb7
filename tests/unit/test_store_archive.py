"""Export and import of a camera's own data: nothing is lost on the way, and nothing strange gets in."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import DatasetError, SitecamError, StoreFullError
from appliance.frame import Pixels
from appliance.store import archive
from appliance.store.archive import read_archive, write_archive
from appliance.store.frames import IMPORTED, FrameStore, Limits, NewFrame, Said, Split
from tests.fakes.pictures import a_second_later, encoded, scene

NOON = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)
LABELS = ("head", "hardhat", "nobody")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FrameStore]:
    with FrameStore(tmp_path / "store") as store:
        store.add_all(
            [
                NewFrame(
                    encoded(scene(seed)),
                    NOON + timedelta(hours=seed),
                    "live",
                    reason="random",
                    said=Said(3, "head", 0.1 * seed) if seed else None,
                )
                for seed in range(6)
            ]
        )
        yard = scene(50)  # the same empty yard, hours apart: scenes of their own, each with its split
        yards: list[tuple[Pixels, int, Split]] = [
            (yard, 20, "train"),
            (a_second_later(yard), 40, "test"),
            (a_second_later(a_second_later(yard)), 60, "train"),
        ]
        store.add_all(
            [
                NewFrame(encoded(picture), NOON + timedelta(hours=hours), "learn-empty", "nobody", "Ada", split)
                for picture, hours, split in yards
            ]
        )
        store.add_all([NewFrame(encoded(scene(99)), NOON + timedelta(days=9), IMPORTED, "hardhat", "Bo", "train")])
        first, second, third, *_ = store.frames(labelled_only=False)
        store.label(first.id, "head", by="Zoë", at_utc=NOON + timedelta(days=2))
        store.mark_unclear(second.id, by="Bo", at_utc=NOON + timedelta(days=3))
        store.skip(third.id)
        store.note_lessons("Monday", LABELS)
        store.note_lessons("Tuesday", ["hardhat"])
        yield store


@pytest.fixture
def other(tmp_path: Path) -> Iterator[FrameStore]:
    with FrameStore(tmp_path / "other") as store:
        yield store


def exported(store: FrameStore) -> bytes:
    return b"".join(write_archive(store, camera="Gate 1"))


def as_file(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "export.zip"
    path.write_bytes(data)
    return path


def everything(store: FrameStore) -> list[dict[str, Any]]:
    """All that is known of all frames but their ids, which are each store's own; scenes by their members."""
    frames = store.frames(labelled_only=False)
    scenes = {scene: sorted(f.content_hash for f in frames if f.scene == scene) for scene in {f.scene for f in frames}}
    blocks: dict[str, int | None] = dict(store.rows("SELECT id, block FROM scenes"))
    lessons = store.rows("SELECT content_hash, night FROM lessons JOIN frames ON frames.id = frame")
    return [
        {
            **vars(frame),
            "id": "",
            "scene": (scenes[frame.scene], blocks[frame.scene]),
            "nights": sorted(night for content, night in lessons if content == frame.content_hash),
            "file": store.jpeg(frame.id),
        }
        for frame in sorted(frames, key=lambda each: each.content_hash)
    ]


def test_a_round_trip_loses_nothing(store: FrameStore, other: FrameStore, tmp_path: Path) -> None:
    report = read_archive(other, as_file(tmp_path, exported(store)), labels=LABELS)
    assert (report.frames, report.new, report.labelled, report.contradictions) == (10, 10, 5, 0)
    assert everything(other) == everything(store)
    assert other.counts() == store.counts()


def test_an_import_where_everything_is_changes_nothing(store: FrameStore, tmp_path: Path) -> None:
    before = everything(store)
    report = read_archive(store, as_file(tmp_path, exported(store)), labels=LABELS)
    assert (report.frames, report.new, report.labelled) == (10, 0, 0)
    assert everything(store) == before


def test_what_was_deleted_comes_back_into_its_old_scenes(store: FrameStore, tmp_path: Path) -> None:
    before, path = everything(store), as_file(tmp_path, exported(store))
    store.delete_all([frame.id for frame in store.frames(labelled_only=False)[::2]])
    assert read_archive(store, path, labels=LABELS).new == 5
    assert everything(store) == before


def test_another_label_that_is_here_stays_and_is_counted(store: FrameStore, tmp_path: Path) -> None:
    path = as_file(tmp_path, exported(store))
    frame = store.frames(label="hardhat")[0]
    store.label(frame.id, "head", by="Cy")
    report = read_archive(store, path, labels=LABELS)
    assert report.contradictions == 1
    assert "1 are here under another label, which stays" in report.sentence
    assert store.frame(frame.id).label == "head"


def test_a_live_frame_from_elsewhere_joins_the_scene_that_is_here(
    store: FrameStore, other: FrameStore, tmp_path: Path
) -> None:
    here = other.add(encoded(a_second_later(scene(1))), taken_utc=NOON + timedelta(hours=1), source="live").frame
    read_archive(other, as_file(tmp_path, exported(store)), labels=LABELS)
    twin = next(frame for frame in other.frames(labelled_only=False) if other.jpeg(frame.id) == encoded(scene(1)))
    assert (twin.scene, twin.split) == (here.scene, here.split)


def test_an_export_is_a_plain_zip_with_a_table_that_people_can_read(store: FrameStore) -> None:
    with zipfile.ZipFile(io.BytesIO(exported(store))) as zipped:
        assert zipped.testzip() is None
        body = json.loads(zipped.read("labels.json"))
        assert (body["format"], body["camera"], len(body["frames"])) == (1, "Gate 1", 10)
        first = body["frames"][0]
        assert zipped.read(f"pictures/{first['id']}.jpg") == store.jpeg(first["id"])
        labelled = next(each for each in body["frames"] if each["labelled_by"] == "Zoë")
        assert labelled["label"] == "head"
        assert labelled["labelled_utc"] == "2026-10-03T12:00:00Z"


def test_an_export_holds_one_picture_in_memory_at_a_time(store: FrameStore) -> None:
    pieces = list(write_archive(store, camera="Gate 1"))
    largest = max(frame.size_bytes for frame in store.frames(labelled_only=False))
    assert len(pieces) >= 11
    assert max(map(len, pieces)) < largest + 8000


def test_a_frame_that_is_deleted_while_an_export_runs_is_left_out(
    store: FrameStore, other: FrameStore, tmp_path: Path
) -> None:
    pieces = write_archive(store, camera="Gate 1")
    begun = next(pieces)
    store.delete(store.frames(labelled_only=False)[5].id)
    report = read_archive(other, as_file(tmp_path, begun + b"".join(pieces)), labels=LABELS)
    assert report.new == 9
    assert everything(other) == everything(store)


def test_an_empty_store_s_export_comes_back_too(other: FrameStore, tmp_path: Path) -> None:
    assert read_archive(other, as_file(tmp_path, exported(other)), labels=LABELS).frames == 0


# What is refused

Change = Callable[[dict[str, bytes]], None]


def rezipped(data: bytes, change: Change, *, compression: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as zipped:
        files = {name: zipped.read(name) for name in zipped.namelist()}
    change(files)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as changed:
        for name, content in files.items():
            changed.writestr(name, content)
    return buffer.getvalue()


def named(name: str) -> Change:
    return lambda files: files.update({name: encoded(scene(1))})


def picture_becomes(content: bytes) -> Change:
    return lambda files: files.update({next(name for name in files if name.startswith("pictures/")): content})


def field(name: str, value: object) -> Change:
    def change(files: dict[str, bytes]) -> None:
        body = json.loads(files["labels.json"])
        body["frames"][0][name] = value
        files["labels.json"] = json.dumps(body).encode()

    return change


def without(name: str) -> Change:
    def change(files: dict[str, bytes]) -> None:
        for each in list(files):
            if each.startswith(name):
                del files[each]

    return change


ID = "ab" * 16
REFUSED: dict[str, tuple[Change, str]] = {
    "a path upwards": (named("../evil.jpg"), "it has a file '../evil.jpg'"),
    "an absolute path": (named("/etc/cron.d/evil"), "it has a file"),
    "a path inside pictures": (named(f"pictures/../{ID}.jpg"), "it has a file"),
    "a folder": (named("pictures/"), "it has a file"),
    "another kind": (named(f"pictures/{ID}.png"), "it has a file"),
    "a picture that is not in the table": (named(f"pictures/{ID}.jpg"), "don't belong together"),
    "a table without its pictures": (without("pictures/"), "don't belong together"),
    "no table": (without("labels.json"), "labels.json is missing"),
    "a table that is no JSON": (lambda files: files.update({"labels.json": b"{"}), "labels.json"),
    "another format": (lambda files: files.update({"labels.json": b'{"format": 2, "frames": []}'}), "format"),
    "an unknown label": (field("label", "crane"), "it has frames of 'crane'; the fleet's labels are head"),
    "an id that is a path": (field("id", "../../etc/passwd"), "frames.0.id"),
    "a scene that is none": (field("scene", "'; DROP TABLE frames; --"), "frames.0.scene"),
    "a split that is none": (field("split", "both"), "frames.0.split"),
    "a time without a zone": (field("taken_utc", "2026-10-01T12:00:00"), "frames.0.taken_utc"),
    "a score that is none": (field("score", float("nan")), "labels.json"),
    "a field too many": (field("path", "/etc/passwd"), "frames.0.path"),
    "a name without end": (field("labelled_by", "A" * 1000), "frames.0.labelled_by"),
    "rubbish for a picture": (picture_becomes(b"GIF89a" + bytes(100)), "is not a JPEG"),
    "a PNG": (picture_becomes(encoded(scene(1), "PNG")), "is not a JPEG"),
    "half a picture": (picture_becomes(encoded(scene(1))[:-900]), "can't be read as a picture"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_an_export_is_refused_as_a_whole(
    store: FrameStore, other: FrameStore, tmp_path: Path, what: str
) -> None:
    change, said = REFUSED[what]
    path = as_file(tmp_path, rezipped(exported(store), change))
    with pytest.raises(SitecamError) as refused:
        read_archive(other, path, labels=LABELS)
    assert said in str(refused.value)
    assert "Nothing was imported" in refused.value.means
    nothing_is_in(other)


def nothing_is_in(store: FrameStore) -> None:
    assert store.frames(labelled_only=False) == []
    assert [path for path in (store.root / "frames").rglob("*") if path.is_file()] == []
    assert list((store.root / "incoming").iterdir()) == []


def test_a_name_that_comes_twice_is_refused(store: FrameStore, other: FrameStore, tmp_path: Path) -> None:
    buffer = io.BytesIO(exported(store))
    with zipfile.ZipFile(buffer, "a") as zipped, pytest.warns(UserWarning, match="Duplicate name"):
        zipped.writestr(zipped.namelist()[0], b"another")
    with pytest.raises(DatasetError, match="it has a file"):
        read_archive(other, as_file(tmp_path, buffer.getvalue()), labels=LABELS)
    nothing_is_in(other)


def test_a_zip_bomb_is_refused_by_what_it_says_and_never_unpacked_beyond_it(
    store: FrameStore, other: FrameStore, tmp_path: Path
) -> None:
    bomb = rezipped(exported(store), picture_becomes(bytes(30_000_000)), compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 500_000
    with pytest.raises(DatasetError, match=r"has 30,000,000 bytes, more than 20,000,000"):
        read_archive(other, as_file(tmp_path, bomb), labels=LABELS)
    says_less = bomb.replace((30_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    with pytest.raises(DatasetError, match="can't be imported"):
        read_archive(other, as_file(tmp_path, says_less), labels=LABELS)
    nothing_is_in(other)


def test_a_picture_bomb_is_refused_before_it_is_decoded(store: FrameStore, other: FrameStore, tmp_path: Path) -> None:
    huge = bytearray(encoded(scene(1)))
    at = huge.index(b"\xff\xc0")
    huge[at + 5 : at + 9] = (60000).to_bytes(2, "big") * 2
    path = as_file(tmp_path, rezipped(exported(store), picture_becomes(bytes(huge))))
    with pytest.raises(DatasetError, match="can't be imported"):
        read_archive(other, path, labels=LABELS)
    nothing_is_in(other)


def test_more_files_than_a_store_can_have_are_refused(
    store: FrameStore, other: FrameStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = as_file(tmp_path, exported(store))
    monkeypatch.setattr(archive, "MOST_FRAMES", 9)
    with pytest.raises(DatasetError, match="it has 11 files, more than 9"):
        read_archive(other, path, labels=LABELS)
    nothing_is_in(other)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not much", os.urandom(4000)])
def test_what_is_no_zip_file_is_refused(other: FrameStore, tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DatasetError, match="it is damaged"):
        read_archive(other, as_file(tmp_path, data), labels=LABELS)


def test_an_upload_that_was_cut_anywhere_is_refused_as_a_whole(
    store: FrameStore, other: FrameStore, tmp_path: Path
) -> None:
    data = exported(store)
    for share in range(1, 20):
        with pytest.raises(DatasetError, match="can't be imported"):
            read_archive(other, as_file(tmp_path, data[: len(data) * share // 20]), labels=LABELS)
    nothing_is_in(other)


def test_a_store_without_room_refuses_it_as_a_whole(store: FrameStore, tmp_path: Path) -> None:
    path = as_file(tmp_path, exported(store))
    with FrameStore(tmp_path / "small", Limits(1_000, 0, 60)) as small:
        with pytest.raises(StoreFullError):
            read_archive(small, path, labels=LABELS)
        nothing_is_in(small)
