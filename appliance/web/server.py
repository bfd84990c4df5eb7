"""Runs the page's server in a thread, on loopback only until there is a login."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import threading
import time

import uvicorn
from starlette.applications import Starlette

from appliance.errors import ConfigError, PortTakenError
from appliance.web.guards import as_in_url

logger = logging.getLogger(__name__)

_GRACE_S = 1  # for viewers to take what was sent to them


class PageServer:
    """Serves a page.

    Args:
        app: From :func:`appliance.web.app.create_app`.
        host: A loopback address or ``localhost``.
        port: TCP; 0 takes any free one.

    Raises:
        ConfigError: The host is not loopback: anybody there could watch without logging in.
    """

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        self._address = _loopback(host)
        self._port = port
        self._app = app
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Where it listens, once started."""
        return self._port

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{as_in_url(self._address)}:{self._port}/"

    @property
    def alive(self) -> bool:
        """Whether it serves."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Take the port, then serve. Whoever connects from now on is answered.

        Raises:
            PortTakenError: Another program listens there.
            ConfigError: The port may not be used.
        """
        listener = self._listen()
        self._port = int(listener.getsockname()[1])
        config = uvicorn.Config(
            self._app,
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2 * _GRACE_S,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._serve, args=(self._server, listener), name="page-server", daemon=True
        )
        self._thread.start()

    def stop(self, *, deadline_s: float = 5.0) -> None:
        """End open streams, then the server. Stopping twice, or before the start, does nothing."""
        if self._server is None or self._thread is None:
            return
        ends = time.monotonic() + deadline_s
        self._app.state.pictures.close(deadline_s=deadline_s / 2)
        self._server.should_exit = True
        self._thread.join(max(0.0, ends - time.monotonic()))
        if self._thread.is_alive():
            logger.error("The page's server did not end within %g s", deadline_s)
        self._server = None

    def _serve(self, server: _Server, listener: socket.socket) -> None:
        try:
            server.run(sockets=[listener])
        except Exception:
            logger.exception("The page's server ended by mistake; the camera goes on working")
        finally:
            listener.close()

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._address, self._port))
            listener.listen(128)
        except OSError as error:
            listener.close()
            change = "Stop that program, or choose another with [page] port in sitecam.toml or --port"
            if error.errno == errno.EADDRINUSE:
                raise PortTakenError(
                    f"Port {self._port} on {self._address} is taken",
                    means="Another program listens there, perhaps a second Sitecam or Edge Impulse's own "
                    "runner, so the page can't be shown",
                    do=change,
                ) from error
            raise ConfigError(
                f"Port {self._port} on {self._address} can't be used ({error.strerror})",
                means="The page can't be shown",
                do=change,
            ) from error
        return listener


class _Server(uvicorn.Server):
    """uvicorn waits until the last byte was taken; a viewer who takes none must not hold up the end."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        hang_up = asyncio.get_running_loop().call_later(_GRACE_S, self._hang_up)
        await super().shutdown(sockets)
        hang_up.cancel()

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def _loopback(host: str) -> str:
    """The loopback address that ``host`` means."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass  # a name, or nonsense: neither is loopback for certain
    raise ConfigError(
        f"The page can't listen on {host}",
        means="It has no login yet, so anybody who reaches that address could watch",
        do='Set [page] host in sitecam.toml to "127.0.0.1"; from another machine use an SSH tunnel',
    )
