from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from appliance.errors import ConfigError
from appliance.judge import judge
from appliance.models.verdict import Verdict
from server.fleet.sentences import camera_sentence, listed, verdict_reason, verdict_sentence
from server.fleet.times import last_seen, site_time, site_zone
from server.roster import EnrolledCamera
from tests.fakes.fleet_page import FELL, GOOD, WORSE
from trainer.messages import CameraStatus

AT = datetime(2026, 11, 23, 1, 5, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


def taken() -> Verdict:
    return Verdict(9, True, GOOD, AT, state="commit")


def kept(reason: str = WORSE) -> Verdict:
    return Verdict(9, False, reason, AT, state="judge")


def waits(reason: str = "Version 9 waits and is tried again: the disk is full. It has 0 bytes.") -> Verdict:
    return Verdict(9, False, reason, AT, state="stage", final=False)


def camera(**changes: object) -> EnrolledCamera:
    return EnrolledCamera(1, "gate-1", **changes)  # type: ignore[arg-type]  # a test changes what it likes


def status(**changes: object) -> CameraStatus:
    plain = {"name": "gate-1", "version": 9, "train_frames": {}, "test_frames": {}, "digests": ()}
    return CameraStatus(**{**plain, **changes})  # type: ignore[arg-type]  # likewise


def test_a_verdict_per_camera_becomes_one_sentence() -> None:
    verdicts = {f"cam-{number}": taken() for number in range(4)} | {"gate-2": kept()}
    assert verdict_sentence(verdicts) == f"accepted on 4; kept the old model on gate-2: {FELL}"


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        ({}, "no camera has been asked"),
        ({"a": taken()}, "accepted on 1"),
        ({"a": taken(), "b": taken()}, "accepted on all 2"),
        ({"a": taken(), "b": None}, "accepted on 1; no answer from b"),
        ({"a": kept(), "b": kept()}, f"kept the old model on a and b: {FELL}"),
        ({"a": kept("It was slow"), "b": kept()}, f"kept the old model on a: it was slow, and on b: {FELL}"),
        ({"a": waits()}, "waits on a: Version 9 waits and is tried again: the disk is full"),
    ],
)
def test_every_kind_of_verdict_has_its_words(verdicts: dict[str, Verdict | None], sentence: str) -> None:
    assert verdict_sentence(verdicts) == sentence


def test_a_thousand_cameras_are_counted_and_a_few_named() -> None:
    verdicts: dict[str, Verdict | None] = {f"cam-{number}": taken() for number in range(900)}
    verdicts |= {f"old-{number}": kept(f"Reason number {number}") for number in range(60)}
    verdicts |= {f"lost-{number}": None for number in range(40)}
    sentence = verdict_sentence(verdicts)
    assert sentence.startswith("accepted on 900; kept the old model on old-0: reason number 0, and on old-1")
    assert "and on 57 more" in sentence
    assert sentence.endswith("no answer from lost-0, lost-1, lost-2 and 37 more")
    assert len(sentence) < 400


def test_a_camera_that_left_the_fleet_since_is_marked() -> None:
    assert "gate-2 (no longer in the fleet)" in verdict_sentence({"gate-1": taken(), "gate-2": None}, {"gate-1"})


def test_the_judges_own_words_become_shares() -> None:
    truth = ["hardhat"] * 100 + ["head"] * 20
    before = ["hardhat"] * 96 + ["head"] * 4 + ["head"] * 20
    after = ["hardhat"] * 76 + ["head"] * 24 + ["head"] * 20
    sentence = judge(truth, before, after, margin=0.05).sentence
    assert verdict_reason(kept(sentence)) == "accuracy fell from 97 % to 80 % on its own frames"
    truth = ["hardhat"] * 60 + ["head"] * 60
    before = ["hardhat"] * 58 + ["head"] * 2 + ["hardhat"] * 20 + ["head"] * 40
    after = ["hardhat"] * 44 + ["head"] * 16 + ["hardhat"] * 8 + ["head"] * 52
    sentence = judge(truth, before, after, margin=0.05).sentence
    assert verdict_reason(kept(sentence)) == "hardhat recall fell from 97 % to 73 % on its own frames"


def test_shares_that_would_look_alike_get_a_decimal() -> None:
    reason = "Worse on this camera's own test frames: 960 of 1000 right, 963 before. Chance alone"
    assert verdict_reason(kept(reason)) == "accuracy fell from 96.3 % to 96.0 % on its own frames"


@pytest.mark.parametrize("reason", ["", ".", "Worse on this camera's own test frames: 0 of 0 right, 0 before"])
def test_a_reason_without_content_does_no_harm(reason: str) -> None:
    assert verdict_reason(kept(reason))


@pytest.mark.parametrize(
    ("of", "said", "there", "sentence", "tone"),
    [
        (camera(), status(), True, "Took part last night.", "good"),
        (camera(), status(objection="Too few frames"), True, "Did not train: too few frames.", "calm"),
        (camera(), status(health="the lens is covered"), True, "The lens is covered.", "alert"),
        (camera(), status(), False, "Was not there last night.", "alert"),
        (camera(bad_nights=2), status(), True, "not be used, in its last 2 nights.", "alert"),
        (camera(held_utc="x", held_why="It lied"), status(), True, "On hold: it lied.", "alert"),
        (camera(), None, False, "Has not come to a night yet.", "alert"),
    ],
)
def test_a_cameras_state_is_one_sentence_worst_first(
    of: EnrolledCamera, said: CameraStatus | None, there: bool, sentence: str, tone: str
) -> None:
    found = camera_sentence(of, said, there_last_night=there, any_night=True)
    assert sentence in found[0]
    assert found[1] == tone


def test_a_camera_that_kept_its_old_model_says_why() -> None:
    found = camera_sentence(camera(), status(), there_last_night=True, any_night=True, refused=kept())
    assert found == (f"Did not take version 9: {FELL}.", "calm")


def test_before_the_first_night_a_camera_just_waits() -> None:
    found = camera_sentence(camera(), None, there_last_night=False, any_night=False)
    assert found == ("Waits for its first night.", "calm")


def test_names_are_listed_as_people_write_them() -> None:
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert listed(list("abcdefg")) == "a, b, c and 4 more"


@pytest.mark.parametrize(
    ("hours_ago", "tonight", "words"),
    [
        (None, False, "never"),
        (0.1, True, "tonight, 10:54"),
        (8, False, "last night, 03:00"),
        (0.5, False, "today, 10:30"),
        (23, False, "yesterday, 12:00"),
        (24 * 5, False, "18 Nov, 11:00"),
        (24 * 400, False, "19 Oct 2025, 12:00"),
    ],
)
def test_when_a_camera_was_last_seen_is_told_in_site_time(hours_ago: float | None, tonight: bool, words: str) -> None:
    now = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
    at = None if hours_ago is None else (now - timedelta(hours=hours_ago)).isoformat(timespec="seconds")
    assert last_seen(at, now, BERLIN, tonight=tonight) == words


def test_a_time_that_never_was_is_empty() -> None:
    assert site_time(None, AT, BERLIN) == ""


@pytest.mark.parametrize("name", ["Mars/Crater", "", "../etc"])
def test_an_unknown_time_zone_is_a_setting_to_correct(name: str) -> None:
    with pytest.raises(ConfigError, match="time zone"):
        site_zone(name)
