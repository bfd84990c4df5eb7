"""Lets only a page's own scripts change anything: POST, from the same origin, in a form no plain HTML form can send."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from appliance.web.bodies import UPLOADS, Upload
from appliance.web.guards import error_response


class SameOriginGuard:
    """Refuses what another site's page sends in a user's name.

    Browsers send Sec-Fetch-Site with every request over HTTPS and to loopback, and no page can forge it; older ones
    send Origin with every POST. Whoever sends neither is no page, and says by Origin that it knows where it is.

    Args:
        app: What is behind.
        https: Whether the page is served over TLS.
        exempt: Beginnings of paths that look after themselves.
        uploads: Paths that take something else than JSON.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        https: bool = True,
        exempt: tuple[str, ...] = (),
        uploads: Mapping[str, Upload] = UPLOADS,
    ) -> None:
        self._app = app
        self._scheme = "https" if https else "http"
        self._exempt = exempt
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse with 403, 405 or 415."""
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            request = Request(scope)
            if not (self._exempt and scope["path"].startswith(self._exempt)):
                refusal = self._refusal(request)
                if refusal is not None:
                    await refusal(scope, receive, send)
                    return
        await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        if request.method != "POST":
            refusal = error_response(405, f"Nothing here answers to {request.method}")
            refusal.headers["Allow"] = "GET, HEAD, POST"
            return refusal
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        upload = self._uploads.get(request.scope["path"])
        if upload is None and kind != "application/json":
            return error_response(
                415, "What was sent is not JSON", "Nothing was changed", "Send it as application/json"
            )
        if upload is not None and not upload.takes(kind):
            return error_response(
                415, f"What was sent is not {upload.words}", "Nothing was changed", f"Send {upload.words}"
            )
        if not self._own(request):
            return error_response(
                403,
                "This did not come from the page itself",
                "Another site's page may have tried to act in your name; nothing was changed",
                "Use the page; a program sends the page's address as its Origin header",
            )
        return None

    def _own(self, request: Request) -> bool:
        site, origins = request.headers.get("sec-fetch-site"), request.headers.getlist("origin")
        if site not in (None, "same-origin") or len(origins) > 1:
            return False
        if origins and origins[0]:
            return origins[0].lower() == f"{self._scheme}://{request.headers.get('host', '')}".lower()
        return site is not None
