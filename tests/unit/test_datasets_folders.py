"""Labelled folders: the layouts that are read, and what is said about those that can't be."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import DatasetError
from datasets.folders import labels_in, read_folders
from tests.fakes.pictures import write

HARDHAT = Path(__file__).resolve().parents[2].parent / "shared" / "datasets" / "hardhat"


def tree(root: Path, *names: str) -> Path:
    for name in names:
        write(root / name, b"anything")
    return root


def found(root: Path) -> list[tuple[str, str, str | None]]:
    return [(file.path.relative_to(root).as_posix(), file.label, file.split) for file in read_folders(root)]


def test_class_folders_are_read_without_a_split(tmp_path: Path) -> None:
    tree(tmp_path, "head/b.png", "head/a.jpg", "hardhat/c")
    assert found(tmp_path) == [
        ("hardhat/c", "hardhat", None),
        ("head/a.jpg", "head", None),
        ("head/b.png", "head", None),
    ]


def test_train_and_test_folders_give_the_split(tmp_path: Path) -> None:
    tree(tmp_path, "train/head/a.jpg", "train/hardhat/b.jpg", "test/head/c.jpg")
    assert found(tmp_path) == [
        ("train/hardhat/b.jpg", "hardhat", "train"),
        ("train/head/a.jpg", "head", "train"),
        ("test/head/c.jpg", "head", "test"),
    ]


def test_the_tutorials_layout_is_read_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "dataset_client1/train/head/a.jpg",
        "dataset_client2/train/hardhat/b.jpg",
        "dataset_server/test/head/c.jpg",
        "evaluate/head/never-trained-on.jpg",
        "README.md",
    )
    assert [name for name, _, _ in found(tmp_path)] == [
        "dataset_client1/train/head/a.jpg",
        "dataset_client2/train/hardhat/b.jpg",
        "dataset_server/test/head/c.jpg",
    ]


def test_a_label_may_be_called_test(tmp_path: Path) -> None:
    tree(tmp_path, "test/a.jpg", "real/b.jpg")
    assert [label for _, label, _ in found(tmp_path)] == ["real", "test"]


def test_hidden_files_and_folders_inside_class_folders_are_passed_over(tmp_path: Path) -> None:
    tree(tmp_path, "head/.DS_Store", "head/a.jpg", "head/more/b.jpg", "hardhat/c.jpg", ".cache/x/d.jpg")
    assert [name for name, _, _ in found(tmp_path)] == ["hardhat/c.jpg", "head/a.jpg"]


def test_labels_are_listed_once_in_order(tmp_path: Path) -> None:
    tree(tmp_path, "train/nobody/a", "train/head/b", "test/head/c")
    assert labels_in(read_folders(tmp_path)) == ("head", "nobody")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no class folders"),
        (["a.jpg", ".hidden/a.jpg"], "no class folders"),
        (["head/a.jpg", "hardhat/.keep"], "hardhat is empty"),
        (["train/head/a.jpg", "train/hardhat/b.jpg", "test/head/.keep", "test/hardhat/c.jpg"], "test/head is empty"),
        (["head/a.jpg", "head/b.jpg"], r"one class only \(head\)"),
        (["train/head/a.jpg", "train/hardhat/b.jpg", "validation/head/c.jpg"], "holds validation beside train"),
    ],
)
def test_a_folder_that_cannot_be_learned_from_is_refused(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message) as refused:
        read_folders(tree(tmp_path, *names))
    assert str(tmp_path) in refused.value.what
    assert refused.value.means
    assert refused.value.do


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no folder .*nowhere"):
        read_folders(tmp_path / "nowhere")


def test_one_class_is_enough_where_the_caller_says_so(tmp_path: Path) -> None:
    assert len(read_folders(tree(tmp_path, "head/a.jpg"), fewest_labels=1)) == 1


@pytest.mark.skipif(not HARDHAT.is_dir(), reason="the hardhat data set (../shared/datasets) is not here")
def test_the_tutorials_own_data_is_read() -> None:
    files = read_folders(HARDHAT)
    assert labels_in(files) == ("hardhat", "head")
    assert len(files) == 423
    assert {file.split for file in files} == {"train", "test"}
