"""The page's routes for a camera's data: who may, what they answer, and that an upload is read piece by piece."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from appliance.errors import ConfigError, NotAllowedError, NotThereError, SitecamError
from appliance.store.deletion import Deleter
from appliance.store.frames import FrameStore, NewFrame
from appliance.web.api import data
from appliance.web.roles import CALLER, Caller, Role
from tests.fakes.pictures import encoded, scene

BERLIN = ZoneInfo("Europe/Berlin")
TWO_OCLOCK = datetime(2026, 10, 1, 12, 0, tzinfo=UTC)  # in Berlin
STATUS = {NotThereError: 404, NotAllowedError: 403, ConfigError: 422}
ANSWER = dict[str, object]


class NoVersions:
    """A shelf without a version."""

    def versions(self) -> list[int]:
        return []


class Page:
    """The routes on an app of their own, and somebody who asks."""

    def __init__(self, root: Path) -> None:
        self.store = FrameStore(root)
        self.role: Role = "admin"
        self.events = 3
        deleter = Deleter(self.store, NoVersions(), lambda *_: self.events, lambda *_: self.events)  # type: ignore[arg-type]  # asked for nothing
        app = FastAPI()
        app.include_router(data.router(self.store, deleter, BERLIN, camera="Gate 1/../x", labels=lambda: ["head"]))

        @app.exception_handler(SitecamError)
        def failed(_: object, error: SitecamError) -> JSONResponse:
            status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 409)
            return JSONResponse({"error": {"what": error.what, "means": error.means, "do": error.do}}, status)

        async def known(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                scope[CALLER] = Caller("Ada", self.role)
            await app(scope, receive, send)

        self._app = known

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request; its whole answer."""

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(app=self._app)
            async with httpx.AsyncClient(transport=transport, base_url="https://camera") as client:
                return await client.request(method, path, **more)

        return asyncio.run(asked())

    def add(self, seed: int, minutes: float = 0, *, label: str | None = None) -> str:
        taken = TWO_OCLOCK + timedelta(minutes=minutes)
        (added,) = self.store.add_all([NewFrame(encoded(scene(seed)), taken, "live", label, "Bo" if label else None)])
        return added.frame.id

    @property
    def ids(self) -> list[str]:
        return [frame.id for frame in self.store.frames(labelled_only=False)]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    page = Page(tmp_path / "store")
    yield page
    page.store.close()


def test_an_export_downloads_under_the_camera_s_name_and_comes_back(page: Page) -> None:
    for seed in range(3):
        page.add(seed, label="head")
    answer = page.ask("GET", "/api/export")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    name = f"Gate-1-..-x-{datetime.now(BERLIN).date()}.zip"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as zipped:
        assert len(zipped.namelist()) == 4
    page.store.delete_all(page.ids[:2])
    back = page.ask("POST", "/api/import", content=answer.content, headers={"content-type": "application/zip"})
    assert back.status_code == 200
    assert (back.json()["frames"], back.json()["new"], back.json()["labelled"]) == (3, 2, 2)
    assert back.json()["sentence"] == "2 of 3 frames are new here, 2 got their label."
    assert len(page.ids) == 3
    assert list((page.store.root / "incoming").iterdir()) == []


def test_a_bad_import_is_an_error_and_leaves_nothing(page: Page) -> None:
    answer = page.ask("POST", "/api/import", content=b"PK rubbish", headers={"content-type": "application/zip"})
    assert answer.status_code == 409
    assert "can't be imported" in answer.json()["error"]["what"]
    assert list((page.store.root / "incoming").iterdir()) == []


def test_one_frame_is_deleted_and_listed(page: Page) -> None:
    gone, stays = page.add(1, label="head"), page.add(2)
    page.role = "labeller"
    answer = page.ask("POST", f"/api/frames/{gone}/delete", json={})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["frames"], body["labelled"], body["events"], body["versions"], body["done"]) == (1, 1, 0, [], True)
    assert body["sentence"] == "1 frame (1 labelled) is deleted for good. No model has learned from this."
    assert page.ids == [stays]
    (listed,) = page.ask("GET", "/api/deletions").json()
    assert (listed["by"], listed["what"], listed["frames"], listed["versions"]) == ("Ada", "one frame", 1, [])
    assert page.ask("POST", f"/api/frames/{gone}/delete", json={}).status_code == 404


