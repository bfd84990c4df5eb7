"""A page of one router, without the door: whoever asks is who a test says."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from appliance.web.problems import answer_problems
from appliance.web.roles import CALLER, Caller

CALLERS: dict[str, Caller | None] = {
    "stranger": None,
    "viewer": Caller("Vera", "viewer"),
    "labeller": Caller("Lars", "labeller"),
    "admin": Caller("Ada", "admin"),
}


class _Door:
    def __init__(self, app: ASGIApp, caller: Caller | None) -> None:
        self._app, self._caller = app, caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._caller is not None:
            scope[CALLER] = self._caller
        await self._app(scope, receive, send)


class OneRouterPage:
    """Asks an app with these routes alone; errors are answered as the page answers them.

    Args:
        routes: What to ask.
        who: One of :data:`CALLERS`.
    """

    def __init__(self, routes: APIRouter, who: str = "admin") -> None:
        app = FastAPI()
        app.include_router(routes)
        answer_problems(app)
        self._app = _Door(app, CALLERS[who])

    def get(self, path: str) -> httpx.Response:
        """GET."""
        return asyncio.run(self._ask("GET", path))

    def post(self, path: str, body: Any) -> httpx.Response:
        """POST some JSON."""
        return asyncio.run(self._ask("POST", path, json=body))

    async def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gate", timeout=60) as client:
            return await client.request(method, path, **content)
