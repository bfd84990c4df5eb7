"""What a route answers when it can't do what was asked: one JSON shape for every error, whoever found it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from appliance.errors import (
    ConfigError,
    NotAllowedError,
    NotThereError,
    PictureError,
    SitecamError,
    StoreFullError,
)
from appliance.web.guards import error_response
from appliance.web.roles import CALLER

_STATUS: Mapping[type[SitecamError], int] = {
    NotThereError: 404,
    StoreFullError: 507,
    PictureError: 415,
    ConfigError: 422,
}
_OTHERWISE = 409
_MOST_PLACE = 200


class Problem(BaseModel):
    """What happened, what it means, and what to do."""

    what: str
    means: str
    do: str


class Refusal(BaseModel):
    """The shape of every error."""

    error: Problem


#: For ``FastAPI(responses=)``: what any route may answer beside its own.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": HTTPStatus(status).phrase}
    for status in (400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 421, 422, 429, 500, 503, 507)
}


def answer_problems(app: FastAPI) -> None:
    """Have every error of the app answered in the one shape."""
    app.add_exception_handler(SitecamError, _failed)
    app.add_exception_handler(RequestValidationError, _misread)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _broken)


def sitecam_response(error: SitecamError, *, known: bool = True) -> Response:
    """The answer that an error of ours becomes.

    Args:
        error: What went wrong.
        known: Whether the one who asks is logged in: who isn't may log in, who is may not do this.
    """
    if isinstance(error, NotAllowedError):
        status = 403 if known else 401
    else:
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), _OTHERWISE)
    return error_response(status, error.what, error.means, error.do)


async def _failed(request: Request, error: Exception) -> Response:
    if not isinstance(error, SitecamError):
        raise error
    return sitecam_response(error, known=CALLER in request.scope)


async def _misread(_: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    place = " > ".join(str(part) for part in first["loc"])[:_MOST_PLACE]
    place = place.encode("utf-8", "replace").decode()  # the name of a field may be half a character
    return error_response(422, f"{place}: {first['msg']}", "Nothing was changed", "See /openapi.json for what fits")


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.BAD_REQUEST
    if status == HTTPStatus.NOT_FOUND:
        return error_response(404, f"There is nothing at {request.url.path}", do="Open / for the page")
    phrase = HTTPStatus(status).phrase
    detail = error.detail if isinstance(error, HTTPException) else phrase
    response = error_response(status, f"{request.method} {request.url.path}: {detail or phrase}")
    response.headers.update(getattr(error, "headers", None) or {})
    return response


async def _broken(_: Request, __: Exception) -> Response:
    """The server logs the exception itself."""
    return error_response(
        500,
        "The page made a mistake of its own",
        "The camera goes on working",
        "Look at the log with `journalctl -u sitecam-camera`",
    )
