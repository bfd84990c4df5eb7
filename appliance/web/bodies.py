"""What a request may bring along: bounded in bytes and time before any route looks at it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.web.guards import error_response

JSON_BYTES = 64 * 1024
WHOLE_S = 10.0  # for a whole body of JSON
PIECE_S = 30.0  # for the next piece of an upload


@dataclass(frozen=True)
class Upload:
    """A path that takes something else than JSON.

    Attributes:
        kinds: Beginnings of the content types.
        most_bytes: Of the body.
        words: What it takes, for a person.
    """

    kinds: tuple[str, ...]
    most_bytes: int
    words: str

    def takes(self, kind: str) -> bool:
        """Whether a content type fits, without its parameters, in lower case."""
        return kind.startswith(self.kinds)


UPLOADS: Mapping[str, Upload] = {
    "/api/upload": Upload(("image/",), 20_000_000, "a picture (image/jpeg, image/png)"),
    "/api/import": Upload(("application/zip",), 8_000_000_000, "an export (application/zip)"),
}


class BodyGuard:
    """Reads JSON bodies itself; lets uploads through piece by piece, and counts them.

    Args:
        app: What is behind.
        uploads: Paths with an allowance of their own.
    """

    def __init__(self, app: ASGIApp, *, uploads: Mapping[str, Upload] = UPLOADS) -> None:
        self._app = app
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse with 408, 411 or 413."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        upload = self._uploads.get(scope["path"])
        stated = _stated_bytes(scope)
        most = upload.most_bytes if upload else JSON_BYTES
        if stated is not None and stated > most:
            await _too_long(most)(scope, receive, send)
        elif upload is None:
            await self._pass_json(scope, receive, send)
        elif stated is None:
            refusal = error_response(411, "An upload must say how long it is", "Nothing was changed")
            await refusal(scope, receive, send)
        else:
            await self._app(scope, _in_time(receive), send)  # never more than stated: the server sees to that

    async def _pass_json(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(WHOLE_S):
                body = await _whole(receive)
        except TimeoutError:
            refusal = error_response(408, "What was sent did not arrive in time", "Nothing was changed", "Try again")
            await refusal(scope, receive, send)
            return
        if body is None:
            await _too_long(JSON_BYTES)(scope, receive, send)
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, replay, send)


async def _whole(receive: Receive) -> bytes | None:
    """The whole body; None where it is too long."""
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > JSON_BYTES:
            return None
        if not message.get("more_body", False):  # or the sender is gone
            return body


def _in_time(receive: Receive) -> Receive:
    complete = False

    async def next_piece() -> Message:
        nonlocal complete
        if complete:
            return await receive()  # waits for the sender to leave
        try:
            async with asyncio.timeout(PIECE_S):
                message = await receive()
        except TimeoutError:
            message = {"type": "http.disconnect"}
        complete = not message.get("more_body", False)
        return message

    return next_piece


def _stated_bytes(scope: Scope) -> int | None:
    stated = Headers(scope=scope).get("content-length", "")
    return int(stated) if stated.isascii() and stated.isdigit() else None


def _too_long(most_bytes: int) -> Response:
    return error_response(
        413, f"What was sent is longer than {most_bytes:,} bytes", "Nothing was changed", "Send something smaller"
    )
