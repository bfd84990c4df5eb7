"""The camera's page: its routes."""

from __future__ import annotations

import asyncio
import json
import zoneinfo
from collections.abc import AsyncIterator, Collection
from contextlib import aclosing
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Send

from appliance.errors import ConfigError
from appliance.web.guards import LOOPBACK_NAMES, HeaderGuard, HostGuard, as_in_url, error_response
from appliance.web.snapshot import snapshot
from appliance.web.source import PageSource
from appliance.web.stream import PictureStream

STATIC = Path(__file__).parent / "static"
EVENT_INTERVAL_S = 0.25
_BOUNDARY = b"--picture\r\n"


def create_app(source: PageSource, *, time_zone: str, hosts: Collection[str] = ()) -> Starlette:
    """The page of one camera.

    Its ``state.pictures`` is the :class:`PictureStream`: closing that ends every endless answer.

    Args:
        source: The live loop.
        time_zone: The site's, as an IANA name.
        hosts: Names it answers to beside the loopback ones, without port.

    Raises:
        ConfigError: The time zone is unknown.
    """
    try:
        zone = zoneinfo.ZoneInfo(time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(
            f"The time zone {time_zone!r} is unknown",
            means="The page can't show the site's time",
            do='Write [page] time_zone in sitecam.toml like "Europe/Berlin"',
        ) from error
    pictures = PictureStream(source)

    def page(_: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    def status(_: Request) -> Response:
        return JSONResponse(snapshot(source, zone))

    def health(_: Request) -> Response:
        state = source.status()
        fault = state.camera_fault or state.model_fault
        if fault:
            return error_response(503, fault, "This camera is not watching", "Open / for its state")
        return JSONResponse({"healthy": True})

    def stream(request: Request) -> Response:
        return _endless(request, _parts(pictures), "multipart/x-mixed-replace; boundary=picture")

    def events(request: Request) -> Response:
        return _endless(request, _events(pictures, source, zone), "text/event-stream")

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/stream.mjpg", stream),
            Route("/api/status", status),
            Route("/api/events", events),
            Route("/healthz", health),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            Middleware(HeaderGuard),
            Middleware(HostGuard, names=LOOPBACK_NAMES | {as_in_url(host) for host in hosts}),
        ],
        exception_handlers={HTTPException: _refused, Exception: _broken},
    )
    app.state.pictures = pictures
    return app


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


async def _events(pictures: PictureStream, source: PageSource, zone: zoneinfo.ZoneInfo) -> AsyncIterator[bytes]:
    yield b"retry: 1000\n\n"
    while not pictures.closing:
        state = await asyncio.to_thread(snapshot, source, zone)
        yield f"data: {json.dumps(state, separators=(',', ':'))}\n\n".encode()
        await asyncio.sleep(EVENT_INTERVAL_S)


async def _refused(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.BAD_REQUEST
    if status == HTTPStatus.NOT_FOUND:
        return error_response(404, f"There is nothing at {request.url.path}", do="Open / for the page")
    response = error_response(status, f"{request.method} {request.url.path}: {HTTPStatus(status).phrase}")
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
