"""Two machines in one: network namespaces that a cable joins, made and removed by the test that needs them."""

from __future__ import annotations

import ctypes
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

_CLONE_NEWNET = 0x40000000  # linux/sched.h


class TwoMachines:
    """A server's network and a stranger's, each with a loopback of its own, and a cable between them.

    Skips the test where this machine doesn't let us.

    Attributes:
        server_address: Of the server, on the cable.
    """

    server_address = "10.87.46.1"
    _stranger_address = "10.87.46.2"

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            pytest.skip("network namespaces need root and the ip command")
        tag = secrets.token_hex(3)
        self._server, self._stranger = f"scs{tag}", f"sct{tag}"
        try:
            for name in (self._server, self._stranger):
                _ip("netns", "add", name)
            _ip(
                "link",
                "add",
                self._server,
                "netns",
                self._server,
                "type",
                "veth",
                "peer",
                "name",
                self._stranger,
                "netns",
                self._stranger,
            )
            for name, address in ((self._server, self.server_address), (self._stranger, self._stranger_address)):
                _ip("-n", name, "link", "set", "lo", "up")
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
                _ip("-n", name, "link", "set", name, "up")
        except subprocess.CalledProcessError as error:
            self._remove()
            pytest.skip(f"this machine lets nobody make network namespaces ({error.stderr.strip()})")
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._remove()

    @contextmanager
    def on_server(self) -> Iterator[None]:
        """What this thread does meanwhile, and every process that it starts, is on the server."""
        with _inside(self._server):
            yield

    @contextmanager
    def on_stranger(self) -> Iterator[None]:
        """Likewise, on the other machine."""
        with _inside(self._stranger):
            yield

    def _remove(self) -> None:
        for name in (self._server, self._stranger):
            if Path("/run/netns", name).exists():
                _ip("netns", "del", name)  # its end of the cable goes with it


@contextmanager
def _inside(name: str) -> Iterator[None]:
    """setns(2), for this thread."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        _enter(there)
        yield
    finally:
        _enter(before)
        os.close(there)
        os.close(before)


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
