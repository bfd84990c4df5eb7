"""What the page is told and what it can have done, by the real server over TLS with a real registry."""

from __future__ import annotations

import csv
import io
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from appliance.errors import NightError, StoreError
from server.fleet.export import to_csv
from server.paths import ServerPaths
from server.registry import Registry, RoundRecord
from tests.fakes.fleet_page import FELL, FakeGatekeeper, FleetPage, History, served, settings_in, thousand


@pytest.fixture(scope="module")
def a_month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server's folder with forty nights, made once."""
    made = tmp_path_factory.mktemp("month") / "server"
    settings_in(made)
    History(made).month()
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    settings_in(tmp_path / "server")
    return tmp_path / "server"


@pytest.fixture
def gatekeeper(request: pytest.FixtureRequest, root: Path) -> FakeGatekeeper:
    if "history" in request.fixturenames:
        request.getfixturevalue("history")  # the registry's file must not be replaced under it
    return FakeGatekeeper(root)


@pytest.fixture
def page(root: Path, gatekeeper: FakeGatekeeper) -> Iterator[FleetPage]:
    with served(root, gatekeeper) as running:
        yield running


@pytest.fixture
def person(page: FleetPage) -> Iterator[httpx.Client]:
    with page.logged_in() as client:
        yield client


@pytest.fixture
def history(root: Path, a_month: Path) -> History:
    """Forty nights in this test's own folder."""
    shutil.copytree(a_month, root, dirs_exist_ok=True)
    return History(root)


def test_an_empty_fleet_is_an_answer(person: httpx.Client) -> None:
    state = person.get("/api/fleet").json()
    assert state["fleet"] == "Harbour site"
    assert (state["cameras"], state["night"], state["version"]) == ([], None, None)
    assert person.get("/api/nights").json() == {"nights": []}
    assert person.get("/api/models").json() == {"version": None, "models": []}
    assert person.get("/api/trail").json() == {"trail": []}


@pytest.mark.usefixtures("history")
def test_a_camera_is_told_with_its_version_frames_and_state(person: httpx.Client) -> None:
    state = person.get("/api/fleet").json()
    cameras = {camera["name"]: camera for camera in state["cameras"]}
    assert state["version"] == 35
    assert (cameras["gate-1"]["version"], cameras["gate-1"]["newest"]) == (35, True)
    assert cameras["gate-1"]["train"] == {"head": 30, "hardhat": 49, "nobody": 68}
    assert re.fullmatch(r"(last night|today|\d+ \w+), \d\d:\d\d", cameras["gate-1"]["seen"])  # by the hour of day
    assert (cameras["gate-2"]["version"], cameras["gate-2"]["newest"]) == (34, False)
    assert cameras["gate-2"]["sentence"] == f"Did not take version 35: {FELL}."
    assert cameras["tower-7"]["sentence"] == "Was not there last night."
    assert cameras["tower-7"]["version"] == 34, "it took 34 in the night before"
    assert cameras["canteen"]["sentence"] == "The lens is covered or it is dark."
    assert cameras["yard"]["held"]
    assert "On hold" in cameras["yard"]["sentence"]


def test_a_new_camera_of_an_old_name_has_no_past(history: History, person: httpx.Client) -> None:
    history.roster.revoke("gate-1", "it was stolen")
    history.roster.enrol(99, "gate-1", "a new key")
    state = person.get("/api/fleet").json()
    (camera,) = [camera for camera in state["cameras"] if camera["name"] == "gate-1"]
    assert (camera["seen"], camera["version"]) == ("never", None)
    assert state["revoked"][0]["why"] == "it was stolen"


def test_a_night_under_way_is_told_as_such(history: History, person: httpx.Client) -> None:
    history.registry.begin("tonight")
    assert person.get("/api/fleet").json()["night"]["words"] == "Goes on"


@pytest.mark.usefixtures("history")
def test_nights_come_newest_first_with_figures_and_words(person: httpx.Client) -> None:
    nights = person.get("/api/nights").json()["nights"]
    assert len(nights) == 40
    assert nights[0]["words"] == "New version"
    assert 0.9 < nights[0]["accuracy"] <= 1
    assert 0 < nights[0]["loss"] < 0.2
    assert nights[0]["lasted_s"] == 310
    assert {night["words"] for night in nights} == {"New version", "Kept the old model", "Too few cameras", "Failed"}
    (none,) = [night for night in nights if night["outcome"] == "no quorum"]
    assert (none["accuracy"], none["used"]) == (None, None)


