"""The one door of the fleet page: who may ask for what, and how a person comes in and leaves.

The guards are those of the cameras' pages, told what is open here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp

from appliance.web import login, origin
from appliance.web.guards import error_response
from appliance.web.roles import Caller
from server.fleet.password import Password
from server.fleet.sessions import Sessions
from server.fleet.throttle import Throttle

COOKIE = "__Host-sitecam"  # the prefix makes browsers insist on Secure, Path=/ and this very host
JOIN_PATHS = "/v1/enrol/"  # cameras that ask to join have no password; server/fleet/join.py looks after itself
OPEN_PATHS = frozenset({"/login", "/api/login"})
OPEN_FOLDER = "/static/"
_MOST_BYTES = 10_000
_PERSON = Caller("page", "admin")  # one password, so one person
_STATIC = Path(__file__).parent / "static"


class SameOriginGuard(origin.SameOriginGuard):
    """Lets only this page's own scripts change anything; cameras that ask to join are no browsers."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(app, exempt=(JOIN_PATHS,), uploads={})


class LoginGuard(login.LoginGuard):
    """Lets nobody past without a session, but to the login page, its files and the door for cameras.

    Args:
        app: What is behind.
        sessions: Who is logged in.
        password: The page's.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions, password: Password) -> None:
        def who(request: Request) -> Caller | None:
            token = token_of(request)
            return _PERSON if token and sessions.holds(token, password.mark()) else None

        super().__init__(
            app,
            who=who,
            open_paths=OPEN_PATHS,
            open_folders=(OPEN_FOLDER, JOIN_PATHS),
            means="The fleet is shown after login only",
        )


class Door:
    """The login page, logging in and logging out.

    Args:
        password: The page's.
        sessions: Who is logged in.
        throttle: Slows down guessing.
    """

    def __init__(self, password: Password, sessions: Sessions, throttle: Throttle) -> None:
        self._password = password
        self._sessions = sessions
        self._throttle = throttle

    def page(self, request: Request) -> Response:
        """The login page; where no password is set, one that says how to set it."""
        if not self._password.mark():
            return FileResponse(_STATIC / "closed.html", 503)
        if self._sessions.holds(token_of(request), self._password.mark()):
            return RedirectResponse("/", 303)
        return FileResponse(_STATIC / "login.html")

    async def log_in(self, request: Request) -> Response:
        """Take a password; answer with a session's cookie."""
        body = await read_json(request)
        if isinstance(body, Response):
            return body
        if not self._password.mark():
            return error_response(
                503, "No password is set", "Nobody can log in yet", "Run sitecam-fleet password on the server"
            )
        address = request.client.host if request.client else ""
        wait_s = self._throttle.wait_s(address)
        if wait_s:
            refusal = error_response(
                429,
                f"Too many wrong passwords: the next try is looked at in {wait_s} s",
                "Somebody may be guessing",
                "Wait, then try again; to set another password run sitecam-fleet password on the server",
            )
            refusal.headers["Retry-After"] = str(wait_s)
            return refusal
        mark = self._password.mark()  # before it is compared: a change meanwhile ends the session that begins here
        if not await asyncio.to_thread(self._password.matches, str(body.get("password", ""))):
            return error_response(401, "That is not the password", "You are not logged in", "Try again")
        self._throttle.right(address)
        response = JSONResponse({"logged_in": True})
        token = self._sessions.begin(mark)
        response.set_cookie(COOKIE, token, secure=True, httponly=True, samesite="strict", path="/")
        return response

    async def log_out(self, request: Request) -> Response:
        """End this session."""
        self._sessions.end(token_of(request))
        response = JSONResponse({"logged_in": False})
        response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="strict", path="/")
        return response


def token_of(request: Request) -> str:
    """The session's token in a request; empty where there is none."""
    return request.cookies.get(COOKIE, "")


async def read_json(request: Request) -> Mapping[str, Any] | Response:
    """The JSON object that a request brings, or the answer that says what is wrong with it."""
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > _MOST_BYTES:
            return error_response(413, "What was sent is too long", "Nothing was changed")
    try:
        body = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        return error_response(400, "What was sent is not a JSON object", "Nothing was changed")
    return body
