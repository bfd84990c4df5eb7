"""The check of a data set: what it finds, and that it finds nothing where nothing is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance.errors import DatasetError
from datasets.__main__ import main
from datasets.check import CheckReport, Finding, check
from datasets.tells import find_tells, wilson_low
from tests.fakes.pictures import a_second_later, class_folders, encoded, scene, write

HARDHAT = Path(__file__).resolve().parents[2].parent / "shared" / "datasets" / "hardhat"
FINE = {"train/head": range(8), "train/hardhat": range(10, 18), "test/head": range(100, 130)}
FINE |= {"test/hardhat": range(200, 230)}


def large(folder: Path, seeds: dict[str, range]) -> Path:
    for name, of_folder in seeds.items():
        for seed in of_folder:
            write(folder / name / f"{seed}.jpg", encoded(scene(seed, width=128, height=96)))
    return folder


def found(report: CheckReport) -> dict[str, Finding]:
    return {finding.kind: finding for finding in report.findings}


def test_nothing_is_found_in_a_data_set_that_is_fine(tmp_path: Path) -> None:
    report = check(large(tmp_path, FINE))
    assert report.findings == ()
    assert (report.format, report.pictures, report.different) == ("folders", 76, 76)
    assert report.counts == {"train": {"hardhat": 8, "head": 8}, "test": {"hardhat": 30, "head": 30}}
    assert "nothing found" in report.text()


def test_identical_and_near_identical_pictures_are_found_within_and_across_splits(tmp_path: Path) -> None:
    large(tmp_path, FINE)
    leak = encoded(scene(0, width=128, height=96), "PNG", compress_level=1)
    once = write(tmp_path / "train/head/once.png", leak)
    again = write(tmp_path / "test/head/again.png", encoded(scene(0, width=128, height=96), "PNG", compress_level=9))
    assert once.read_bytes() != again.read_bytes()
    write(tmp_path / "test/hardhat/near.jpg", encoded(a_second_later(scene(10, width=128, height=96))))
    write(tmp_path / "train/hardhat/near.jpg", encoded(a_second_later(scene(11, width=128, height=96))))
    findings = found(check(tmp_path))
    assert findings["identical-across-splits"].files == ("train/head/once.png = test/head/again.png",)
    assert "1 of 62 test pictures" in findings["identical-across-splits"].sentence
    assert "2 of 62 test pictures" in findings["near-identical-across-splits"].sentence
    assert "train/hardhat/11.jpg = train/hardhat/near.jpg" in findings["near-identical-within-split"].files
    assert "identical-within-split" not in findings


def test_one_picture_under_two_labels_is_found(tmp_path: Path) -> None:
    large(tmp_path, FINE)
    write(tmp_path / "train/hardhat/wrong.jpg", (tmp_path / "train/head/3.jpg").read_bytes())
    findings = found(check(tmp_path))
    assert findings["identical-two-labels"].files == ("train/hardhat/wrong.jpg = train/head/3.jpg",)
    assert "near-identical-two-labels" not in findings


def test_a_picture_at_two_cameras_is_found(tmp_path: Path) -> None:
    class_folders(tmp_path / "dataset_client1", seeds={"train/head": range(3), "train/hardhat": range(10, 13)})
    class_folders(tmp_path / "dataset_server", seeds={"train/head": range(2, 3), "train/hardhat": range(20, 21)})
    assert len(found(check(tmp_path))["identical-across-cameras"].files) == 1


def test_bad_tiny_unbalanced_and_too_few_pictures_are_found(tmp_path: Path) -> None:
    large(tmp_path, {"train/head": range(7), "train/hardhat": range(10, 12), "test/head": range(20, 22)})
    write(tmp_path / "train/head/notes.txt", b"no picture")
    write(tmp_path / "train/hardhat/tiny.jpg", encoded(scene(50, width=95, height=200)))
    findings = found(check(tmp_path))
    assert findings["unreadable"].files[0].startswith("train/head/notes.txt: ")
    assert findings["tiny"].files == ("train/hardhat/tiny.jpg: 95 x 200",)
    assert "2 pictures of 'head', 0 of 'hardhat'" in findings["imbalance"].sentence
    assert "0 test pictures of 'hardhat'" in findings["few-to-test"].sentence


def test_a_shape_that_gives_the_label_away_is_found_and_a_mixed_one_is_not(tmp_path: Path) -> None:
    for seed in range(12):
        write(tmp_path / "telling/head" / f"{seed}.jpg", encoded(scene(seed, width=128, height=96)))
        write(tmp_path / "telling/hardhat" / f"{seed}.jpg", encoded(scene(50 + seed, width=160, height=96)))
        width = 128 if seed % 2 else 160
        write(tmp_path / "mixed/head" / f"{seed}.jpg", encoded(scene(seed, width=width, height=96)))
        write(tmp_path / "mixed/hardhat" / f"{seed}.jpg", encoded(scene(50 + seed, width=width, height=96)))
    telling = [one for one in check(tmp_path / "telling").findings if one.kind == "gives-label-away"]
    assert any(one.sentence.startswith("from the shape alone 100%") for one in telling)
    assert any("128 x 96: head 12" in one.files for one in telling)
    mixed = [one.sentence for one in check(tmp_path / "mixed").findings if one.kind == "gives-label-away"]
    assert not any("shape alone" in sentence for sentence in mixed)


def test_a_property_that_every_picture_has_for_itself_tells_nothing() -> None:
    labels = ["head", "hardhat"] * 20
    assert find_tells([{"id": str(number)} for number in range(40)], labels) == []
    (tell,) = find_tells([{"site": label[:2]} for label in labels], labels)
    assert (tell.accuracy, tell.chance) == (1.0, 0.5)


def test_the_interval_is_wilsons() -> None:
    assert wilson_low(30, 30) == pytest.approx(0.8865, abs=1e-4)
    assert wilson_low(81, 263) == pytest.approx(0.2553, abs=1e-4)  # Newcombe, Statistics in Medicine 17, 1998, table I


def test_the_command_says_what_it_found_and_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large(tmp_path / "fine", FINE)
    assert main(["check", str(tmp_path / "fine")]) == 0
    capsys.readouterr()
    write(tmp_path / "fine/train/head/bad.jpg", b"no")
    assert main(["check", str(tmp_path / "fine"), "--json"]) == 3
    assert [one["kind"] for one in json.loads(capsys.readouterr().out)["findings"]] == ["unreadable"]
    assert main(["check", str(tmp_path / "nowhere")]) == 1
    assert "no folder" in capsys.readouterr().err


def test_a_data_set_without_a_readable_picture_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "head/a.jpg", b"no")
    with pytest.raises(DatasetError, match="None of the 1 files"):
        check(tmp_path)


@pytest.mark.skipif(not HARDHAT.is_dir(), reason="the hardhat data set (../shared/datasets) is not here")
def test_the_tutorials_own_data_leaks_and_its_sources_give_labels_away() -> None:
    report = check(HARDHAT)
    assert (report.format, report.pictures) == ("tutorial", 423)
    findings = found(report)
    assert "near-identical-across-splits" in findings
    assert "identical-across-splits" not in findings
    assert "gives-label-away" in findings
    assert any("128 x 128: head 140" in one.files for one in report.findings)
