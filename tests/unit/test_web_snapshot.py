from __future__ import annotations

import json
import zoneinfo
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from appliance.events import Event
from appliance.frame import Doubt
from appliance.night_status import NightStatus
from appliance.web.snapshot import snapshot
from appliance.web.source import PageStatus, PageTrial, PageVerdict
from tests.fakes.page_source import FakePageSource, bare_head, condition, decision

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
SUMMER_NIGHT = datetime(2024, 7, 3, 23, 30, 5, tzinfo=UTC)


def test_it_is_json_with_everything_the_page_shows() -> None:
    state = json.loads(json.dumps(snapshot(FakePageSource(), BERLIN)))
    assert state["camera"] == "North gate"
    assert state["labels"] == ["hardhat", "head", "nobody"]
    assert state["decision"]["label"] == "hardhat"
    assert state["decision"]["scores"] == {"hardhat": 0.97, "head": 0.015, "nobody": 0.015}
    assert state["frame"]["width"] == 320
    assert state["model"]["version"] == 7
    assert [change["version"] for change in state["model"]["history"]] == [7, 6, 5]
    assert state["night"]["phase"] == "training"
    assert (state["night"]["round"], state["night"]["rounds"]) == (2, 3)
    assert state["last_verdict"]["accepted"] is True


def test_times_stand_in_utc_and_as_on_the_sites_clock() -> None:
    source = FakePageSource()
    source.page = replace(source.page, last_verdict=PageVerdict(7, True, "Fine", SUMMER_NIGHT))
    verdict = snapshot(source, BERLIN)["last_verdict"]
    assert verdict["at_utc"] == "2024-07-03T23:30:05+00:00"
    assert verdict["at"] == "4 Jul 2024, 01:30"


def test_a_camera_that_has_nothing_yet_is_shown_as_that() -> None:
    source = FakePageSource()
    source.flowing.clear()
    source.page = PageStatus("New camera")
    state = snapshot(source, BERLIN)
    assert state["frame"] is None
    assert state["decision"] is None
    assert state["model"] == {"version": None, "since_utc": None, "since": None, "history": []}
    assert state["last_verdict"] is None
    assert state["night"]["phase"] == "idle"
    assert (state["conditions"], state["trial"], state["alarm"], state["events"]) == ([], None, None, [])


def test_an_unsure_decision_keeps_its_scores() -> None:
    source = FakePageSource()
    source.decision = decision(None, 0.55)
    state = snapshot(source, BERLIN)
    assert state["decision"]["label"] is None
    assert state["decision"]["confidence"] == 0.55
    assert state["decision"]["scores"]["hardhat"] == 0.55


@pytest.mark.parametrize("doubt", [Doubt.LOW_SCORE, Doubt.UNFAMILIAR])
def test_a_doubt_is_told_in_its_own_words(doubt: Doubt) -> None:
    source = FakePageSource()
    source.decision = decision(None, 0.55, doubt=doubt, familiarity=0.31237)
    told = json.loads(json.dumps(snapshot(source, BERLIN)))["decision"]
    assert told["doubt"] == doubt.value
    assert told["familiarity"] == 0.3124


def test_a_named_label_has_no_doubt() -> None:
    assert snapshot(FakePageSource(), BERLIN)["decision"]["doubt"] == ""


@pytest.mark.parametrize("familiarity", [None, float("nan"), float("inf")])
def test_a_familiarity_that_is_no_number_is_null_so_that_a_browser_can_read_it(familiarity: float | None) -> None:
    source = FakePageSource()
    source.decision = decision(None, 0.55, doubt=Doubt.UNFAMILIAR, familiarity=familiarity)
    text = json.dumps(snapshot(source, BERLIN), allow_nan=False)
    assert json.loads(text)["decision"]["familiarity"] is None


def test_every_condition_has_its_sentence_and_its_beginning_to_the_second() -> None:
    source = FakePageSource()
    source.page = replace(source.page, conditions=(condition("dark", SUMMER_NIGHT), condition("slow", SUMMER_NIGHT)))
    dark, slow = snapshot(source, BERLIN)["conditions"]
    assert dark == {
        "kind": "dark",
        "sentence": source.page.conditions[0].sentence,
        "since_utc": "2024-07-03T23:30:05+00:00",
        "since": "4 Jul 2024, 01:30:05",
    }
    assert slow["kind"] == "slow"


def test_a_trial_has_its_version_and_where_it_stands() -> None:
    source = FakePageSource()
    source.page = replace(source.page, trial=PageTrial(8, "judge"))
    assert snapshot(source, BERLIN)["trial"] == {"version": 8, "state": "judge"}


@pytest.mark.parametrize("quarantined", [True, False])
def test_a_verdict_has_the_state_it_fell_in_and_whether_it_is_for_good(quarantined: bool) -> None:
    source = FakePageSource()
    source.page = replace(source.page, last_verdict=PageVerdict(8, False, "Worse", SUMMER_NIGHT, "judge", quarantined))
    verdict = snapshot(source, BERLIN)["last_verdict"]
    assert (verdict["version"], verdict["accepted"], verdict["state"]) == (8, False, "judge")
    assert verdict["quarantined"] is quarantined


def test_an_alarm_stands_in_utc_and_as_on_the_sites_clock_and_has_no_end_yet() -> None:
    source = FakePageSource()
    alarm = bare_head(SUMMER_NIGHT)
    source.page = replace(source.page, alarm=alarm)
    assert snapshot(source, BERLIN)["alarm"] == {
        "id": alarm.id,
        "kind": "seen",
        "sentence": "bare head seen",
        "snapshot": False,
        "acknowledged_by": None,
        "detail": {"decisions": 31.0, "agreed": 29.0, "highest_score": 0.98},
        "began_utc": "2024-07-03T23:30:05+00:00",
        "began": "4 Jul 2024, 01:30:05",
        "ended_utc": None,
        "ended": None,
        "lasted_s": None,
    }


def test_todays_event_has_the_time_alone_and_how_long_it_lasted() -> None:
    now = datetime.now(UTC)
    source = FakePageSource()
    source.page = replace(source.page, events=(bare_head(now, lasted_s=0),))
    (event,) = snapshot(source, BERLIN)["events"]
    assert event["began"] == now.astimezone(BERLIN).strftime("%H:%M:%S")
    assert event["ended_utc"] == now.isoformat()


def test_events_keep_their_order_and_a_clock_that_was_set_back_gives_no_negative_duration() -> None:
    source = FakePageSource()
    turned = Event("dark", "Black", SUMMER_NIGHT, SUMMER_NIGHT - timedelta(hours=1), {"mean": float("nan")})
    source.page = replace(source.page, events=(bare_head(SUMMER_NIGHT, lasted_s=12.34), turned))
    events = json.loads(json.dumps(snapshot(source, BERLIN), allow_nan=False))["events"]
    assert [(event["kind"], event["lasted_s"]) for event in events] == [("seen", 12.3), ("dark", 0.0)]
    assert events[1]["detail"] == {"mean": None}


def test_a_failed_night_keeps_its_reason() -> None:
    source = FakePageSource()
    source.page = replace(source.page, night=NightStatus("failed", "n1", 1, 3, "The server went away"))
    night = snapshot(source, BERLIN)["night"]
    assert (night["phase"], night["message"], night["updated"]) == ("failed", "The server went away", None)
