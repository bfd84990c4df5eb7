"""Labels, "can't tell" and "later", and what taking them back brings back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.errors import ConfigError, NotThereError, StoreError
from appliance.labelling.answers import Answers
from appliance.labelling.model import ModelView
from appliance.store.frames import FrameStore
from tests.fakes.labelling import NOON, add, model_view, shelf_in


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FrameStore]:
    with FrameStore(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def answers(store: FrameStore, tmp_path: Path) -> Answers:
    return Answers(store, model_view(tmp_path / "camera"))


def test_who_labelled_and_when_is_kept(store: FrameStore, answers: Answers) -> None:
    frame = answers.label(add(store, 1), "head", by="Ada")
    assert (frame.label, frame.labelled_by) == ("head", "Ada")
    assert frame.labelled_utc is not None


@pytest.mark.parametrize(("said", "near"), [("hed", "head"), ("hard hat", "hardhat"), ("Nobody", "nobody")])
def test_an_unknown_label_is_refused_with_the_nearest_name(
    store: FrameStore, answers: Answers, said: str, near: str
) -> None:
    frame_id = add(store, 1)
    with pytest.raises(ConfigError, match=f"Did you mean {near}"):
        answers.label(frame_id, said, by="Ada")
    assert store.frame(frame_id).label is None


def test_a_label_like_none_of_them_is_refused_with_all_names(store: FrameStore, answers: Answers) -> None:
    with pytest.raises(ConfigError, match="head, hardhat, nobody"):
        answers.label(add(store, 1), "%%%", by="Ada")


def test_labels_are_the_running_version_s_in_its_order(tmp_path: Path) -> None:
    view = model_view(tmp_path, 1, 2)
    assert view.version == 2
    assert [(each.name, each.words, each.key) for each in view.choices] == [
        ("head", "bare head", "1"),
        ("hardhat", "hardhat", "2"),
        ("nobody", "nobody here", "3"),
    ]


def test_without_a_readable_model_no_label_is_taken(tmp_path: Path) -> None:
    view = ModelView(shelf_in(tmp_path), lambda: 99)
    assert view.labels == ()
    with pytest.raises(ConfigError, match="no model is here"):
        view.checked("head")


def test_undo_of_a_first_label_makes_the_frame_wait_again(store: FrameStore, answers: Answers) -> None:
    frame_id = add(store, 1)
    answers.label(frame_id, "head", by="Ada")
    frame = answers.undo(frame_id, by="Ada")
    assert (frame.label, frame.labelled_by, frame.labelled_utc) == (None, None, None)


def test_undo_brings_back_an_earlier_person_s_label_with_their_name_and_time(
    store: FrameStore, answers: Answers
) -> None:
    frame_id = add(store, 1)
    earlier = NOON - timedelta(days=3)
    store.label(frame_id, "hardhat", by="Bo", at_utc=earlier)
    answers.label(frame_id, "head", by="Ada")
    frame = answers.undo(frame_id, by="Ada")
    assert (frame.label, frame.labelled_by, frame.labelled_utc) == ("hardhat", "Bo", earlier)


def test_undo_brings_back_an_unclear(store: FrameStore, answers: Answers) -> None:
    frame_id = add(store, 1)
    answers.unclear(frame_id, by="Bo")
    answers.label(frame_id, "head", by="Ada")
    frame = answers.undo(frame_id, by="Ada")
    assert (frame.unclear, frame.label, frame.labelled_by) == (True, None, "Bo")


def test_a_chain_of_answers_is_taken_back_one_by_one(store: FrameStore, answers: Answers) -> None:
    frame_id = add(store, 1)
    answers.skip(frame_id, by="Ada")
    answers.label(frame_id, "head", by="Ada")
    answers.unclear(frame_id, by="Ada")
    answers.label(frame_id, "nobody", by="Ada")
    states = []
    for _ in range(4):
        frame = answers.undo(frame_id, by="Ada")
        states.append((frame.label, frame.unclear, frame.skipped))
    assert states == [(None, True, 1), ("head", False, 1), (None, False, 1), (None, False, 0)]
    with pytest.raises(StoreError, match="nothing of yours to take back"):
        answers.undo(frame_id, by="Ada")


def test_two_people_s_chain_unwinds_in_its_order(store: FrameStore, answers: Answers) -> None:
    frame_id = add(store, 1)
    answers.label(frame_id, "head", by="Bo")
    answers.label(frame_id, "hardhat", by="Ada")
    with pytest.raises(StoreError, match="Ada has answered this frame since"):
        answers.undo(frame_id, by="Bo")
    assert answers.undo(frame_id, by="Ada").label == "head"
    assert answers.undo(frame_id, by="Bo").label is None


def test_nobody_takes_back_what_another_said(store: FrameStore, answers: Answers) -> None:
    frame_id = add(store, 1)
    answers.label(frame_id, "head", by="Ada")
    with pytest.raises(StoreError, match="nothing of yours"):
        answers.undo(frame_id, by="Bo")
    assert store.frame(frame_id).label == "head"


def test_an_answer_changed_behind_our_back_is_left_alone(store: FrameStore, answers: Answers) -> None:
    frame_id = add(store, 1)
    answers.label(frame_id, "head", by="Ada")
    store.label(frame_id, "nobody", by="an import")
    with pytest.raises(StoreError, match="an import has answered this frame since"):
        answers.undo(frame_id, by="Ada")
    assert store.frame(frame_id).label == "nobody"


def test_an_answer_that_the_network_sent_twice_is_one_to_take_back(store: FrameStore, answers: Answers) -> None:
    frame_id = add(store, 1)
    answers.label(frame_id, "head", by="Ada")
    answers.label(frame_id, "head", by="Ada")
    assert answers.undo(frame_id, by="Ada").label is None


def test_undo_leaves_what_the_model_says_alone(store: FrameStore, answers: Answers) -> None:
    frame_id = add(store, 1, score=0.7)
    answers.label(frame_id, "head", by="Ada")
    assert answers.undo(frame_id, by="Ada").score == 0.7


def test_a_deleted_frame_can_t_be_answered(store: FrameStore, answers: Answers) -> None:
    frame_id = add(store, 1)
    store.delete(frame_id)
    with pytest.raises(NotThereError):
        answers.label(frame_id, "head", by="Ada")
    with pytest.raises(NotThereError):
        answers.undo(frame_id, by="Ada")
