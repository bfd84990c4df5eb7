"""Nobody gets past the login on any route, and nobody past their role."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Mount, Route

from appliance.web.app import OPEN_PATHS
from appliance.web.roles import Role
from tests.security.whole import Whole, whole_page

#: Everything that answers a stranger. Whoever adds to this list opens a hole: think twice.
OPEN = {"/login", "/api/login", "/api/first", "/healthz"}
#: Routes that need a login and no particular role: the screens, which hold no data, and the description.
ANY_ROLE = {"/", "/label", "/review", "/data", "/events", "/models", "/privacy", "/people", "/openapi.json"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
ROLES: tuple[Role, ...] = ("viewer", "labeller", "admin")


def routes_of(page: Whole) -> Iterator[Route | APIRoute]:
    yield from walk(page.app.routes)


def walk(routes: Sequence[BaseRoute]) -> Iterator[Route | APIRoute]:
    """Every route, those of included routers too."""
    for route in routes:
        if isinstance(route, Mount):
            assert route.path == "/static", "a folder that this test does not know"
        elif isinstance(inner := getattr(route, "original_router", None), APIRouter):  # FastAPI keeps it whole
            assert route.include_context.prefix == "", "a prefix that this test does not know"  # type: ignore[attr-defined]
            yield from walk(inner.routes)
        else:
            assert isinstance(route, Route | APIRoute), f"a kind of route that this test does not know: {route}"
            yield route


def filled(page: Whole, path: str) -> str:
    """A route's path with ids of things that are there."""
    wanted = page.event if "/events/" in path else page.frame
    return re.sub(r"\{[^}]*\}", wanted, path)


def demanded(dependant: Dependant) -> set[Role]:
    found = {getattr(each.call, "role", None) for each in dependant.dependencies}
    return {role for role in ROLES if role in found}


def sends(client: httpx.Client, method: str, path: str) -> httpx.Response:
    body = {"content": b"{}"} if method in ("POST", "PUT", "PATCH") else {}
    return client.request(method, path, headers={"Content-Type": "application/json"}, follow_redirects=False, **body)  # type: ignore[arg-type]


def test_the_open_list_is_the_one_that_this_suite_knows() -> None:
    assert OPEN_PATHS == OPEN


def test_no_route_but_the_open_ones_answers_a_stranger(page: Whole, stranger: httpx.Client) -> None:
    walked = set()
    for route in routes_of(page):
        if route.path in OPEN:
            continue
        path = filled(page, route.path)
        walked.add(route.path)
        for method in METHODS:
            answer = sends(stranger, method, path)
            if method not in ("GET", "HEAD", "POST"):
                assert answer.status_code == 405, (method, path)
            elif path in ("/api/upload", "/api/import") and method == "POST":
                assert answer.status_code == 415, path  # refused before anybody asks who it is
                assert stranger.post(path, content=b"x", headers=_kind_of(path)).status_code == 401
            elif path.startswith("/api/") or path == "/metrics":
                assert answer.status_code == 401, (method, path)
                if method != "HEAD":
                    assert set(answer.json()["error"]) == {"what", "means", "do"}
            else:
                assert answer.status_code == 303, (method, path)
                assert answer.headers["location"].startswith("/login")
            assert page.frame not in answer.text
            assert "North gate" not in answer.text
            assert "set-cookie" not in answer.headers
    assert {"/", "/api/status", "/stream.mjpg", "/api/live", "/api/export", "/api/forget", "/metrics"} <= walked
    assert {"/api/frames/{frame_id}/picture", "/api/events/{event_id}/snapshot", "/openapi.json"} <= walked


def _kind_of(path: str) -> dict[str, str]:
    return {"Content-Type": "image/png" if path == "/api/upload" else "application/zip"}


def test_every_route_that_is_not_open_demands_a_role(page: Whole) -> None:
    for route in routes_of(page):
        if route.path in OPEN or route.path in ANY_ROLE:
            continue
        assert isinstance(route, APIRoute), f"{route.path} has no way to demand a role"
        assert len(demanded(route.dependant)) == 1, f"{route.path} demands {demanded(route.dependant) or 'no role'}"


