"""A site's network of its own: a bridge, a cable from it to each machine, and a proxy as the one way out."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import socketserver
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_NETWORKS = [f"10.87.{part}" for part in range(47, 57)]  # the first that this machine does not use already
_IDLE_S = 300.0


@dataclass(frozen=True)
class Wire:
    """A machine's place in the network.

    Attributes:
        namespace: Name of its network namespace.
        address: Its IPv4 address.
        proxy: Address of the way out, for package sources.
        no_proxy: Addresses that are reached without it, separated by commas.
    """

    namespace: str
    address: str
    proxy: str
    no_proxy: str


class Site:
    """The network; a context manager that takes everything away again."""

    def __enter__(self) -> Self:
        self._tag = f"sp{os.getpid() % 100000:05d}"
        self._names: list[str] = []
        used = _ip("-4", "addr", "show")
        self._network = next(network for network in _NETWORKS if f" {network}." not in used)
        _ip("link", "add", self._tag, "type", "bridge")
        try:
            _ip("addr", "add", f"{self._network}.1/24", "dev", self._tag)
            _ip("link", "set", self._tag, "up")
            self._proxy = _Server((f"{self._network}.1", 0), _Handler)
        except BaseException:
            _ip("link", "del", self._tag)
            raise
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()
        for name in self._names:
            if Path("/run/netns", name).exists():
                _ip("netns", "del", name)  # its end of the cable goes with it
        _ip("link", "del", self._tag)

    def wire(self, number: int) -> Wire:
        """Lay a cable for one more machine; ``number`` from 10 to 250 is the last part of its address."""
        name, here, there = f"{self._tag}n{number}", f"{self._tag}h{number}", f"{self._tag}m{number}"
        _ip("netns", "add", name)
        self._names.append(name)
        _ip("link", "add", here, "type", "veth", "peer", "name", there)
        _ip("link", "set", there, "netns", name)
        _ip("link", "set", here, "master", self._tag)
        _ip("link", "set", here, "up")
        _ip("-n", name, "link", "set", there, "name", "eth0")
        _ip("-n", name, "addr", "add", f"{self._network}.{number}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            _ip("-n", name, "link", "set", link, "up")
        own = ["localhost", "127.0.0.1", *(f"{self._network}.{last}" for last in range(10, 20))]
        proxy = f"http://{self._network}.1:{self._proxy.server_address[1]}"
        return Wire(name, f"{self._network}.{number}", proxy, ",".join(own))


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up, or a server that can't be reached: the client sees it for itself."""
        del request, client_address


class _Handler(socketserver.StreamRequestHandler):
    """HTTP's two kinds of proxying: CONNECT, and requests with a whole address; one request per connection."""

    def handle(self) -> None:
        method, target, version = self.rfile.readline(65536).decode("latin-1").split()
        headers = []
        while (line := self.rfile.readline(65536)) not in (b"\r\n", b"\n", b""):
            if not line.lower().startswith((b"connection:", b"proxy-connection:", b"keep-alive:")):
                headers.append(line)
        parts = urlsplit(target if method != "CONNECT" else f"//{target}")
        with socket.create_connection((str(parts.hostname), parts.port or 80), timeout=30) as outside:
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
                outside.sendall(f"{method} {path} {version}\r\n".encode("latin-1"))
                outside.sendall(b"".join(headers) + b"Connection: close\r\n\r\n")
            _between(self.connection, outside)


def _between(one: socket.socket, other: socket.socket) -> None:
    peers = {one: other, other: one}
    while True:
        ready, _, _ = select.select(list(peers), [], [], _IDLE_S)
        if not ready:
            return
        for source in ready:
            data = source.recv(262144)
            if not data:
                with contextlib.suppress(OSError):
                    peers[source].shutdown(socket.SHUT_WR)
                return
            peers[source].sendall(data)


def _ip(*arguments: str) -> str:
    program = shutil.which("ip") or "/usr/sbin/ip"
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout
