"""What stands before every route: which names this server answers to, and what a browser may do with its answers.

Both are plain ASGI wrappers, because the picture stream never ends and must not be buffered.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",  # no other site's page may show the picture
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def error_response(status: int, what: str, means: str = "", do: str = "") -> JSONResponse:
    """The one shape of every error, for programs and people."""
    body = {"error": {"what": what, "means": means, "do": do}}
    return JSONResponse(body, status, headers={**HEADERS, "Cache-Control": "no-store"})


class HostGuard:
    """Answers only to names that are ours.

    A page of a stranger can have its own name point to 127.0.0.1 and then read what we answer (DNS rebinding);
    its name is in the Host header. An address can't be made to point elsewhere: the one that a request was sent to is
    good, so that a camera is found under whatever address the network gave it.

    Args:
        app: What is behind.
        names: Host names without port, lower case, IPv6 in brackets.
    """

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        self._app = app
        self._names = frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or refuse with 421."""
        if scope["type"] == "http":
            hosts = [value.decode("latin-1").lower() for key, value in scope["headers"] if key == b"host"]
            name = _without_port(hosts[0]) if len(hosts) == 1 else ""
            if name not in self._names and name != _sent_to(scope):
                refusal = error_response(
                    421,
                    f"This page does not answer to the name {', '.join(hosts) or '(none)'}",
                    "A page of another site may be trying to read it",
                    f"Open it as one of: {', '.join(sorted(self._names))}",
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


class HeaderGuard:
    """Adds the security headers, and keeps everything but the page's own files out of every cache."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with headers added to the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Our own files may be kept, but must be asked after: an upgrade shows at once.
        own_file = scope["path"].startswith("/static/")

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers["Cache-Control"] = "no-cache" if own_file else "no-store"
            await send(message)

        await self._app(scope, receive, send_guarded)


def as_in_url(host: str) -> str:
    """A host as it stands in an address and in the Host header: lower case, IPv6 in brackets."""
    return f"[{host.lower()}]" if ":" in host and not host.startswith("[") else host.lower()


def _sent_to(scope: Scope) -> str:
    """This machine's address that a request came to, as it stands in the Host header."""
    server = scope.get("server")
    try:
        return as_in_url(str(ipaddress.ip_address(server[0]))) if server else "(none)"
    except ValueError:
        return "(none)"  # no address: a test's server, or a socket file


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isascii() and port.isdigit() else host