def test_a_span_is_shown_before_it_is_deleted(page: Page) -> None:
    before, first, last, after = (page.add(seed, minutes) for seed, minutes in enumerate((-1, 0, 19.9, 20)))
    span = {"begin": "2026-10-01T14:00", "end": "2026-10-01T14:20"}
    preview = page.ask("POST", "/api/deletions", json=span).json()
    assert (preview["frames"], preview["events"], preview["done"]) == (2, 3, False)
    assert preview["sentence"].startswith("2 frames and 3 events would be deleted for good.")
    assert {first, last} <= set(page.ids)
    done = page.ask("POST", "/api/deletions", json={**span, "confirm": True}).json()
    assert (done["frames"], done["events"], done["done"]) == (2, 3, True)
    assert page.ids == [before, after]
    (listed,) = page.ask("GET", "/api/deletions").json()
    assert listed["what"] == "everything from 2026-10-01 14:00 until 2026-10-01 14:20"


def test_an_hour_that_comes_twice_in_autumn_is_deleted_as_a_whole(page: Page) -> None:
    night = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)  # 02:00 in Berlin, and an hour later 02:00 again
    for seed, hours in enumerate((0.5, 1.5)):
        page.store.add(encoded(scene(seed)), taken_utc=night + timedelta(hours=hours), source="live")
    span = {"begin": "2026-10-25T02:00", "end": "2026-10-25T02:59"}
    assert page.ask("POST", "/api/deletions", json=span).json()["frames"] == 2


@pytest.mark.parametrize(
    "body",
    [
        {"begin": "2026-10-01T14:20", "end": "2026-10-01T14:00"},
        {"begin": "2026-13-01T14:20", "end": "2026-10-01T14:00"},
        {"begin": "0000-01-01T00:00", "end": "2026-10-01T14:00"},
        {"begin": "0001-01-01T00:00", "end": "9999-12-31T23:59", "confirm": "yes, please"},
        {"begin": "2026-10-01 14:20", "end": "2026-10-01T15:00"},
        {"begin": "2026-10-01T14:20"},
        {"begin": "2026-10-01T14:00", "end": "2026-10-01T14:20", "confirm": True, "path": "/"},
    ],
)
def test_a_span_that_is_none_is_refused(page: Page, body: ANSWER) -> None:
    page.add(1)
    assert page.ask("POST", "/api/deletions", json=body).status_code == 422
    assert len(page.ids) == 1


def test_the_oldest_and_the_newest_time_there_is_are_no_accident(page: Page) -> None:
    page.add(1)
    body = {"begin": "0001-01-01T00:00", "end": "9999-12-31T23:59", "confirm": True}
    assert page.ask("POST", "/api/deletions", json=body).status_code in (200, 422)


@pytest.mark.parametrize("frame_id", ["..%2f..%2fetc%2fpasswd", "A" * 32, "0" * 31, "%00" * 32])
def test_an_id_that_is_none_is_refused(page: Page, frame_id: str) -> None:
    assert page.ask("POST", f"/api/frames/{frame_id}/delete", json={}).status_code in (404, 422)


@pytest.mark.parametrize(
    ("method", "path", "least"),
    [
        ("GET", "/api/export", "admin"),
        ("POST", "/api/import", "admin"),
        ("POST", "/api/deletions", "admin"),
        ("GET", "/api/deletions", "labeller"),
        ("POST", f"/api/frames/{'0' * 32}/delete", "labeller"),
    ],
)
def test_nobody_with_a_smaller_role_gets_in(page: Page, method: str, path: str, least: str) -> None:
    body = {"begin": "2026-10-01T14:00", "end": "2026-10-01T14:20", "confirm": True} if "deletions" in path else {}
    page.add(1)
    roles: list[Role] = ["viewer", "labeller"] if least == "admin" else ["viewer"]
    for role in roles:
        page.role = role
        assert page.ask(method, path, json=body).status_code == 403
    assert len(page.ids) == 1
