"""Logging in and out, and who one is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.responses import JSONResponse, Response

from appliance.accounts import Accounts
from appliance.web.door import Door
from appliance.web.roles import Viewer
from appliance.web.source import PageSource

LOGIN = "/api/login"
FIRST = "/api/first"

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Password = Annotated[str, StringConstraints(max_length=1000)]


class Body(BaseModel):
    """What a request brings: these fields and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Nothing(Body):
    """An empty object."""


class Credentials(Body):
    """Who comes back."""

    name: Name
    password: Password


class Newcomer(Body):
    """Who comes for the first time, with a one-time code."""

    code: Annotated[str, StringConstraints(max_length=100)]
    name: Name
    password: Password


class NewPassword(Body):
    """One's own password, and another."""

    old: Password
    new: Password


def router(source: PageSource, accounts: Accounts, door: Door) -> APIRouter:
    """Routes of logging in.

    Args:
        source: Names the camera.
        accounts: Who may come in.
        door: Carries sessions.
    """
    routes = APIRouter(tags=["session"])

    def entered(request: Request, enter: Callable[[], str], *, key: str = "") -> Response:
        token = door.let_in(request, enter, key=key)
        if isinstance(token, Response):
            return token
        response = JSONResponse({"done": True})
        door.carry(request, response, token)
        return response

    @routes.post(LOGIN, response_model=dict[str, bool])
    def log_in(request: Request, body: Credentials) -> Response:
        """Begin a session. Open to everybody."""
        return entered(request, lambda: accounts.log_in(body.name, body.password))

    @routes.post(FIRST, response_model=dict[str, bool])
    def first(request: Request, body: Newcomer) -> Response:
        """Make an account with a one-time code, and log in. Open to everybody."""
        return entered(request, lambda: accounts.first(body.code, body.name, body.password))

    @routes.post("/api/logout", response_model=dict[str, bool])
    def log_out(request: Request, caller: Viewer, body: Nothing) -> Response:  # noqa: ARG001
        """End this session."""
        response = JSONResponse({"done": True})
        door.leave(request, response)
        return response

    @routes.get("/api/me")
    def me(caller: Viewer) -> dict[str, Any]:
        """Who is logged in, and what this camera is."""
        status = source.status()
        labels = list(status.labels)
        return {
            "name": caller.name,
            "role": caller.role,
            "camera": status.camera,
            "fleet": status.fleet,
            "labels": labels,
        }

    @routes.post("/api/password", response_model=dict[str, bool])
    def password(request: Request, caller: Viewer, body: NewPassword) -> Response:
        """Set another password; every other session of the account ends."""
        key = f"password of {caller.name}"
        return entered(request, lambda: accounts.change_password(caller.name, body.old, body.new), key=key)

    return routes
