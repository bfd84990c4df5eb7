"""The enrol door: how a camera joins, and gets its page's certificate. JSON in, JSON out, small and bounded."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from appliance.errors import CertificateError, ConfigError, SitecamError
from appliance.join_code import PREFIX
from appliance.page_request import PATH
from appliance.web.guards import error_response
from server.admission import Admission
from server.join_messages import garbled
from server.page_certificates import PageCertificates
from server.reception import Reception

MAX_BODY_BYTES = 16 * 1024


def join_routes(admission: Admission, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> list[Route]:
    """What cameras ask; no login, because a code is one, and later the key that a person let in."""
    reception, certificates = Reception(admission), PageCertificates(admission, clock)

    async def hello(request: Request) -> Response:
        return await _answer(reception.hello, await _body(request), _address(request))

    async def ask(request: Request) -> Response:
        return await _answer(reception.request, await _body(request), _address(request))

    async def state(request: Request) -> Response:
        return await _answer(reception.state, request.path_params["number"], _token(request))

    async def bundle(request: Request) -> Response:
        return await _answer(reception.bundle, request.path_params["number"], _token(request))

    async def page(request: Request) -> Response:
        return await _answer(certificates.issue, await _body(request), _address(request))

    return [
        Route(f"{PREFIX}{PATH}", _guarded(page), methods=["POST"]),
        Route(f"{PREFIX}hello", _guarded(hello), methods=["POST"]),
        Route(f"{PREFIX}request", _guarded(ask), methods=["POST"]),
        Route(f"{PREFIX}request/{{number:int}}", _guarded(state), methods=["GET"]),
        Route(f"{PREFIX}request/{{number:int}}/bundle", _guarded(bundle), methods=["GET"]),
    ]


def _guarded(route: Callable[[Request], Any]) -> Callable[[Request], Any]:
    async def guarded(request: Request) -> Response:
        try:
            return await route(request)  # type: ignore[no-any-return]  # each of them gives a Response
        except SitecamError as error:
            status = 403 if isinstance(error, CertificateError) else 400 if isinstance(error, ConfigError) else 503
            return error_response(status, error.what, error.means, error.do)

    return guarded


async def _answer(ask: Callable[..., Any], *arguments: Any) -> Response:
    """Ask in a thread: SQLite and files must not hold up the page."""
    result = await run_in_threadpool(ask, *arguments)
    headers = {"Cache-Control": "no-store"}
    if isinstance(result, bytes):
        return Response(result, media_type="application/octet-stream", headers=headers)
    return JSONResponse(result, headers=headers)


async def _body(request: Request) -> Any:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise garbled(f"it is longer than {MAX_BODY_BYTES} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise garbled("it is not JSON") from error


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _address(request: Request) -> str:
    """Where it asks from: uvicorn takes the proxy's word for it, from loopback only."""
    return request.client.host if request.client else "unknown"
