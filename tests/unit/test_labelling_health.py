"""What the data page says of a camera's labelled data."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from appliance.judge import CONFIDENCE, judge, tail, upper_bound
from appliance.labelling.health import Finding, findings, frames_to_exclude_loss, frames_to_see_loss
from appliance.store.frames import FrameStore, NewFrame, Said, Split
from tests.fakes.labelling import NOON
from tests.fakes.parts import LABELS
from tests.fakes.pictures import encoded, scene

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FrameStore]:
    with FrameStore(tmp_path / "store") as opened:
        yield opened


def _keep(
    store: FrameStore,
    seeds: range,
    label: str,
    *,
    by: str = "Ada",
    split: Split = "train",
    days: int = 1,
    said: Said | None = None,
) -> None:
    store.add_all(
        [
            NewFrame(
                encoded(scene(seed, width=48, height=36)),
                NOON + timedelta(days=number % days, hours=number % 7),
                "live",
                label,
                by,
                split,
                said=said,
            )
            for number, seed in enumerate(seeds)
        ]
    )


def _found(store: FrameStore, *, margin: float = 0.05) -> list[Finding]:
    return findings(store, LABELS, 1, margin=margin, zone=BERLIN)


def _warnings(store: FrameStore) -> str:
    return "\n".join(f"{each.what} {each.do}" for each in _found(store) if each.state == "warning")


def test_an_unlabelled_camera_is_told_to_begin(store: FrameStore) -> None:
    (only,) = _found(store)
    assert (only.state, only.what) == ("warning", "Nobody has labelled a frame yet.")


def test_a_label_that_nobody_has_used_is_named(store: FrameStore) -> None:
    _keep(store, range(3), "head")
    assert "No frame is labelled hardhat or nobody (head 3, hardhat 0, nobody 0)." in _warnings(store)


def test_lopsided_labels_are_named_with_their_numbers(store: FrameStore) -> None:
    _keep(store, range(14), "hardhat")
    _keep(store, range(20, 22), "head")
    _keep(store, range(30, 34), "nobody")
    assert "There are 7 times as many frames of hardhat as of head" in _warnings(store)


def test_balanced_labels_are_fine(store: FrameStore) -> None:
    for place, label in enumerate(LABELS):
        _keep(store, range(10 * place, 10 * place + 4), label)
    assert Finding("ok", "Labelled frames: head 4, hardhat 4, nobody 4.") in _found(store)


@pytest.mark.parametrize("margin", [0.01, 0.05, 0.1, 0.3])
def test_the_number_of_test_frames_that_is_asked_for_is_the_smallest_that_can_be_judged(margin: float) -> None:
    wanted = frames_to_exclude_loss(margin)
    right = ["head"] * wanted
    assert judge(right, right, right, margin=margin).outcome == "not worse"
    assert judge(right[1:], right[1:], right[1:], margin=margin).outcome == "not enough frames"
    assert upper_bound(0, wanted) <= margin < upper_bound(0, wanted - 1)


def test_the_number_of_a_label_s_test_frames_is_the_smallest_on_which_its_loss_is_seen() -> None:
    wanted = frames_to_see_loss(3)
    assert tail(wanted, wanted) < (1 - CONFIDENCE) / 4 <= tail(wanted - 1, wanted - 1)
    for lost, outcome in ((wanted, "worse"), (wanted - 1, "not enough frames")):
        truth = ["head"] * lost + ["hardhat"] * 5 + ["nobody"] * 5
        after = ["hardhat"] * lost + truth[lost:]
        assert judge(truth, truth, after, margin=0.05).outcome == outcome


def test_too_few_test_frames_are_said_with_the_number_that_is_needed(store: FrameStore) -> None:
    _keep(store, range(3), "head", split="test")
    warnings = _warnings(store)
    assert "3 test frames can't show that a new model is not worse; that takes 59" in warnings
    assert "(head 3, hardhat 0, nobody 0): it takes 7 of each" in warnings


def test_enough_test_frames_are_said_to_be_enough(store: FrameStore) -> None:
    for place, label in enumerate(LABELS):
        _keep(store, range(100 * place, 100 * place + 20), label, split="test", days=3)
    assert Finding("ok", "60 test frames are enough to judge a new model (59 are needed).") in _found(store)


def test_near_duplicates_are_counted(store: FrameStore) -> None:
    noisy = [
        np.clip(scene(1) + np.random.default_rng(number).normal(0, 3, (72, 96, 3)), 0, 255).astype(np.uint8)
        for number in range(6)
    ]
    store.add_all([NewFrame(encoded(each), NOON, "live", "head", "Ada", reason="burst") for each in noisy])
    assert "5 of 6 labelled frames are near-duplicates" in _warnings(store)


def test_twins_under_different_labels_are_found(store: FrameStore) -> None:
    twin = np.clip(scene(1) + np.random.default_rng(0).normal(0, 3, (72, 96, 3)), 0, 255).astype(np.uint8)
    store.add_all([NewFrame(encoded(scene(1)), NOON, "live", "head", "Ada")])
    store.add_all([NewFrame(encoded(twin), NOON, "live", "hardhat", "Bo")])
    assert "1 scene with nearly identical frames under different labels" in _warnings(store)


def test_labels_that_a_sure_model_contradicts_are_counted(store: FrameStore) -> None:
    _keep(store, range(2), "head", said=Said(1, "hardhat", 0.99))
    _keep(store, range(5, 6), "head", said=Said(1, "hardhat", 0.6))
    assert "2 labels that version 1 contradicts, and it is more than 95% sure" in _warnings(store)


def test_frames_of_one_day_and_labels_of_one_person_are_warned_of_once_there_are_twenty(store: FrameStore) -> None:
    _keep(store, range(19), "head")
    assert "one day" not in _warnings(store)
    assert "Only Ada" not in _warnings(store)
    _keep(store, range(30, 31), "hardhat")
    warnings = _warnings(store)
    assert "All labelled frames that this camera took are from one day, 1 Jun 2026." in warnings
    assert "Only Ada has labelled frames." in warnings


def test_several_days_and_people_are_fine(store: FrameStore) -> None:
    _keep(store, range(15), "head", days=3)
    _keep(store, range(30, 40), "hardhat", by="Bo", days=3)
    assert "one day" not in _warnings(store)
    assert Finding("ok", "Labelled by Ada, Bo.") in _found(store)


def test_imports_say_nothing_about_days(store: FrameStore) -> None:
    store.add_all([NewFrame(encoded(scene(n)), NOON, "import", "head", "Ada") for n in range(25)])
    assert "one day" not in _warnings(store)
