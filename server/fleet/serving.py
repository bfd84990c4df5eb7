"""How the page is served: HTTPS with the server's own certificate, on loopback."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from server.config import ServerSettings
from server.paths import ServerPaths

_LET_GO_S = 0.1  # for the loop to close what is closing, and handshakes that had just begun
_GRACE_S = 1  # for viewers to take what was sent to them


class PageServer(uvicorn.Server):
    """uvicorn would wait for every browser to say goodbye over TLS; one that sleeps must not hold up the end.

    Args:
        app: From :func:`server.fleet.app.create_app`.
        settings: The server's.
        port: TCP; 0 takes any free one.
    """

    def __init__(self, app: Starlette, settings: ServerSettings, port: int) -> None:
        paths = ServerPaths(settings.state_dir)
        config = uvicorn.Config(
            app,
            host=settings.page.listen,
            port=port,
            ssl_certfile=paths.tls_certificate,
            ssl_keyfile=paths.tls_key,
            ssl_context_factory=_tls_1_2,
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=True,  # the proxy on this machine says where a request is from; nobody else is believed
            forwarded_allow_ips=["127.0.0.1", "::1"],
            timeout_graceful_shutdown=3 * _GRACE_S,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers go out, then hang up."""
        hang_up = asyncio.get_running_loop().call_later(_GRACE_S, self._hang_up)
        await super().shutdown(sockets)
        hang_up.cancel()
        await asyncio.sleep(_LET_GO_S)

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def _tls_1_2(_: uvicorn.Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    context = default()
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # Debian's Python leaves it to OpenSSL's configuration
    return context
