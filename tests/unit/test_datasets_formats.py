"""Formats of labelled pictures: round trips, what is recognised, and what is said about labels files that are wrong."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import DatasetError
from datasets.edge_impulse import read_edge_impulse, write_edge_impulse
from datasets.folders import Split
from datasets.formats import WRITERS, Written, convert, format_of, opened, read_pictures
from datasets.layouts import read_layout, write_folders, write_tutorial
from datasets.pictures import Box, LabelledPicture
from datasets.writing import safe_name
from tests.fakes.pictures import write

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
LABEL = TEXT | st.sampled_from(
    ["train", "test", "dataset_client1", "unlabelled", "..", "a/b", "a%2Fb", "", "é", "e\u0301"]
)
SPLIT: st.SearchStrategy[Split | None] = st.sampled_from(["train", "test", None])
SIDE = st.integers(1, 5000) | st.floats(0.25, 5000)
BOX = st.builds(Box, TEXT, SIDE, SIDE, SIDE, SIDE)
PICTURE = st.builds(
    LabelledPicture,
    path=st.sampled_from([Path(name) for name in ("a.jpg", "A.JPG", "b", ".hidden.png", "info.labels", "ü" * 120)]),
    label=st.none() | LABEL,
    split=SPLIT,
    part=st.sampled_from([None, "dataset_client1", "dataset_client12", "dataset_server"]),
    name=st.none() | TEXT,
    boxes=st.lists(BOX, max_size=2).map(tuple),
    metadata=st.dictionaries(TEXT, TEXT, max_size=2).map(lambda pairs: tuple(sorted(pairs.items()))),
)


def on_disk(root: Path, pictures: list[LabelledPicture]) -> list[LabelledPicture]:
    """The same pictures as files, each with bytes of its own."""
    return [
        replace(picture, path=write(root / str(number) / picture.path, f"picture {number}".encode()))
        for number, picture in enumerate(pictures)
    ]


def told(pictures: tuple[LabelledPicture, ...] | list[LabelledPicture]) -> Counter[tuple[bytes, LabelledPicture]]:
    """All that is known of each, wherever its file lies."""
    return Counter((picture.path.read_bytes(), replace(picture, path=Path())) for picture in pictures)


@given(st.lists(PICTURE, min_size=1, max_size=5), st.lists(st.sampled_from(list(WRITERS)), min_size=3, max_size=3))
@settings(max_examples=25, deadline=None)
def test_nothing_is_lost_on_any_way_through_the_formats(pictures: list[LabelledPicture], ways: list[Written]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        first = on_disk(root / "first", pictures)
        WRITERS[ways[0]](first, root / "0")
        for number, way in enumerate(ways[1:]):
            convert(root / str(number), root / str(number + 1), to=way)
        for number, way in enumerate(ways):
            assert format_of(root / str(number)) == way
            assert told(read_pictures(root / str(number)).pictures) == told(first)


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_a_safe_name_is_visible_short_and_stays_in_its_folder(text: str) -> None:
    name = safe_name(text)
    assert name.encode()
    assert len(name.encode()) <= 240
    assert "/" not in name
    assert "\0" not in name
    assert not name.startswith(".")


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("hardhat", "mit Helm", "ヘルメット", "a%2Fb", "x" * 240, "hard.hat"):
        assert safe_name(name) == name


def export(root: Path, entries: list[dict[str, Any]], *, at: str = "info.labels") -> Path:
    write(root / at, json.dumps({"version": 1, "files": entries}, indent=2).encode())
    return root


def entry(path: str, **fields: Any) -> dict[str, Any]:
    return {"path": path, "category": "training", "label": {"type": "label", "label": "head"}} | fields


def test_an_export_of_edge_impulse_is_read(tmp_path: Path) -> None:
    write(tmp_path / "training/head.1.jpg", b"one")
    write(tmp_path / "testing/two.png", b"two")
    write(tmp_path / "testing/three.png", b"three")
    box = {"label": "hardhat", "x": 1, "y": 2, "width": 30, "height": 40}
    export(
        tmp_path,
        [
            entry("training/head.1.jpg", name="head.1", metadata={"site": "yard", "day": "3"}),
            entry("testing/two.png", category="testing", label={"type": "unlabeled"}, boundingBoxes=[box]),
            entry("testing/three.png", category="split"),
        ],
    )
    assert format_of(tmp_path) == "edge-impulse"
    assert read_pictures(tmp_path).pictures == (
        LabelledPicture(
            tmp_path / "training/head.1.jpg", "head", "train", name="head.1", metadata=(("day", "3"), ("site", "yard"))
        ),
        LabelledPicture(tmp_path / "testing/two.png", None, "test", boxes=(Box("hardhat", 1, 2, 30, 40),)),
        LabelledPicture(tmp_path / "testing/three.png", "head", None),
    )


def test_labels_files_in_the_folders_and_boxes_beside_the_pictures_are_read(tmp_path: Path) -> None:
    write(tmp_path / "training/a.jpg", b"a")
    write(tmp_path / "testing/b.jpg", b"b")
    export(tmp_path, [entry("a.jpg")], at="training/info.labels")
    box = {"label": "head", "x": 0, "y": 0, "width": 5, "height": 5}
    for folder, name in (("training", "a.jpg"), ("testing", "b.jpg")):
        body = {"version": 1, "type": "bounding-box-labels", "boundingBoxes": {name: [box]}}
        write(tmp_path / folder / "bounding_boxes.labels", json.dumps(body).encode())
    boxes = (Box("head", 0, 0, 5, 5),)
    assert read_edge_impulse(tmp_path).pictures == (
        LabelledPicture(tmp_path / "training/a.jpg", "head", "train", boxes=boxes),
        LabelledPicture(tmp_path / "testing/b.jpg", None, "test", boxes=boxes),
    )


def test_the_same_entry_in_two_labels_files_is_one_picture(tmp_path: Path) -> None:
    write(tmp_path / "training/a.jpg", b"a")
    export(tmp_path, [entry("training/a.jpg")])
    export(tmp_path, [entry("a.jpg")], at="training/info.labels")
    assert len(read_edge_impulse(tmp_path).pictures) == 1
    export(tmp_path, [entry("a.jpg", category="testing")], at="training/info.labels")
    with pytest.raises(DatasetError, match=r"training/info.labels, line 4: .*otherwise"):
        read_edge_impulse(tmp_path)


def test_files_and_fields_that_are_passed_over_are_named(tmp_path: Path) -> None:
    for name in ("a.jpg", "left.jpg", ".DS_Store"):
        write(tmp_path / "training" / name, b"a")
    export(tmp_path, [entry("training/a.jpg", enabled=False)])
    unread, left = read_edge_impulse(tmp_path).notes
    assert "enabled" in unread
    assert "1 files" in left
    assert "left.jpg" in left


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"path": "../outside.jpg"}, "leaves the folder"),
        ({"path": "training/../training/a.jpg"}, "leaves the folder"),
        ({"path": "link.jpg"}, "leaves the folder"),
        ({"path": "training/gone.jpg"}, "there is no file"),
        ({"path": "x" * 300}, "can't be opened"),
        ({"path": 7}, "not the name of a file"),
        ({"path": "training/a.jpg"}, "twice"),
        ({"category": "post-processing"}, "category is 'post-processing'"),
        ({"label": {"type": "multi-label", "labels": []}}, "type 'multi-label'"),
        ({"label": {"type": "label", "label": 3}}, "label is not a text"),
        ({"name": []}, "name is not a text"),
        ({"metadata": {"site": 1}}, "object of texts"),
        ({"metadata": {"sitecam_part": "etc"}}, "sitecam_part is 'etc'"),
        ({"boundingBoxes": {}}, "not a list"),
        ({"boundingBoxes": [{"x": 1, "y": 1, "width": 1, "height": 1}]}, "no label"),
        ({"boundingBoxes": [{"label": "a", "x": 1, "y": True, "width": 1, "height": 1}]}, "no y that is a number"),
        ({"boundingBoxes": [{"label": "a", "x": 10**400, "y": 1, "width": 1, "height": 1}]}, "no x that is"),
        ({"boundingBoxes": [{"label": "a", "x": 1, "y": 1, "width": 0, "height": 1}]}, "no area"),
    ],
)
def test_a_wrong_entry_is_refused_with_file_and_line(tmp_path: Path, second: dict[str, Any], message: str) -> None:
    root = tmp_path / "export"
    write(tmp_path / "outside.jpg", b"no")
    for name in ("a.jpg", "b.jpg"):
        write(root / "training" / name, b"a")
    (root / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    export(root, [entry("training/a.jpg"), entry("training/b.jpg") | second])
    lines = (root / "info.labels").read_text().splitlines()
    line = [number for number, text in enumerate(lines, 1) if text == "    {"][1]
    with pytest.raises(DatasetError, match=message) as refused:
        read_edge_impulse(root)
    assert refused.value.what.startswith(f"{root / 'info.labels'}, line {line}: entry 2 of files")
    assert refused.value.means
    assert refused.value.do


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"version": 1,\n "files": [}', r"line 2: this is not JSON"),
        (b'{"version": 1,\n\n "files": ["\xff"]}', r"line 3: this is not UTF-8"),
        (b'{\n"version": 2, "files": []}', r"line 2: its version is 2"),
        (b'{"files": []}', r"its version is None"),
        (b'{"version": true, "files": []}', r"its version is True"),
        (b"[]", r"line 1: its outermost value"),
        (b'{"version": 1, "files": 3}', r"files is not a list"),
        (b'{"version": 1, "files": [], "files": []}', r"line 1: the key 'files' stands twice"),
        (b'{"version": 1, "files": ["\\ud800"]}', r"half a character"),
        (b'{"version": 1, "files": [NaN]}', r"NaN is not a number"),
        (b'{"version": 1, "files": ' + b"[" * 100_000, r"can't be read"),
        (b'{"version": 1, "files": [3]}', r"line 1: entry 1 of files: it is not an object"),
    ],
)
def test_a_labels_file_that_cannot_be_read_is_refused_with_its_line(tmp_path: Path, data: bytes, message: str) -> None:
    write(tmp_path / "info.labels", data)
    with pytest.raises(DatasetError, match=message) as refused:
        read_edge_impulse(tmp_path)
    assert str(tmp_path / "info.labels") in refused.value.what


def test_a_folder_without_labels_files_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no info.labels"):
        read_edge_impulse(tmp_path)


def test_edge_impulse_gets_ordinary_entries_for_ordinary_pictures(tmp_path: Path) -> None:
    picture = LabelledPicture(write(tmp_path / "a.jpg", b"a"), "head", "test")
    assert write_edge_impulse([picture, replace(picture, split="train")], tmp_path / "new") == ()
    assert json.loads((tmp_path / "new/info.labels").read_text()) == {
        "version": 1,
        "files": [
            {"path": "testing/a.jpg", "category": "testing", "label": {"type": "label", "label": "head"}},
            {"path": "training/a.jpg", "category": "training", "label": {"type": "label", "label": "head"}},
        ],
    }


def test_ordinary_pictures_need_nothing_beside_their_folders(tmp_path: Path) -> None:
    picture = LabelledPicture(write(tmp_path / "a.jpg", b"a"), "head", "test", "dataset_client2")
    other = replace(picture, label="hardhat", split="train")
    assert write_tutorial([picture, other], tmp_path / "tutorial") == ()
    assert write_folders([replace(one, part=None) for one in (picture, other)], tmp_path / "folders") == ()
    written = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(written) == [
        "a.jpg",
        "folders/test/head/a.jpg",
        "folders/train/hardhat/a.jpg",
        "tutorial/dataset_client2/test/head/a.jpg",
        "tutorial/dataset_client2/train/hardhat/a.jpg",
    ]


def test_a_picture_that_somebody_moved_goes_by_its_new_folder(tmp_path: Path) -> None:
    picture = LabelledPicture(write(tmp_path / "a.jpg", b"a"), "head", "train", metadata=(("site", "yard"),))
    write_folders([picture, replace(picture, label="hardhat")], tmp_path / "new")
    (tmp_path / "new/train/head/a.jpg").rename(tmp_path / "new/train/hardhat/b.jpg")
    (tmp_path / "new/train/head").rmdir()
    dataset = read_layout(tmp_path / "new")
    assert [(one.path.name, one.label, one.metadata) for one in dataset.pictures] == [
        ("a.jpg", "hardhat", picture.metadata),
        ("b.jpg", "hardhat", ()),
    ]
    assert "train/head/a.jpg" in dataset.notes[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label": 3}, "label is not a text"),
        ({"split": "validation"}, "neither train nor test"),
        ({"part": "../etc"}, "neither dataset_server"),
        ({"lable": "head"}, "not an object of"),
        ({"boxes": 1}, "not a list"),
    ],
)
def test_a_wrong_entry_beside_class_folders_is_refused_with_its_line(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    write(tmp_path / "head/ä.jpg", b"a")
    body = {"version": 1, "pictures": {"head/ä.jpg": fields}}
    write(tmp_path / "sitecam-labels.json", json.dumps(body, indent=1).encode())
    with pytest.raises(DatasetError, match=message) as refused:
        read_layout(tmp_path)
    assert refused.value.what.startswith(f"{tmp_path / 'sitecam-labels.json'}, line 4: ")


def test_names_that_clash_are_renamed_with_a_word(tmp_path: Path) -> None:
    pictures = on_disk(tmp_path, [LabelledPicture(Path("a.jpg"), label, "train") for label in ("head", "hardhat")])
    (note,) = write_edge_impulse(pictures, tmp_path / "new")
    assert "1 files were renamed" in note
    assert "a.jpg is training/a.2.jpg" in note
    assert told(read_edge_impulse(tmp_path / "new").pictures) == told(pictures)


@pytest.mark.parametrize("to", list(WRITERS))
def test_what_is_there_is_never_overwritten_and_a_failure_leaves_nothing(tmp_path: Path, to: Written) -> None:
    picture = LabelledPicture(write(tmp_path / "in/a.jpg", b"a"), "head", "train")
    for there in ("file", "folder", "link"):
        target = tmp_path / "out" / there
        target.parent.mkdir(exist_ok=True)
        match there:
            case "file":
                target.touch()
            case "folder":
                target.mkdir()
            case _:
                target.symlink_to("nowhere")
        with pytest.raises(DatasetError, match="there already"):
            WRITERS[to]([picture], target)
    gone = replace(picture, path=tmp_path / "gone.jpg")
    with pytest.raises(FileNotFoundError):
        WRITERS[to]([picture, gone], tmp_path / "out" / "new")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["file", "folder", "link"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"label": "\udcff"}, "not Unicode"), ({"metadata": (("sitecam_part", "x"),)}, "called sitecam_part")],
)
def test_what_no_format_can_hold_is_refused(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    picture = LabelledPicture(write(tmp_path / "a.jpg", b"a"), "head", "train")
    for writer in WRITERS.values():
        with pytest.raises(DatasetError, match=message):
            writer([replace(picture, **wrong)], tmp_path / "new")
        with pytest.raises(DatasetError, match="no picture to write"):
            writer([], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_copy_inside_its_source_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "head/a.jpg", b"a")
    with pytest.raises(DatasetError, match="lies in"):
        convert(tmp_path, tmp_path / "copy", to="folders")


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no folder"), opened(tmp_path / "nowhere"):
        pass
