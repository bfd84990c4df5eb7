"""The fleet page: its routes."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from appliance.errors import SitecamError
from appliance.join_code import short
from appliance.web.guards import LOOPBACK_NAMES, HeaderGuard, HostGuard, as_in_url, error_response
from appliance.web.pages import STATIC as CAMERA_STATIC
from server.config import ServerSettings
from server.fleet.export import to_csv
from server.fleet.gatekeeping import Gatekeeper
from server.fleet.login import Door, LoginGuard, SameOriginGuard, read_json
from server.fleet.password import Password
from server.fleet.sessions import Sessions
from server.fleet.throttle import Throttle
from server.fleet.views import Views
from server.paths import ServerPaths
from server.registry import TABLES

STATIC = Path(__file__).parent / "static"
WHO = "page"  # in the trail
_MOST_WORDS = 300


def create_app(
    settings: ServerSettings,
    admission: Gatekeeper,
    *,
    join_routes: Sequence[BaseRoute] = (),
    draw: Callable[[str], str] = lambda _: "",
    sessions: Sessions | None = None,
    throttle: Throttle | None = None,
) -> Starlette:
    """The page of one fleet.

    Args:
        settings: The server's.
        admission: Lets cameras in and puts them out.
        join_routes: What cameras ask that want in, all below ``/v1/enrol/``: the only ones without a login.
        draw: A text as a QR code, SVG.
        sessions: Who is logged in; default: nobody.
        throttle: Slows down guessing.

    Raises:
        ConfigError: The time zone is unknown.
        StoreError: The registry can't be used.
    """
    password = Password(ServerPaths(settings.state_dir).keys)
    known = sessions or Sessions()
    door = Door(password, known, throttle or Throttle())
    page = _Page(Views(settings, admission), admission, draw)
    return Starlette(
        routes=[
            Route("/", page.shell),
            Route("/login", door.page),
            Route("/api/login", door.log_in, methods=["POST"]),
            Route("/api/logout", door.log_out, methods=["POST"]),
            Route("/api/fleet", page.fleet),
            Route("/api/nights", page.nights),
            Route("/api/nights/{number:int}", page.night),
            Route("/api/models", page.models),
            Route("/api/trail", page.trail),
            Route("/api/export.json", page.export_json),
            Route("/api/export/{table}.csv", page.export_csv),
            Route("/api/code", page.new_code, methods=["POST"]),
            Route("/api/approve", page.approve, methods=["POST"]),
            Route("/api/refuse", page.refuse, methods=["POST"]),
            Route("/api/revoke", page.revoke, methods=["POST"]),
            Route("/api/release", page.release, methods=["POST"]),
            *join_routes,
            Mount("/static/camera", StaticFiles(directory=CAMERA_STATIC)),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            Middleware(HeaderGuard),
            Middleware(HostGuard, names=LOOPBACK_NAMES | {as_in_url(settings.superlink.host)}),
            Middleware(SameOriginGuard),
            Middleware(LoginGuard, sessions=known, password=password),
        ],
        exception_handlers={HTTPException: _refused, SitecamError: _failed, Exception: _broken},
    )


class _Page:
    """What is behind the login."""

    def __init__(self, views: Views, admission: Gatekeeper, draw: Callable[[str], str]) -> None:
        self._views = views
        self._admission = admission
        self._draw = draw

    def shell(self, _: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    def fleet(self, request: Request) -> Response:
        return _answer(request, self._views.fleet())

    def nights(self, request: Request) -> Response:
        return _answer(request, self._views.nights())

    def night(self, request: Request) -> Response:
        return _answer(request, self._views.night(int(request.path_params["number"])))

    def models(self, request: Request) -> Response:
        return _answer(request, self._views.models())

    def trail(self, request: Request) -> Response:
        return _answer(request, self._views.trail())

    def export_json(self, _: Request) -> Response:
        registry = self._views.registry
        text = json.dumps({name: registry.table(name) for name in TABLES}, indent=1, ensure_ascii=False)
        return _file(text, "application/json", "sitecam-fleet.json")

    def export_csv(self, request: Request) -> Response:
        name = str(request.path_params["table"])
        rows = self._views.registry.table(name) if name in TABLES else None
        if rows is None:
            return error_response(404, f"There is no table named {name}", do="Open /#export for a list")
        return _file(to_csv(rows), "text/csv; charset=utf-8", f"sitecam-{name}.csv")

    async def new_code(self, request: Request) -> Response:
        def make(body: Mapping[str, Any]) -> dict[str, Any]:
            code = self._admission.new_code(approve=body.get("approve") is True, who=WHO)
            return {**asdict(code), "short": short(code.fingerprint), "qr": self._draw(code.uri)}

        return await _act(request, make)

    async def approve(self, request: Request) -> Response:
        def approve(body: Mapping[str, Any]) -> dict[str, Any]:
            return {"camera": self._admission.approve(_number(body), who=WHO).name}

        return await _act(request, approve)

    async def refuse(self, request: Request) -> Response:
        return await _act(request, lambda body: self._admission.refuse(_number(body), _words(body, "reason"), who=WHO))

    async def revoke(self, request: Request) -> Response:
        return await _act(request, lambda body: self._admission.revoke(_name(body), _words(body, "why"), who=WHO))

    async def release(self, request: Request) -> Response:
        return await _act(request, lambda body: self._admission.release(_name(body), who=WHO))


async def _act(request: Request, action: Callable[[Mapping[str, Any]], dict[str, Any] | None]) -> Response:
    body = await read_json(request)
    if isinstance(body, Response):
        return body
    try:
        return JSONResponse(await asyncio.to_thread(action, body) or {"done": True})
    except SitecamError as error:
        return error_response(409, error.what, error.means, error.do)


def _number(body: Mapping[str, Any]) -> int:
    number = body.get("id")
    if type(number) is not int:
        raise HTTPException(400, "The id must be a whole number")
    return number


def _name(body: Mapping[str, Any]) -> str:
    name = body.get("camera")
    if not isinstance(name, str) or not name:
        raise HTTPException(400, "The camera must be named")
    return name


def _words(body: Mapping[str, Any], key: str) -> str:
    """What a person wrote, on one line."""
    return " ".join(str(body.get(key, "")).split())[:_MOST_WORDS]


def _answer(request: Request, state: dict[str, Any]) -> Response:
    """The state, or "as you have it": a page that looks every few seconds costs next to nothing."""
    data = json.dumps(state, separators=(",", ":"), allow_nan=False).encode()
    tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    return Response(data, media_type="application/json", headers={"ETag": tag})


def _file(text: str, media_type: str, name: str) -> Response:
    return Response(text, media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.BAD_REQUEST
    if status == HTTPStatus.NOT_FOUND:
        return error_response(404, f"There is nothing at {request.url.path}", do="Open / for the page")
    detail = error.detail if isinstance(error, HTTPException) else ""
    response = error_response(status, f"{request.method} {request.url.path}: {detail or HTTPStatus(status).phrase}")
    response.headers.update(getattr(error, "headers", None) or {})
    return response


async def _failed(_: Request, error: Exception) -> Response:
    if not isinstance(error, SitecamError):
        raise error
    missing = error.what.startswith("There is no night")
    return error_response(404 if missing else 503, error.what, error.means, error.do)


async def _broken(_: Request, __: Exception) -> Response:
    """The server logs the exception itself."""
    return error_response(
        500,
        "The fleet page made a mistake of its own",
        "Cameras and nights go on",
        "Look at the log with `journalctl -u sitecam-fleet`",
    )
