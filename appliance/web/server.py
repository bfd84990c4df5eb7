"""Runs the page's server in a thread: over TLS for everybody, without it on loopback only."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

import uvicorn
from starlette.datastructures import State
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from appliance.errors import CertificateError, ConfigError, PortTakenError
from appliance.web.guards import as_in_url
from appliance.web.listener import Listener

logger = logging.getLogger(__name__)

_GRACE_S = 1  # for viewers to take what was sent to them
_LET_GO_S = 0.1  # for the loop to close what is closing, and handshakes that had just begun
TAKES_NOTHING_S = 30.0  # a client that takes nothing of its answer for so long is hung up


class PageApp(Protocol):
    """An ASGI app whose ``state.pictures`` can be closed."""

    @property
    def state(self) -> State:
        """The app's own."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""


class PageServer:
    """Serves a page.

    Args:
        app: From :func:`appliance.web.app.create_app`.
        host: An address of this machine, or ``localhost``.
        port: TCP; 0 takes any free one.
        certificate: PEM, with whatever chain it needs; without one the page is served over plain HTTP.
        key: Its private key, PEM.

    Raises:
        ConfigError: The host is none, or it is not loopback and there is no certificate.
        CertificateError: Certificate and key can't be used.
    """

    def __init__(
        self, app: PageApp, host: str, port: int, *, certificate: Path | None = None, key: Path | None = None
    ) -> None:
        self._certificate, self._key = certificate, key
        self._tls = None if certificate is None else _tls(certificate, key)
        self._address = _address(host, tls=self._tls is not None)
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
        """The page's address; this machine's own where it listens on all."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._address, self._address)  # noqa: S104  # not bound here
        return f"http{'s' if self._tls else ''}://{as_in_url(host)}:{self._port}/"

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
        tls = self._tls
        config = uvicorn.Config(
            self._app,
            http=_Connection,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2 * _GRACE_S,
            ssl_context_factory=None if tls is None else (lambda _, __: tls),
        )
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._serve, args=(self._server, listener), name="page-server", daemon=True
        )
        self._thread.start()

    def renew(self) -> None:
        """Take certificate and key from their files again. Open connections keep the old ones, new ones get these.

        Raises:
            CertificateError: They can't be used; the page goes on with the old ones.
        """
        tls, certificate, key = self._tls, self._certificate, self._key
        if tls is None or certificate is None:
            return
        _tls(certificate, key)  # a pair that doesn't fit is found before it replaces one that does

        def take() -> None:
            tls.load_cert_chain(certificate, key)

        if self._server is None or not self._server.call(take):
            take()

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

    def _serve(self, server: _Server, listener: Listener) -> None:
        try:
            server.run(sockets=[listener])
        except Exception:
            logger.exception("The page's server ended by mistake; the camera goes on working")
        finally:
            listener.close()

    def _listen(self) -> Listener:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        listener = Listener(family, socket.SOCK_STREAM)
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


class _Connection(H11Protocol):
    """uvicorn waits for ever for a client to take its answer."""

    _hang_up: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._hang_up = asyncio.get_running_loop().call_later(TAKES_NOTHING_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._forget()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    @property
    def answering(self) -> bool:
        """Whether a whole request is here and its answer isn't done."""
        return self.cycle is not None and not self.cycle.response_complete

    def _forget(self) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None


class _Server(uvicorn.Server):
    """uvicorn waits until the last byte was taken; a viewer who takes none must not hold up the end."""

    _loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        for listener in sockets or ():
            if isinstance(listener, Listener):
                listener.answering = self._answering
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        hang_up = asyncio.get_running_loop().call_later(_GRACE_S, self._hang_up)
        await super().shutdown(sockets)
        hang_up.cancel()
        await asyncio.sleep(_LET_GO_S)

    def call(self, change: Callable[[], None]) -> bool:
        """Have the loop do something soon; False where none runs."""
        if self._loop is None or self._loop.is_closed():
            return False
        self._loop.call_soon_threadsafe(change)
        return True

    def _answering(self) -> Collection[int]:
        return {
            connection.transport.get_extra_info("socket").fileno()
            for connection in self.server_state.connections
            if isinstance(connection, _Connection) and connection.answering
        }

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def _tls(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # Debian's Python leaves it to OpenSSL's configuration
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise CertificateError(
            f"The page's certificate {certificate} can't be used ({error})",
            means="The page can't be shown over HTTPS",
            do="Run `sitecam doctor`; it names the file at fault",
        ) from error
    return context


def _address(host: str, *, tls: bool) -> str:
    """The address that ``host`` means; one that others reach only over TLS."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise ConfigError(
            f"The page can't listen on {host!r}",
            means="It is no address of this machine",
            do='Set [page] host in sitecam.toml to "0.0.0.0", "::" or an address',
        ) from error
    if not loopback and not tls:
        raise ConfigError(
            f"The page can't listen on {host} without HTTPS",
            means="Anybody on the way could read passwords and pictures",
            do='Leave [page] https on, or set [page] host in sitecam.toml to "127.0.0.1"',
        )
    return host