@pytest.mark.parametrize("role", ["viewer", "labeller"])
def test_too_small_a_role_is_refused_on_every_route(page: Whole, role: Role) -> None:
    refused = set()
    with page.client(role) as client:
        for route in routes_of(page):
            if not isinstance(route, APIRoute) or route.path in OPEN:
                continue
            (needed,) = demanded(route.dependant)
            if ROLES.index(needed) <= ROLES.index(role):
                continue
            for method in (route.methods or set()) - {"HEAD"}:
                path = filled(page, route.path)
                kind = _kind_of(path) if path in ("/api/upload", "/api/import") else None
                headers = kind or {"Content-Type": "application/json"}
                body = {"content": b"{}"} if method == "POST" else {}
                answer = client.request(method, path, headers=headers, **body)  # type: ignore[arg-type]
                assert answer.status_code == 403, (role, method, path, answer.text)
                assert role in answer.json()["error"]["what"]
                refused.add(route.path)
    assert {"/api/accounts", "/api/forget", "/api/export", "/api/models/rollback", "/metrics"} <= refused
    assert ("/api/upload" in refused) == (role == "viewer")


def test_the_walk_finds_a_route_that_forgot_its_role(tmp_path: Path) -> None:
    careless = APIRouter()

    @careless.get("/api/careless")
    def careless_route() -> dict[str, str]:
        return {"frame": "secret"}

    with whole_page(tmp_path / "camera", routers=(careless,)) as page, page.client() as client:
        assert client.get("/api/careless").status_code == 401, "a forgotten role must not open a route to strangers"
        with pytest.raises(AssertionError, match="/api/careless demands no role"):
            test_every_route_that_is_not_open_demands_a_role(page)


@pytest.mark.parametrize(
    "path",
    [
        *("/api/later", "/v2", "//api/status", "/static/../api/status", "/LOGIN", "/login/", "/healthz/", "/docs"),
        *("/redoc", "/api/login/", "/api/first/x", "/healthz%2f..%2fapi/status", "/static%2f..%2fapi%2fstatus"),
        *("/login;x", "/API/STATUS", "/api/status/", "/%61pi/status", "/api/./status", "/static/..%2fapi/status"),
    ],
)
def test_a_path_that_nobody_thought_of_is_closed_too(shared: Whole, passer_by: httpx.Client, path: str) -> None:
    answer = passer_by.get(httpx.URL(shared.url).copy_with(raw_path=path.encode()))
    assert answer.status_code in (303, 401, 404)
    assert "North gate" not in answer.text


def test_health_tells_a_stranger_nothing_but_yes_or_no(page: Whole, stranger: httpx.Client) -> None:
    assert stranger.get("/healthz").json() == {"healthy": True}
    page.source.page = dataclasses.replace(page.source.page, camera_fault="The sensor of North gate stalled")
    answer = stranger.get("/healthz")
    assert answer.status_code == 503
    assert "sensor" not in answer.text


def test_metrics_take_their_token_and_no_other_path_does(page: Whole, stranger: httpx.Client) -> None:
    token = page.paths.metrics_token.read_text().strip()
    bearer = {"Authorization": f"Bearer {token}"}
    assert stranger.get("/metrics", headers=bearer).status_code == 200
    assert stranger.get("/metrics", headers={"Authorization": f"Bearer {token}x"}).status_code == 401
    assert stranger.get("/metrics", headers={"Authorization": "Bearer"}).status_code == 401
    for path in ("/api/accounts", "/api/status", "/metrics/", "/api/frames"):
        assert stranger.get(path, headers=bearer).status_code in (303, 401)


def test_static_files_need_no_login_and_hold_no_secret(stranger: httpx.Client) -> None:
    for path in ("/static/page.js", "/static/page.css", "/static/login.html"):
        answer = stranger.get(path)
        assert answer.status_code == 200
        assert "North gate" not in answer.text
