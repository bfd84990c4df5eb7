"""Forgetting, with the power cut at every step of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.fakes.lived_in import FRAMES, LABELLED, lived_in
from tests.fakes.tree import tree_of


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: bytes) -> list[dict[str, Any]]:
    """What was left after every cut, and after the starts that followed."""
    root = tmp_path_factory.mktemp("forget")
    paths = lived_in(root, tiny_backbone)
    (paths.root / "status.json").unlink()  # all copies would share the one that lies in memory
    before = tree_of(paths.root)
    done = subprocess.run(
        [sys.executable, "-m", "tests.fakes.forget_cut", str(paths.root), str(root / "work")],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert tree_of(paths.root) == before
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_there_were_cuts_at_many_steps_and_one_run_got_through(cuts: list[dict[str, Any]]) -> None:
    assert len(cuts) > 40
    assert [each["cut"] for each in cuts] == [True] * (len(cuts) - 1) + [False]
    assert sum(each["again"] for each in cuts) > 30  # the next start was cut off as well


def test_wherever_it_was_cut_the_next_start_leaves_nothing_but_the_proof(cuts: list[dict[str, Any]]) -> None:
    for number, each in enumerate(cuts, 1):
        assert each["end"] == ["forgotten.json"], f"cut {number}"


def test_wherever_it_was_cut_the_proof_tells_of_all_that_was_there_at_first(cuts: list[dict[str, Any]]) -> None:
    whole = cuts[-1]["proof"]
    assert (whole["frames"], whole["labelled"]) == (FRAMES, LABELLED)
    for number, each in enumerate(cuts, 1):
        proof = each["proof"]
        assert proof is not None, f"cut {number}"
        assert proof["remains"] == []
        for name in ("was", "frames", "labelled", "versions", "fingerprints", "camera", "by"):
            assert proof[name] == whole[name], f"cut {number}: {name}"


def test_no_cut_leaves_a_key_once_a_picture_is_gone(cuts: list[dict[str, Any]]) -> None:
    pictures = max(sum(name.endswith(".jpg") for name in each["left"]) for each in cuts)
    for number, each in enumerate(cuts, 1):
        if sum(name.endswith(".jpg") for name in each["left"]) < pictures:
            assert not [name for name in each["left"] if name.startswith("keys/")], f"cut {number}"


def test_until_the_end_a_marker_stands_so_that_the_next_start_knows(cuts: list[dict[str, Any]]) -> None:
    finished = [each for each in cuts if "forgetting.json" not in each["left"]]
    assert all(each["left"] == ["forgotten.json"] for each in finished)
    assert 1 <= len(finished) <= 2  # killed just after the marker was removed; and the run that got through
