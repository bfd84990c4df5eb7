"""The command that converts: boxes, a camera's export, and what a camera imports from Edge Impulse's format."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from appliance.errors import DatasetError
from appliance.store.archive import write_archive
from appliance.store.frames import FrameStore
from appliance.store.importing import import_folders
from datasets.__main__ import main
from datasets.boxes import cut_out
from datasets.edge_impulse import read_edge_impulse, write_edge_impulse
from datasets.formats import convert, opened, read_pictures
from datasets.pictures import Box, LabelledPicture
from tests.fakes.pictures import class_folders, encoded, scene, write

LABELS = ("head", "hardhat", "nobody")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FrameStore]:
    with FrameStore(tmp_path / "store") as store:
        yield store


def boxed(root: Path) -> LabelledPicture:
    path = write(root / "in" / "people.png", encoded(scene(1, width=100, height=80), "PNG"))
    boxes = (Box("head", 10, 20, 30, 40), Box("hardhat", 90.4, -5, 50, 15), Box("hardhat", 200, 0, 5, 5))
    return LabelledPicture(path, None, "test", name="people", boxes=boxes, metadata=(("site", "yard"),))


def test_boxes_are_cut_out_to_the_pixel_under_their_labels(tmp_path: Path) -> None:
    done = cut_out([boxed(tmp_path)], tmp_path / "cut")
    head, hat = done.pictures
    pixels = scene(1, width=100, height=80)
    with Image.open(head.path) as image:
        assert np.array_equal(np.asarray(image), pixels[20:60, 10:40])
    with Image.open(hat.path) as image:
        assert np.array_equal(np.asarray(image), pixels[0:10, 90:100])
    assert [(one.label, one.split, one.boxes) for one in done.pictures] == [
        ("head", "test", ()),
        ("hardhat", "test", ()),
    ]
    assert head.metadata == (("cut_from", "people.png"), ("site", "yard"))
    assert "box 3 of" in done.notes[1]


@pytest.mark.parametrize(
    ("boxes", "files"),
    [
        ("crop", ["test/hardhat/people.box2.png", "test/head/people.box1.png"]),
        ("ignore", ["test/unlabelled/people.png"]),
        ("keep", ["test/unlabelled/people.png"]),
    ],
)
def test_what_becomes_of_boxes_is_a_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], boxes: str, files: list[str]
) -> None:
    write_edge_impulse([boxed(tmp_path)], tmp_path / "ei")
    new = tmp_path / "new"
    assert main(["convert", str(tmp_path / "ei"), str(new), "--to", "folders", "--boxes", boxes]) == 0
    written = sorted(path.relative_to(new).as_posix() for path in new.rglob("*.png"))
    assert written == files
    assert (sum(len(one.boxes) for one in read_pictures(new).pictures) == 3) is (boxes == "keep")
    assert f"1 pictures read, {len(files)} written" in capsys.readouterr().out


def test_the_command_tells_programs_what_it_did_and_people_what_went_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class_folders(tmp_path / "in", seeds={"head": range(2)})
    call = ["convert", str(tmp_path / "in"), str(tmp_path / "out"), "--to", "tutorial", "--json"]
    assert main(call) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["read"], body["written"]) == (2, 2)
    assert main(call) == 1
    assert "never overwritten" in capsys.readouterr().err


def test_what_a_camera_exports_can_be_written_for_edge_impulse(tmp_path: Path, store: FrameStore) -> None:
    pictures = {label: encoded(scene(seed)) for seed, label in enumerate(("head", "hardhat"))}
    for label, data in pictures.items():
        frame = store.add(data, taken_utc=datetime.now(UTC), source="live").frame
        store.label(frame.id, label, by="Ada")
    store.add(encoded(scene(9)), taken_utc=datetime.now(UTC), source="live")
    write(tmp_path / "export.zip", b"".join(write_archive(store, camera="gate-1")))
    done = convert(tmp_path / "export.zip", tmp_path / "ei", to="edge-impulse")
    assert (done.read, done.written) == (3, 3)
    read = {one.label: one for one in read_edge_impulse(tmp_path / "ei").pictures}
    assert {label: one.path.read_bytes() for label, one in read.items() if label} == pictures
    assert None in read
    assert dict(read["head"].metadata)["labelled_by"] == "Ada"
    assert {one.split for one in read.values()} == {frame.split for frame in store.frames(labelled_only=False)}


@pytest.mark.parametrize(
    ("names", "body", "message"),
    [
        (["pictures/../../x.jpg"], {}, "it has a file"),
        ([], {"format": 2, "frames": []}, "format is 2"),
        ([], {"format": 1}, "can't be read"),
        ([], {"format": 1, "frames": [{"id": "../x", "label": None, "split": "train"}]}, "no frame's id"),
        ([], {"format": 1, "frames": [{"id": "a" * 32, "label": None, "split": "x"}]}, "label and split"),
        ([], {"format": 1, "frames": [{"id": "a" * 32, "label": None, "split": "test"}]}, "don't belong together"),
        ([f"pictures/{'b' * 32}.jpg"], {"format": 1, "frames": []}, "don't belong together"),
    ],
)
def test_a_file_that_is_no_cameras_export_is_refused(
    tmp_path: Path, names: list[str], body: dict[str, Any], message: str
) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
        archive.writestr("labels.json", json.dumps(body))
    write(tmp_path / "export.zip", held.getvalue())
    with pytest.raises(DatasetError, match=message), opened(tmp_path / "export.zip"):
        pass


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "export.zip", b"PK no zip")
    with pytest.raises(DatasetError, match="damaged"), opened(tmp_path / "export.zip"):
        pass


def test_a_camera_imports_an_export_of_edge_impulse(tmp_path: Path, store: FrameStore) -> None:
    class_folders(
        tmp_path / "in", seeds={"train/head": range(3), "train/hardhat": range(10, 13), "test/head": range(20, 22)}
    )
    pictures = [*read_pictures(tmp_path / "in").pictures, boxed(tmp_path)]
    write_edge_impulse(pictures, tmp_path / "ei")
    report = import_folders(store, tmp_path / "ei", labels=LABELS, by="tests")
    assert report.added == {"train": {"head": 3, "hardhat": 3}, "test": {"head": 2}}
    ((skipped, reason),) = report.unreadable
    assert skipped.name == "people.png"
    assert "no label of its own" in reason


def test_boxes_alone_are_not_imported_and_the_way_out_is_named(tmp_path: Path, store: FrameStore) -> None:
    write_edge_impulse([boxed(tmp_path)], tmp_path / "ei")
    with pytest.raises(DatasetError, match="label of its own") as refused:
        import_folders(store, tmp_path / "ei", labels=LABELS, by="tests")
    assert "--boxes crop" in refused.value.do
    assert store.counts() == {}


def test_boxes_are_imported_as_pictures_of_their_own_where_asked(tmp_path: Path, store: FrameStore) -> None:
    write_edge_impulse([boxed(tmp_path)], tmp_path / "ei")
    report = import_folders(store, tmp_path / "ei", labels=LABELS, by="tests", crop=True)
    assert report.added == {"test": {"head": 1, "hardhat": 1}}
    assert not report.unreadable
    assert "cut out of 1" in report.notes[0]


def test_a_camera_imports_what_another_one_exported(tmp_path: Path, store: FrameStore) -> None:
    with FrameStore(tmp_path / "other") as other:
        for seed, label in enumerate(("head", "hardhat")):
            frame = other.add(encoded(scene(seed)), taken_utc=datetime.now(UTC), source="live").frame
            other.label(frame.id, label, by="Ada")
        (tmp_path / "export.zip").write_bytes(b"".join(write_archive(other, camera="gate-1")))
    import_folders(store, tmp_path / "export.zip", labels=LABELS, by="tests")
    assert {frame.label for frame in store.frames()} == {"head", "hardhat"}
