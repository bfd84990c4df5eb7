"""The one door: nobody gets past without a session, on any path, unless the path is named as open.

A plain ASGI wrapper, because the picture stream never ends and must not be buffered. It refuses by default: a route
that somebody adds later is behind the login by itself. And it goes on looking while an answer lasts: a stream ends when
its session does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appliance.errors import StoreError
from appliance.web.guards import error_response
from appliance.web.pages import login_address
from appliance.web.roles import CALLER, Caller

LOOK_AGAIN_S = 2.0
KEY_HOLDER = Caller("key", "admin")  # a path with a key of its own; holds for that path only


class LoginGuard:
    """Puts the caller into the request's scope, or refuses: programs with 401, people by a way to the login page.

    Args:
        app: What is behind.
        who: Tells who sent a request; None for a stranger. May block.
        open_paths: Answer strangers too.
        open_folders: Everything below answers strangers too; each ends with a slash.
        open_with: Paths with a key of their own, and what tells whether a request brings it.
        means: For a program that is refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        who: Callable[[Request], Caller | None],
        open_paths: Collection[str],
        open_folders: tuple[str, ...] = (),
        open_with: Mapping[str, Callable[[Request], bool]] | None = None,
        means: str = "This camera is shown after login only",
    ) -> None:
        self._app = app
        self._who = who
        self._open_paths = frozenset(open_paths)
        self._open_folders = open_folders
        self._open_with = open_with or {}
        self._means = means

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse with 303, 401 or 503."""
        if scope["type"] != "http":
            return  # no such route here, and none that this guard could watch over
        request, path = Request(scope), scope["path"]
        if self._open_folders and path.startswith(self._open_folders):
            await self._app(scope, receive, send)
            return
        try:
            caller = await asyncio.to_thread(self._who, request)
            if caller is None and await self._brings_key(request):
                caller = KEY_HOLDER
        except StoreError as error:
            await error_response(503, error.what, error.means, error.do)(scope, receive, send)
            return
        if caller is not None:
            scope[CALLER] = caller
        if path in self._open_paths or caller is KEY_HOLDER:
            await self._app(scope, receive, send)
        elif caller is None:
            await self._refusal(request)(scope, receive, send)
        else:
            await self._while_allowed(caller, request, receive, send)

    async def _brings_key(self, request: Request) -> bool:
        key = self._open_with.get(request.scope["path"])
        return key is not None and await asyncio.to_thread(key, request)

    def _refusal(self, request: Request) -> Response:
        path = request.scope["path"]
        if not path.startswith("/api/") and path not in self._open_with:
            return RedirectResponse(login_address(path, request.url.query), 303)
        return error_response(401, "You are not logged in", self._means, "Log in at /login")

    async def _while_allowed(self, caller: Caller, request: Request, receive: Receive, send: Send) -> None:
        """Run the app; to it, the end of the session looks as if the viewer had left."""
        started = ended = over = False

        async def receive_while_allowed() -> Message:
            nonlocal over
            message = asyncio.ensure_future(receive())
            try:
                while not over:
                    done, _ = await asyncio.wait({message}, timeout=LOOK_AGAIN_S)
                    if done:
                        return message.result()
                    over = await asyncio.to_thread(self._who_now, request) != caller
                return {"type": "http.disconnect"}
            finally:
                message.cancel()

        async def send_noted(message: Message) -> None:
            nonlocal started, ended
            started = started or message["type"] == "http.response.start"
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        await self._app(request.scope, receive_while_allowed, send_noted)
        if over and started and not ended:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _who_now(self, request: Request) -> Caller | None:
        try:
            return self._who(request)
        except StoreError:  # nobody can tell any more: that is no leave to go on
            return None
