from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import models_view
from appliance.by_hand import Wish
from appliance.errors import ModelError, SwapError
from appliance.models.shelf import Shelf
from appliance.models.trial import State, Trial, write_trial
from appliance.models.verdict import Verdict, write_verdict
from appliance.models_view import ModelChanger, rows
from appliance.web.api.models import router
from tests.fakes.fleet import TinyFleet
from tests.fakes.page_app import OneRouterPage


@pytest.fixture
def shelf(tmp_path: Path, tiny_backbone: bytes) -> Shelf:
    """Versions 1 to 4: 1 the factory's, 2 the previous one, 3 runs, 4 quarantined."""
    fleet = TinyFleet(tmp_path, tiny_backbone)
    made = fleet.shelf(tmp_path / "models", 1, 2, 3)
    made.note_factory(1)
    made.accept(*fleet.version(4))
    for version in (2, 3):
        write_verdict(made.root, Verdict(version, True, "It answered", datetime.now(UTC), state="commit"))
    write_verdict(made.root, Verdict(4, False, "Worse on 9 of 20", datetime.now(UTC), state="judge"))
    return made


def answered(monkeypatch: pytest.MonkeyPatch, answer: str | Exception) -> list[tuple[Wish, int]]:
    """Stand in for the camera process's answer; what was asked."""
    asked: list[tuple[Wish, int]] = []

    def ask(_: Shelf, wish: Wish, version: int = 0) -> str:
        asked.append((wish, version))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(models_view, "ask", ask)
    return asked


def test_every_version_has_its_state_and_its_verdict(shelf: Shelf) -> None:
    found = rows(shelf)
    assert [(row.version, row.state, row.runs, row.factory) for row in found] == [
        (1, "", False, True),
        (2, "previous", False, False),
        (3, "runs", True, False),
        (4, "quarantined", False, False),
    ]
    assert found[3].verdict == "Worse on 9 of 20"
    assert found[3].decided_in == "judge"
    assert found[2].created_utc == shelf.manifest(3).created_utc


def test_a_trial_and_an_offer_are_told(shelf: Shelf) -> None:
    write_trial(shelf.root, Trial(4, State.SOAK))
    assert rows(shelf)[3].state == "on trial: soak"
    write_trial(shelf.root, Trial(2, State.JUDGE))
    shelf.offer(1)
    assert [row.state for row in rows(shelf)] == ["waits", "on trial: judge", "runs", "quarantined"]


def test_a_version_with_a_damaged_manifest_is_listed_with_that_and_hides_no_other(shelf: Shelf) -> None:
    (shelf.root / "versions" / "2" / "manifest.json").write_bytes(b"{}")
    found = rows(shelf)
    assert [row.version for row in found] == [1, 2, 3, 4]
    assert found[1].problem
    assert found[1].created_utc is None
    assert found[1].problem in found[1].line()


def test_a_line_for_a_terminal_marks_what_runs_and_the_factorys(shelf: Shelf) -> None:
    lines = [row.line() for row in rows(shelf)]
    assert lines[2].startswith("*    3  ")
    assert "(factory)" in lines[0]
    assert lines[3].endswith("quarantined           Worse on 9 of 20")


# By the page


def test_the_page_gets_the_newest_first_with_times_for_screens(shelf: Shelf) -> None:
    body = OneRouterPage(router(shelf, ModelChanger(shelf), UTC), "viewer").get("/api/models").json()
    assert (body["current"], body["trial"]) == (3, None)
    assert [row["version"] for row in body["versions"]] == [4, 3, 2, 1]
    assert body["versions"][1]["created_utc"] == shelf.manifest(3).created_utc.isoformat()
    assert body["versions"][1]["created"]
    write_trial(shelf.root, Trial(4, State.SOAK))
    body = OneRouterPage(router(shelf, ModelChanger(shelf), UTC), "viewer").get("/api/models").json()
    assert body["trial"] == {"version": 4, "state": "soak"}


@pytest.mark.parametrize(
    ("path", "body", "asked"),
    [("rollback", {}, ("rollback", 0)), ("recover", {}, ("recover", 0)), ("try", {"version": 4}, ("try", 4))],
)
def test_an_admins_wish_goes_the_way_of_the_commands(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, int], asked: tuple[Wish, int]
) -> None:
    seen = answered(monkeypatch, "Version 2 runs.")
    answer = OneRouterPage(router(shelf, ModelChanger(shelf), UTC)).post(f"/api/models/{path}", body)
    assert (answer.status_code, answer.json()) == (200, {"sentence": "Version 2 runs."})
    assert seen == [asked]


@pytest.mark.parametrize("who", ["stranger", "viewer", "labeller"])
@pytest.mark.parametrize(("path", "body"), [("rollback", {}), ("recover", {}), ("try", {"version": 4})])
def test_nobody_else_changes_the_model(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, who: str, path: str, body: dict[str, int]
) -> None:
    seen = answered(monkeypatch, "never")
    answer = OneRouterPage(router(shelf, ModelChanger(shelf), UTC), who).post(f"/api/models/{path}", body)
    assert answer.status_code in (401, 403)
    assert seen == []


@pytest.mark.parametrize("body", [{}, {"version": 0}, {"version": "../1"}, {"version": 4, "more": 1}, [4], None])
def test_a_body_that_is_no_version_is_refused(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, body: object) -> None:
    seen = answered(monkeypatch, "never")
    answer = OneRouterPage(router(shelf, ModelChanger(shelf), UTC)).post("/api/models/try", body)
    assert answer.status_code == 422
    assert seen == []


def test_what_can_t_be_is_said_at_once_and_nothing_is_asked(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = answered(monkeypatch, "never")
    answer = OneRouterPage(router(shelf, ModelChanger(shelf), UTC)).post("/api/models/try", {"version": 9})
    assert answer.status_code == 409
    assert "not on this camera" in answer.json()["error"]["what"]
    assert seen == []
    with pytest.raises(ModelError, match="runs already"):
        ModelChanger(shelf).change("try", 3)


def test_a_refusal_is_told_with_its_reason(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, SwapError("Version 4 is worse on 9 of 20 frames"))
    answer = OneRouterPage(router(shelf, ModelChanger(shelf), UTC)).post("/api/models/try", {"version": 4})
    assert answer.status_code == 409
    assert "worse on 9 of 20" in answer.json()["error"]["what"]


def test_a_trial_that_takes_minutes_is_told_as_under_way_and_a_second_wish_waits_its_turn(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, ended = threading.Event(), threading.Event()

    def ask(_: Shelf, __: Wish, ___: int = 0) -> str:
        may_end.wait(30)
        ended.set()
        return "Version 2 runs."

    monkeypatch.setattr(models_view, "ask", ask)
    changer = ModelChanger(shelf, answer_s=0.05)
    assert "Version 2 is on its way" in changer.change("rollback")
    with pytest.raises(SwapError, match="Another change of the model is under way"):
        changer.change("recover")
    may_end.set()
    assert ended.wait(30)
