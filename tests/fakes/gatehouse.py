"""A server that cameras can join, over real HTTPS on loopback, with a SuperLink that only remembers; and cameras."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import uvicorn
from starlette.applications import Starlette

from appliance.join_code import Invitation, read_uri
from appliance.joining import join
from appliance.paths import CameraPaths
from server.admission import Admission
from server.config import ServerSettings, load
from server.enrolment_tables import JoinRequest
from server.fleet.join import join_routes
from server.paths import ServerPaths
from server.superlink import SuperLink
from tests.fakes.site import make_tiny_fleet, write_server_settings
from tests.fakes.superlink import FakeSuperLink


class Desk:
    """The join routes alone, over HTTPS, in a thread, where the settings have the fleet page.

    Args:
        admission: Whose requests they are.
        clock: The server's.
    """

    def __init__(self, admission: Admission, clock: Callable[[], datetime]) -> None:
        config = uvicorn.Config(
            Starlette(routes=list(join_routes(admission, clock))),
            ssl_certfile=admission.paths.tls_certificate,
            ssl_keyfile=admission.paths.tls_key,
            log_config=None,
            lifespan="off",
            ws="none",
        )
        self._server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", admission.settings.page.port))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        ends = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < ends, "the desk did not open"
            time.sleep(0.01)

    def close(self) -> None:
        """Answer nobody."""
        self._server.should_exit = True
        self._thread.join(20)


class Gatehouse:
    """A fleet made of tiny parts, and who lets cameras into it.

    Args:
        root: Its folder.
        backbone: The tiny backbone.

    Attributes:
        clock: The server's; may be replaced.
    """

    def __init__(self, root: Path, backbone: bytes) -> None:
        self.root = root
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
        self.config = write_server_settings(root / "sitecam-server.toml")
        with self.config.open("a", encoding="utf-8") as file:
            file.write(f"[page]\nport = {self.port}\n")
        self.settings: ServerSettings = load(self.config)
        self.paths = ServerPaths(self.settings.state_dir)
        make_tiny_fleet(self.settings, backbone)
        self.link = FakeSuperLink()
        self.admission = Admission(self.settings, cast("SuperLink", self.link))
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self._desk: Desk | None = None

    def open(self) -> None:
        """Answer cameras; a second time, as after a restart: nothing is remembered but what is on disk."""
        self._desk = Desk(self.admission, lambda: self.clock())

    def close(self) -> None:
        """Answer nobody."""
        if self._desk:
            self._desk.close()
            self._desk = None

    def invitation(self, *, cameras: int = 1, minutes: float = 15.0) -> Invitation:
        """A fresh code, as its QR code holds it."""
        return read_uri(self.admission.new_code(cameras=cameras, minutes=minutes).uri)

    def camera(self, name: str) -> CameraPaths:
        """A camera's empty state folder."""
        return CameraPaths(self.root / name)

    def waiting(self, *, count: int = 1) -> list[JoinRequest]:
        """The requests that wait, once there are so many."""
        ends = time.monotonic() + 30
        while len(found := self.admission.requests()) < count:
            assert time.monotonic() < ends, f"{len(found)} of {count} requests came"
            time.sleep(0.02)
        return found

    def trail(self) -> list[str]:
        """What the roster's trail says, newest first."""
        return [f"{entry.who}: {entry.text}" for entry in self.admission.roster.trail()]


class Visitor:
    """A camera that joins in a thread of its own, and what it said meanwhile."""

    def __init__(self, house: Gatehouse, name: str = "gate-1") -> None:
        self.paths = house.camera(name)
        self.name = name
        self.said: list[str] = []

    def join(self, invitation: Invitation, *, wait_s: float = 60) -> int:
        return join(self.paths, invitation, name=self.name, say=self.said.append, wait_s=wait_s, poll_s=0.05)

    def start(self, pool: ThreadPoolExecutor, invitation: Invitation) -> Future[int]:
        return pool.submit(self.join, invitation)

    def enrol(self, house: Gatehouse) -> None:
        """Join, with a person who approves at once."""
        with ThreadPoolExecutor(1) as pool:
            joined = self.start(pool, house.invitation())
            house.admission.approve(house.waiting()[0].id, who="page")
            assert joined.result(30) == 1
