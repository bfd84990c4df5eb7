from __future__ import annotations

import json
import zoneinfo
from dataclasses import replace
from datetime import UTC, datetime

from appliance.night_status import NightStatus
from appliance.web.snapshot import snapshot
from appliance.web.source import PageStatus, PageVerdict
from tests.fakes.page_source import FakePageSource, decision

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


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
    at = datetime(2024, 7, 3, 23, 30, tzinfo=UTC)
    source.page = replace(source.page, last_verdict=PageVerdict(7, True, "Fine", at))
    verdict = snapshot(source, BERLIN)["last_verdict"]
    assert verdict["at_utc"] == "2024-07-03T23:30:00+00:00"
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


def test_an_unsure_decision_keeps_its_scores() -> None:
    source = FakePageSource()
    source.decision = decision(None, 0.55)
    state = snapshot(source, BERLIN)
    assert state["decision"]["label"] is None
    assert state["decision"]["confidence"] == 0.55
    assert state["decision"]["scores"]["hardhat"] == 0.55


def test_a_failed_night_keeps_its_reason() -> None:
    source = FakePageSource()
    source.page = replace(source.page, night=NightStatus("failed", "n1", 1, 3, "The server went away"))
    night = snapshot(source, BERLIN)["night"]
    assert (night["phase"], night["message"], night["updated"]) == ("failed", "The server went away", None)
