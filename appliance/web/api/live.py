"""The live picture and the state, now and as it changes; and whether this camera watches, for anybody."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import tzinfo
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Send

from appliance.web.guards import error_response
from appliance.web.roles import Viewer
from appliance.web.snapshot import snapshot
from appliance.web.source import PageSource
from appliance.web.stream import PictureStream

EVENT_INTERVAL_S = 0.25
HEALTH_PATH = "/healthz"
_BOUNDARY = b"--picture\r\n"


def router(source: PageSource, pictures: PictureStream, zone: tzinfo) -> APIRouter:
    """Routes of the live page.

    Args:
        source: The live loop.
        pictures: Its frames for viewers; once closed, every endless answer ends.
        zone: The site's time zone.
    """
    routes = APIRouter(tags=["live"])
    states = _States(source, zone)

    @routes.get("/api/status")
    def status(caller: Viewer) -> dict[str, Any]:  # noqa: ARG001  # the parameter is the demand
        """Everything on the live page but the picture."""
        return snapshot(source, zone)

    @routes.api_route("/stream.mjpg", methods=["GET", "HEAD"], include_in_schema=False)
    async def stream(request: Request, caller: Viewer) -> Response:  # noqa: ARG001
        """The picture, for ever."""
        return _endless(request, _parts(pictures), "multipart/x-mixed-replace; boundary=picture")

    @routes.api_route("/api/live", methods=["GET", "HEAD"], include_in_schema=False)
    async def live(request: Request, caller: Viewer) -> Response:  # noqa: ARG001
        """The same as /api/status, for ever, as server-sent events."""
        return _endless(request, _events(pictures, states), "text/event-stream")

    @routes.get(HEALTH_PATH, response_model=dict[str, bool])
    def health() -> Response:
        """Whether this camera watches. Open to everybody, so it says no more than that."""
        state = source.status()
        if state.camera_fault or state.model_fault:
            return error_response(503, "This camera is not watching", "Nobody hears of what it doesn't see", "Log in")
        return JSONResponse({"healthy": True})

    return routes


class _States:
    """The newest state as text, made once for all who listen."""

    def __init__(self, source: PageSource, zone: tzinfo) -> None:
        self._source = source
        self._zone = zone
        self._lock = asyncio.Lock()
        self._text = ""
        self._made_s = -EVENT_INTERVAL_S

    async def newest(self) -> str:
        async with self._lock:
            if time.monotonic() - self._made_s >= EVENT_INTERVAL_S / 2:
                state = await asyncio.to_thread(snapshot, self._source, self._zone)
                self._text, self._made_s = json.dumps(state, separators=(",", ":")), time.monotonic()
            return self._text


class _EndlessResponse(StreamingResponse):
    """Closes what it streams from as soon as the viewer is gone, not when Python gets round to it."""

    async def stream_response(self, send: Send) -> None:
        iterator: Any = self.body_iterator
        async with aclosing(iterator):
            await super().stream_response(send)


def _endless(request: Request, content: AsyncIterator[bytes], media_type: str) -> Response:
    if request.method == "HEAD":  # would otherwise run for ever without sending anything
        return Response(media_type=media_type)
    return _EndlessResponse(content, media_type=media_type)


async def _parts(pictures: PictureStream) -> AsyncIterator[bytes]:
    """The pictures as parts. Each boundary goes out with the part before it: browsers show a part at its end."""
    yield _BOUNDARY
    async with aclosing(pictures.pictures()) as stream:  # type: ignore[type-var]  # an async generator has aclose
        async for picture in stream:
            head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture)
            yield head + picture + b"\r\n" + _BOUNDARY


async def _events(pictures: PictureStream, states: _States) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    while not pictures.closing:
        yield f"data: {await states.newest()}\n\n".encode()
        await asyncio.sleep(EVENT_INTERVAL_S)