@pytest.mark.usefixtures("history")
def test_a_nights_detail_says_who_was_left_out_and_why_and_what_each_camera_made_of_the_version(
    person: httpx.Client,
) -> None:
    newest = person.get("/api/nights").json()["nights"][0]["id"]
    night = person.get(f"/api/nights/{newest}").json()
    assert [record["round"] for record in night["rounds"]] == [1, 2, 3]
    assert night["sentence"] == f"accepted on 4; kept the old model on gate-2: {FELL}; no answer from tower-7"
    out = {row["camera"]: row["left_out"] for row in night["replies"] if row["left_out"]}
    assert out["canteen"] == [{"where": "Round 2, training", "bad": False, "reason": "it did not answer within 900 s"}]
    assert out["yard"][0]["bad"]
    assert night["replies"][0]["left_out"], "those left out come first"
    assert {row["camera"]: row["answer"] for row in night["verdicts"]}["tower-7"] == "no answer"
    assert night["gate"]["labels"][0]["low"] < night["gate"]["labels"][0]["high"]
    assert night["model"]["version"] == 35


def test_a_night_that_never_was_is_404(person: httpx.Client) -> None:
    assert person.get("/api/nights/77").status_code == 404
    assert person.get("/api/nights/x").status_code == 404


@pytest.mark.usefixtures("history")
def test_versions_come_with_gate_parent_metrics_and_verdicts(person: httpx.Client) -> None:
    models = person.get("/api/models").json()["models"]
    assert models[0]["version"] == 35
    assert models[0]["parent"] == 34
    assert models[0]["sentence"].startswith("accepted on 4; kept the old model on gate-2")
    assert "not by chance" in models[0]["reason"]
    assert models[0]["metrics"]["server_frames"] == 240
    assert models[1]["sentence"] == "accepted on all 6"


def test_privacy_is_told_where_noise_was_added(history: History, person: httpx.Client) -> None:
    assert person.get("/api/fleet").json()["privacy"]["sentence"] == ""
    night = history.registry.begin("noisy")
    history.registry.put_round(night, RoundRecord(1, 1.0, "fedavg", 2, 2, 10, 9, 0.1, epsilon=1.25))
    privacy = person.get("/api/fleet").json()["privacy"]
    assert (privacy["noisy_rounds"], privacy["epsilon"]) == (1, 1.25)
    assert "ε = 1.25" in privacy["sentence"]


def test_figures_that_are_no_numbers_do_not_break_the_page(history: History, person: httpx.Client) -> None:
    night = history.registry.begin("odd")
    history.registry.put_round(night, RoundRecord(1, 1.0, "fedavg", 2, 0, 10, 0, float("inf")))
    history.registry.end(night, "failed", "odd", {"server": {"frames": 1, "accuracy_before": float("nan")}})
    assert person.get("/api/nights").json()["nights"][0]["loss"] is None
    assert person.get(f"/api/nights/{night}").json()["rounds"][0]["loss"] is None


