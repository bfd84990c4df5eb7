from __future__ import annotations

from appliance.night_plan import objection, tonight

LABELS = ("hardhat", "head", "nobody")


def test_enough_frames_of_two_kinds_train() -> None:
    counts = {"train": {"hardhat": 8, "head": 4}, "test": {"head": 3}}
    assert objection(counts["train"], 10) == ""
    assert tonight(counts, LABELS, 10) == (
        "It trains tonight, once the server opens the night: 12 labelled frames to learn from, 3 to test with."
    )


def test_too_few_frames_do_not_train_and_the_sentence_says_how_many_are_asked_for() -> None:
    sentence = tonight({"train": {"hardhat": 4}}, LABELS, 10)
    assert "does not train tonight: 4 labelled frames, fewer than the 10" in sentence
    assert "new model" in sentence


def test_frames_of_one_kind_do_not_train_and_it_is_named() -> None:
    assert objection({"hardhat": 0, "head": 12}, 10).startswith("all 12 labelled frames are head")


def test_labels_that_the_model_does_not_know_take_no_part() -> None:
    assert "4 labelled frames, fewer" in tonight({"train": {"head": 4, "dog": 40}}, LABELS, 10)


def test_a_camera_without_labels_says_so() -> None:
    assert "0 labelled frames" in tonight({}, LABELS, 1)
