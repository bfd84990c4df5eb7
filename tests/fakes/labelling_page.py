"""The labelling and capture routes over a real store, as one person of a given role asks them."""

from __future__ import annotations

import asyncio
import zoneinfo
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI
from starlette.types import Receive, Scope, Send

from appliance.burst import Burst
from appliance.config import LabellingSettings
from appliance.labelling.answers import Answers
from appliance.labelling.queue import DayQueue
from appliance.paths import CameraPaths
from appliance.store.frames import FrameStore
from appliance.web.api import capture, frames
from appliance.web.problems import answer_problems
from appliance.web.roles import CALLER, Caller, Role
from tests.fakes.labelling import model_view

_BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


@dataclass
class Page:
    """The routes, asked by one person."""

    app: FastAPI
    store: FrameStore
    root: Path
    burst: Burst
    routers: tuple[APIRouter, ...]
    role: Role = "labeller"
    name: str = "Ada"

    def ask(self, method: str, path: str, *, status: int = 200, **options: Any) -> Any:
        """What comes back: parsed JSON, or a picture's bytes."""

        answer = self.response(method, path, **options)
        assert answer.status_code == status, answer.text
        if answer.headers["content-type"] != "application/json":
            assert answer.headers["cache-control"] == "no-store"
            return answer.content
        return answer.json()

    def response(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The whole answer."""

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self._as_somebody)
            async with httpx.AsyncClient(transport=transport, base_url="http://camera") as client:
                return await client.request(method, path, **options)

        return asyncio.run(call())

    def get(self, path: str, **options: Any) -> Any:
        return self.ask("GET", path, **options)

    def post(self, path: str, body: object = None, **options: Any) -> Any:
        return self.ask("POST", path, json=body if body is not None else {}, **options)

    async def _as_somebody(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, CALLER: Caller(self.name, self.role)}, receive, send)


@contextmanager
def labelling_page(root: Path) -> Iterator[Page]:
    """The routes over a real store in a folder, with three frames a day."""
    with FrameStore(root / "store") as store:
        model = model_view(root / "camera")
        burst = Burst(store, model.recipe)
        parts = frames.Labelling(
            store=store,
            queue=DayQueue(store, LabellingSettings(per_day=3), _BERLIN),
            answers=Answers(store, model),
            model=model,
            zone=_BERLIN,
            margin=0.05,
            recording=lambda: ("recording", "Up to 30 frames an hour."),
        )
        app = FastAPI()
        routers = frames.router(parts), capture.router(store, burst, CameraPaths(root))
        for router in routers:
            app.include_router(router)
        answer_problems(app)
        yield Page(app, store, root, burst, routers)
        burst.stop()