def test_what_did_not_change_is_not_sent_again(history: History, person: httpx.Client) -> None:
    first = person.get("/api/nights")
    again = person.get("/api/nights", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    history.registry.begin("another")
    assert person.get("/api/nights", headers={"If-None-Match": first.headers["etag"]}).status_code == 200


# Acting


def test_a_code_comes_with_its_qr_and_is_listed_without_its_secret(person: httpx.Client) -> None:
    code = person.post("/api/code", json={}).json()
    assert code["text"] == "K7QF-2M9X-4PTR"
    assert code["qr"].startswith("<svg")
    assert code["short"] == "9F2C 41D0 7BE8 5A33"
    text = person.get("/api/fleet").text
    assert '"id":"K7QF"' in text
    assert "2M9X" not in text


@pytest.mark.parametrize(("body", "made"), [({}, "code"), ({"approve": True}, "code that approves")])
def test_a_code_approves_only_where_the_person_wants_it(
    person: httpx.Client, gatekeeper: FakeGatekeeper, body: dict[str, object], made: str
) -> None:
    assert person.post("/api/code", json=body).status_code == 200
    assert gatekeeper.said == [("page", made)]
    gatekeeper.said.clear()
    assert person.post("/api/code", json={"approve": "yes"}).status_code == 200
    assert gatekeeper.said == [("page", "code")]


def test_a_camera_that_asks_is_let_in_by_a_person(person: httpx.Client, gatekeeper: FakeGatekeeper) -> None:
    request = gatekeeper.ask("gate-9")
    (asking,) = person.get("/api/fleet").json()["requests"]
    assert (asking["name"], asking["address"]) == ("gate-9", "192.0.2.17")
    assert asking["fingerprint"] == "9F2C 41D0 7BE8 5A33"
    assert person.post("/api/approve", json={"id": request.id}).json() == {"camera": "gate-9"}
    state = person.get("/api/fleet").json()
    assert (state["requests"], state["cameras"][0]["name"]) == ([], "gate-9")
    assert state["cameras"][0]["sentence"] == "Waits for its first night."


def test_a_camera_that_asks_is_refused_with_a_reason_on_one_line(
    person: httpx.Client, gatekeeper: FakeGatekeeper
) -> None:
    request = gatekeeper.ask("stranger")
    assert person.post("/api/refuse", json={"id": request.id, "reason": "not\nours\x00 "}).status_code == 200
    assert gatekeeper.said == [("page", "refuse", "not ours\x00")]
    assert person.get("/api/fleet").json()["cameras"] == []


@pytest.mark.usefixtures("history")
def test_a_camera_is_revoked_and_another_released(person: httpx.Client) -> None:
    assert person.post("/api/revoke", json={"camera": "gate-1", "why": "stolen"}).status_code == 200
    assert person.post("/api/release", json={"camera": "yard"}).status_code == 200
    state = person.get("/api/fleet").json()
    assert "gate-1" not in [camera["name"] for camera in state["cameras"]]
    assert not any(camera["held"] for camera in state["cameras"])
    assert [entry["text"] for entry in person.get("/api/trail").json()["trail"][:2]] == [
        "yard may train again",
        "gate-1 was revoked: stolen",
    ]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/approve", {"id": "1"}, 400),
        ("/api/approve", {"id": True}, 400),
        ("/api/approve", {"id": 9}, 409),
        ("/api/revoke", {}, 400),
        ("/api/revoke", {"camera": 7}, 400),
        ("/api/revoke", {"camera": "nobody"}, 409),
        ("/api/release", {"camera": "nobody"}, 409),
    ],
)
def test_what_makes_no_sense_is_refused_with_words(
    person: httpx.Client, path: str, body: dict[str, object], status: int
) -> None:
    answer = person.post(path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["what"]


@pytest.mark.usefixtures("history")
def test_a_superlink_that_is_away_is_told_and_nothing_is_done(person: httpx.Client, gatekeeper: FakeGatekeeper) -> None:
    gatekeeper.fault = StoreError("The SuperLink doesn't answer", means="Nothing was changed", do="Start it")
    answer = person.post("/api/revoke", json={"camera": "gate-1"})
    assert answer.status_code == 409
    assert answer.json()["error"] == {
        "what": "The SuperLink doesn't answer",
        "means": "Nothing was changed",
        "do": "Start it",
    }
    assert "gate-1" in person.get("/api/fleet").text


def test_a_registry_that_is_damaged_is_told(root: Path, person: httpx.Client) -> None:
    for file in root.glob("registry.sqlite*"):
        file.unlink()
    (root / "registry.sqlite").write_bytes(b"not a database at all" * 100)
    answer = person.get("/api/fleet")
    assert answer.status_code == 503
    assert "can't be used" in answer.json()["error"]["what"]


def test_an_error_of_another_kind_is_no_success(person: httpx.Client, gatekeeper: FakeGatekeeper) -> None:
    gatekeeper.fault = NightError("The SuperLink is silent")  # type: ignore[assignment]  # any of ours
    assert person.post("/api/code", json={}).status_code == 409


# Export


@pytest.mark.usefixtures("history")
def test_everything_can_be_taken_away_as_json(person: httpx.Client) -> None:
    answer = person.get("/api/export.json")
    assert answer.headers["content-disposition"] == 'attachment; filename="sitecam-fleet.json"'
    tables = answer.json()
    assert len(tables["nights"]) == 40
    assert {"cameras", "rounds", "replies", "models", "verdicts", "trail"} <= set(tables)
    assert "codes" not in tables


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    "table", ["cameras", "nights", "events", "statuses", "rounds", "replies", "models", "verdicts", "trail"]
)
def test_every_table_can_be_taken_away_as_csv(root: Path, person: httpx.Client, table: str) -> None:
    answer = person.get(f"/api/export/{table}.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == len(Registry(ServerPaths(root).registry).table(table))


@pytest.mark.parametrize("table", ["codes", "requests", "sqlite_master", "..%2fkeys", "nights;"])
def test_no_other_table_can_be_taken_away(person: httpx.Client, table: str) -> None:
    assert person.get(f"/api/export/{table}.csv").status_code == 404


@pytest.mark.parametrize("name", ["=1+1", "+1", "-cmd", "@SUM(A1)", "\t=1", "\r=1", "  =1", '=HYPERLINK("x")'])
def test_a_name_that_is_a_formula_is_harmless_in_a_spreadsheet(name: str) -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv([{"name": name, "loss": -0.5}]), newline=""))
    assert row == {"name": f"'{name}", "loss": "-0.5"}


def test_csv_keeps_commas_quotes_and_lines() -> None:
    (row,) = csv.DictReader(io.StringIO(to_csv([{"text": 'a, "b"\nc'}]), newline=""))
    assert row["text"] == 'a, "b"\nc'
    assert to_csv([]) == ""


# Size


def test_a_thousand_cameras_are_told_in_one_answer(root: Path) -> None:
    thousand(root)
    with served(root) as page, page.logged_in() as person:
        began = time.monotonic()
        state = person.get("/api/fleet")
        assert time.monotonic() - began < 20, "no freezing"
        assert len(state.json()["cameras"]) == 1000
        assert len(state.content) < 600_000
        night = person.get("/api/nights/1").json()
        assert night["sentence"].startswith("accepted on 990; kept the old model on cam-0007, cam-0107, cam-0207")
