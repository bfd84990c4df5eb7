"""Importing folders: what is stored, what is reported, and what leaves the store as it was."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from appliance.errors import DatasetError, StoreError
from appliance.store.frames import FrameStore
from appliance.store.importing import ImportReport, import_folders
from appliance.store.pictures import PictureFiles
from appliance.vision import encode_jpeg
from datasets.likeness import distances, stacked
from tests.fakes.pictures import a_second_later, class_folders, encoded, scene, write

HARDHAT = Path(__file__).resolve().parents[2].parent / "shared" / "datasets" / "hardhat"
LABELS = ("head", "hardhat", "nobody")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FrameStore]:
    with FrameStore(tmp_path / "store") as store:
        yield store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pictures"


def run(store: FrameStore, folder: Path) -> ImportReport:
    return import_folders(store, folder, labels=LABELS, by="tests")


def nothing_stored(root: Path, store: FrameStore) -> bool:
    files = [path for name in ("frames", "incoming") for path in (root / "store" / name).rglob("*") if path.is_file()]
    return store.frames(labelled_only=False) == [] and files == []


def test_splits_and_labels_are_taken_from_the_folders(store: FrameStore, folder: Path) -> None:
    class_folders(folder, seeds={"train/head": range(3), "train/hardhat": range(10, 12), "test/head": range(20, 21)})
    report = run(store, folder)
    assert report.added == {"train": {"head": 3, "hardhat": 2}, "test": {"head": 1}}
    assert store.counts() == report.added
    assert {(frame.source, frame.labelled_by) for frame in store.frames()} == {("import", "tests")}
    assert (report.duplicates, report.moved_to_train, report.contradictions, report.unreadable) == (0, 0, (), ())


def test_a_second_import_adds_nothing(store: FrameStore, folder: Path) -> None:
    class_folders(folder, seeds={"train/head": range(3), "test/hardhat": range(10, 12)})
    write(folder / "train" / "head" / "png.jpg", encoded(scene(50), "PNG"))
    run(store, folder)
    before = store.frames()
    report = run(store, folder)
    assert (report.added, report.duplicates) == ({}, 6)
    assert store.frames() == before
    assert report.text().startswith("nothing new")


def test_twins_across_train_and_test_go_to_train_and_are_counted(store: FrameStore, folder: Path) -> None:
    class_folders(folder, seeds={"train/head": range(3), "test/head": range(10, 12), "test/hardhat": range(20, 22)})
    write(folder / "test" / "head" / "identical.jpg", encoded(scene(0)))
    write(folder / "test" / "head" / "near.jpg", encoded(a_second_later(scene(1))))
    report = run(store, folder)
    assert report.moved_to_train == 2
    assert report.duplicates == 1
    assert report.added == {"train": {"head": 4}, "test": {"head": 2, "hardhat": 2}}
    assert "2 scenes lay across train and test" in report.text()


def test_an_import_without_frames_to_test_on_says_so(store: FrameStore, folder: Path) -> None:
    class_folders(folder, seeds={"train/head": range(3), "train/hardhat": range(10, 12)})
    assert "no new frame to test on" in run(store, folder).text()


def test_unreadable_pictures_are_named_and_skipped(store: FrameStore, folder: Path) -> None:
    class_folders(folder, seeds={"head": range(2), "hardhat": range(10, 12)})
    cut = write(folder / "head" / "cut.jpg", encoded(scene(5))[:400])
    text = write(folder / "hardhat" / "notes.txt", b"no picture")
    report = run(store, folder)
    assert [path for path, _ in report.unreadable] == [text, cut]
    assert sum(sum(labels.values()) for labels in report.added.values()) == 4
    assert all(report.text().count(str(path)) == 1 for path in (cut, text))


def test_a_picture_under_two_labels_keeps_the_first_and_is_named(store: FrameStore, folder: Path) -> None:
    class_folders(folder, seeds={"hardhat": range(2), "head": range(1, 4)})
    report = run(store, folder)
    assert report.contradictions == ((folder / "head" / "1.jpg", "hardhat"),)
    assert "not relabelled" in report.text()
    assert sorted(str(frame.label) for frame in store.frames()) == ["hardhat", "hardhat", "head", "head"]


def test_plain_jpegs_keep_their_bytes_and_all_else_is_encoded_anew(store: FrameStore, folder: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = {
        "plain": encoded(scene(1)),
        "png": encoded(scene(2), "PNG"),
        "progressive": encoded(scene(3), progressive=True),
        "turned": encoded(scene(4), exif=turned),
        "webp": encoded(scene(5), "WEBP"),
        "bmp": encoded(scene(6), "BMP"),
        "large": encode_jpeg(np.random.default_rng(0).integers(0, 256, (1300, 1300, 3), dtype=np.uint8), quality=97),
    }
    assert len(kinds["large"]) > 2_000_000
    for name, data in kinds.items():
        write(folder / "head" / name, data)
    class_folders(folder, seeds={"hardhat": range(100, 101)})
    run(store, folder)
    stored = [store.jpeg(frame.id) for frame in store.frames(label="head")]
    assert [name for name, data in sorted(kinds.items()) if data in stored] == ["plain"]
    for data in stored:
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "JPEG"
            assert "progressive" not in image.info
            assert image.getexif().get(0x0112, 1) == 1
    sizes = {(frame.width, frame.height) for frame in store.frames(label="head")}
    assert sizes == {(96, 72), (72, 96), (1300, 1300)}


def test_an_unknown_label_is_refused_before_anything_is_stored(store: FrameStore, folder: Path, tmp_path: Path) -> None:
    class_folders(folder, seeds={"hardhats": range(2), "head": range(10, 12)})
    with pytest.raises(DatasetError, match="'hardhats'") as refused:
        run(store, folder)
    assert "'hardhat'" in refused.value.do
    assert "labels" in refused.value.do
    assert nothing_stored(tmp_path, store)


def test_one_class_only_is_refused_unless_the_store_has_another(
    store: FrameStore, folder: Path, tmp_path: Path
) -> None:
    class_folders(folder, seeds={"head": range(2)})
    with pytest.raises(DatasetError, match="'head' only"):
        run(store, folder)
    assert nothing_stored(tmp_path, store)
    frame_id = store.add(encoded(scene(99)), taken_utc=datetime.now(UTC), source="live").frame.id
    store.label(frame_id, "hardhat", by="Ada")
    assert sum(labels.get("head", 0) for labels in run(store, folder).added.values()) == 2


def test_an_empty_class_folder_is_refused(store: FrameStore, folder: Path, tmp_path: Path) -> None:
    class_folders(folder, seeds={"head": range(2)})
    (folder / "hardhat").mkdir()
    with pytest.raises(DatasetError, match="hardhat is empty"):
        run(store, folder)
    assert nothing_stored(tmp_path, store)


def test_only_unreadable_pictures_are_an_error(store: FrameStore, folder: Path, tmp_path: Path) -> None:
    write(folder / "head" / "a.jpg", b"no")
    write(folder / "hardhat" / "b.jpg", b"no")
    with pytest.raises(DatasetError, match="None of the 2 files"):
        run(store, folder)
    assert nothing_stored(tmp_path, store)


def test_a_failure_in_the_middle_leaves_the_store_as_it_was(
    store: FrameStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_folders(folder, seeds={"head": range(4), "hardhat": range(10, 14)})
    kept: list[str] = []
    keep = PictureFiles.keep

    def full_disk(self: PictureFiles, frame_id: str, jpeg: bytes | Path) -> None:
        kept.append(frame_id)
        if len(kept) == 5:
            raise OSError(28, "No space left on device")
        keep(self, frame_id, jpeg)

    monkeypatch.setattr(PictureFiles, "keep", full_disk)
    with pytest.raises(OSError, match="No space left"):
        run(store, folder)
    assert nothing_stored(tmp_path, store)
    assert store.counts() == {}


def test_a_database_that_refuses_leaves_the_store_as_it_was(store: FrameStore, folder: Path, tmp_path: Path) -> None:
    class_folders(folder, seeds={"head": range(4), "hardhat": range(10, 14)})
    database = sqlite3.connect(tmp_path / "store" / "frames.sqlite")
    database.execute(
        "CREATE TRIGGER refuses BEFORE INSERT ON frames WHEN (SELECT COUNT(*) FROM frames) = 4"
        " BEGIN SELECT RAISE(ABORT, 'no more'); END"
    )
    with pytest.raises(StoreError, match=r"The frame store refused \(no more\)"):
        run(store, folder)
    assert nothing_stored(tmp_path, store)
    database.execute("DROP TRIGGER refuses")
    database.close()
    assert run(store, folder).duplicates == 0


def test_everything_can_be_put_into_one_split(store: FrameStore, folder: Path) -> None:
    class_folders(folder, seeds={"head": range(6), "hardhat": range(10, 16)})
    report = import_folders(store, folder, labels=LABELS, by="tests", split="test")
    assert report.added == {"test": {"head": 6, "hardhat": 6}}


def test_the_report_is_json_too(store: FrameStore, folder: Path) -> None:
    class_folders(folder, seeds={"train/head": range(2), "train/hardhat": range(1, 3)})
    write(folder / "train" / "head" / "bad.jpg", b"no")
    body = json.loads(run(store, folder).json())
    assert body["added"] == {"train": {"hardhat": 2, "head": 1}}
    assert (body["duplicates"], body["moved_to_train"]) == (1, 0)
    assert [Path(entry["path"]).name for entry in body["unreadable"]] == ["bad.jpg"]
    assert [(Path(entry["path"]).name, entry["label"]) for entry in body["contradictions"]] == [("1.jpg", "hardhat")]


@pytest.mark.skipif(not HARDHAT.is_dir(), reason="the hardhat data set (../shared/datasets) is not here")
def test_no_near_twins_lie_across_the_splits_of_the_tutorials_data(store: FrameStore) -> None:
    report = import_folders(store, HARDHAT / "dataset_client1", labels=LABELS, by="tests")
    frames = store.frames()
    assert len(frames) + report.duplicates == 201
    assert report.unreadable == ()
    assert report.moved_to_train >= 1
    train = stacked([frame.likeness for frame in frames if frame.split == "train"])
    tested = [frame for frame in frames if frame.split == "test"]
    assert len(tested) >= 20
    assert all(distances(train, frame.likeness).min() > 44 for frame in tested)
