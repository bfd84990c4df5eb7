"""The routes of events: the list, an event's trail and picture, and what people say of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from appliance.events import Event, EventLog, Vote
from appliance.frame import Frame
from appliance.web.api.events import router
from appliance.web.problems import answer_problems
from appliance.web.roles import CALLER, Caller, Role

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)


class _As:
    """Puts a caller into every request."""

    def __init__(self, app: ASGIApp, role: Role) -> None:
        self._app = app
        self._caller = Caller("Ada", role)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[CALLER] = self._caller
        await self._app(scope, receive, send)


class _Browser:
    """Asks the app, one request at a time."""

    def __init__(self, app: ASGIApp) -> None:
        self._transport = httpx.ASGITransport(app)

    def get(self, path: str) -> httpx.Response:
        return self._ask("GET", path)

    def post(self, path: str, *, json: dict[str, str]) -> httpx.Response:
        return self._ask("POST", path, json)

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="https://camera") as client:
                return await client.request(method, path, json=body)

        return asyncio.run(ask())


class _Page:
    def __init__(self, folder: Path) -> None:
        self.given: list[str] = []
        self.log = EventLog(folder, on_false=lambda event, _jpeg: self.given.append(event.id))
        self.log.start()
        app = FastAPI()
        answer_problems(app)
        app.include_router(router(self.log, ZoneInfo("Europe/Berlin")))
        self.labeller = _Browser(_As(app, "labeller"))
        self.viewer = _Browser(_As(app, "viewer"))

    def seen(self, minute: int) -> Event:
        began = NOON + timedelta(minutes=minute)
        event = Event("seen", "bare head seen", began, began + timedelta(seconds=12), {"agreed": 9.0})
        votes = [Vote(began, "head", 0.9, 7), Vote(began + timedelta(seconds=1), None, 0.5, 7)]
        self.log.witness(event.id, votes, Frame(np.full((32, 48, 3), 90, np.uint8), began, 0))
        self.log.put(event)
        self.log._flush()
        return event

    def get(self, path: str) -> Any:
        answer = self.viewer.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[_Page]:
    page = _Page(tmp_path / "events")
    yield page
    page.log.stop(deadline_s=30)


def test_an_event_is_listed_with_its_times_for_programs_and_for_the_site(page: _Page) -> None:
    event = page.seen(0)
    (shown,) = page.get("/api/events")["events"]
    assert shown["id"] == event.id
    assert (shown["kind"], shown["sentence"], shown["lasted_s"]) == ("seen", "bare head seen", 12.0)
    assert shown["began_utc"] == NOON.isoformat()
    assert shown["began"].endswith(NOON.astimezone(ZoneInfo("Europe/Berlin")).strftime("%H:%M:%S"))
    assert shown["detail"] == {"agreed": 9.0}
    assert (shown["snapshot"], shown["false"]) == (True, False)
    assert (shown["acknowledged_by"], shown["acknowledged"], shown["acknowledged_utc"]) == (None, None, None)


def test_the_list_is_paged_newest_first_and_says_whether_there_is_more(page: _Page) -> None:
    events = [page.seen(minute) for minute in range(5)]
    first = page.get("/api/events?count=2")
    assert [each["id"] for each in first["events"]] == [events[4].id, events[3].id]
    assert first["more"]
    last = page.get(f"/api/events?count=3&before={events[3].id}")
    assert [each["id"] for each in last["events"]] == [each.id for each in reversed(events[:3])]
    assert not last["more"]


def test_the_list_is_narrowed_by_kind_and_to_what_nobody_has_looked_at(page: _Page) -> None:
    event = page.seen(0)
    page.log.put(Event("dark", "Black", NOON, detail={"mean": float("nan")}))
    assert [each["kind"] for each in page.get("/api/events?kind=seen")["events"]] == ["seen"]
    assert page.get("/api/events?kind=dark")["events"][0]["detail"] == {"mean": None}
    page.labeller.post(f"/api/events/{event.id}/acknowledge", json={})
    assert [each["kind"] for each in page.get("/api/events?open=true")["events"]] == ["dark"]


def test_one_event_comes_with_its_trail(page: _Page) -> None:
    event = page.seen(0)
    shown = page.get(f"/api/events/{event.id}")
    assert [(each["label"], each["confidence"], each["version"]) for each in shown["trail"]] == [
        ("head", 0.9, 7),
        (None, 0.5, 7),
    ]
    assert shown["trail"][0]["at_utc"] == NOON.isoformat()


def test_the_snapshot_is_a_jpeg_that_nobody_stores(page: _Page) -> None:
    event = page.seen(0)
    answer = page.viewer.get(f"/api/events/{event.id}/snapshot")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.content.startswith(b"\xff\xd8")
    page.log.put(dark := Event("dark", "Black", NOON))
    assert page.viewer.get(f"/api/events/{dark.id}/snapshot").status_code == 404


def test_a_labeller_acknowledges_and_who_did_is_shown(page: _Page) -> None:
    event = page.seen(0)
    answer = page.labeller.post(f"/api/events/{event.id}/acknowledge", json={}).json()
    assert answer["acknowledged_by"] == "Ada"
    assert answer["acknowledged"] is not None
    assert page.get(f"/api/events/{event.id}")["acknowledged_by"] == "Ada"


def test_a_false_event_gives_its_picture_to_the_queue(page: _Page) -> None:
    event = page.seen(0)
    assert page.labeller.post(f"/api/events/{event.id}/false", json={}).json()["false"]
    assert page.given == [event.id]


def test_a_viewer_may_look_and_change_nothing(page: _Page) -> None:
    event = page.seen(0)
    for what in ("acknowledge", "false"):
        assert page.viewer.post(f"/api/events/{event.id}/{what}", json={}).status_code == 403
    assert page.log.event(event.id) == replace(event, snapshot=True)


@pytest.mark.parametrize("nonsense", ["f" * 32, "F" * 32, "..%2f..%2fevents.sqlite", "%00" * 32, "a" * 33, "a" * 31])
def test_an_id_that_is_none_finds_nothing(page: _Page, nonsense: str) -> None:
    page.seen(0)
    assert page.viewer.get(f"/api/events/{nonsense}").status_code in (404, 422)
    assert page.viewer.get(f"/api/events/{nonsense}/snapshot").status_code in (404, 422)
    assert page.labeller.post(f"/api/events/{nonsense}/false", json={}).status_code in (404, 422)
    assert page.viewer.get(f"/api/events?before={nonsense}").status_code in (404, 422)


@pytest.mark.parametrize("query", ["count=0", "count=201", "open=maybe", "kind=" + "x" * 41])
def test_a_question_that_makes_no_sense_is_refused(page: _Page, query: str) -> None:
    assert page.viewer.get(f"/api/events?{query}").status_code == 422


def test_the_list_says_that_events_are_in_memory_only(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("")
    page = _Page(tmp_path / "in the way" / "events")
    event = page.seen(0)
    answer = page.get("/api/events")
    assert answer["events"][0]["id"] == event.id
    assert answer["fault"].startswith("Events are in memory only")
    assert page.labeller.post(f"/api/events/{event.id}/acknowledge", json={}).status_code == 507
    page.log.stop(deadline_s=30)
