"""A camera's whole page in a folder: every router, with a real store, shelf, event log and accounts behind it.

The live loop and the night are stand-ins; nothing that a request can reach is.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
from fastapi import APIRouter, FastAPI

from appliance.accounts import Accounts
from appliance.burst import Burst
from appliance.config import LabellingSettings
from appliance.events import EventLog
from appliance.events_record import Event
from appliance.forget_asking import Forgetter
from appliance.labelling.answers import Answers
from appliance.labelling.model import ModelView
from appliance.labelling.queue import DayQueue
from appliance.metrics import Metrics
from appliance.metrics_token import TokenCheck, metrics_token
from appliance.models_view import ModelChanger
from appliance.page_tls import PageCertificate
from appliance.paths import CameraPaths
from appliance.status import Status
from appliance.status_file import own_process
from appliance.store.deletion import Deleter
from appliance.store.frames import FrameStore
from appliance.web.api import authority, capture, data, events, frames, metrics, models, privacy
from appliance.web.app import create_app
from appliance.web.roles import Role
from appliance.web.server import PageServer
from appliance.web.throttle import Throttle
from tests.fakes.camera_page import PASSWORD, accounts_in, add
from tests.fakes.labelling import add as add_frame
from tests.fakes.labelling import shelf_in
from tests.fakes.page_source import FakePageSource

CAMERA = "North gate"
ZONE = ZoneInfo("Europe/Berlin")
PEOPLE: dict[Role, str] = {"admin": "Ada", "labeller": "Lin", "viewer": "Vic"}


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.at = time.time()

    def __call__(self) -> float:
        return self.at


@dataclass
class Whole:
    """A page that is served.

    Attributes:
        app: All of it.
        server: Where.
        accounts: Who may come in.
        clock: Of sessions, codes and throttle.
        paths: The camera's state folder.
        source: The live loop.
        frame: Id of a stored frame.
        event: Id of an event.
    """

    app: FastAPI
    server: PageServer
    accounts: Accounts
    clock: Clock
    paths: CameraPaths
    source: FakePageSource
    frame: str
    event: str

    @property
    def url(self) -> str:
        """Its address, without a slash at its end."""
        return self.server.url.rstrip("/")

    @property
    def trust(self) -> ssl.SSLContext:
        """Trusts the certificate that the camera signed itself, and nothing else."""
        context = ssl.create_default_context(cafile=str(self.paths.page_certificate))
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    def client(self, role: Role | None = None) -> httpx.Client:
        """A program that trusts the page and says that it comes from the page; logged in as one role."""
        client = httpx.Client(
            base_url=self.url, verify=self.trust, headers={"Origin": self.url}, trust_env=False, timeout=30
        )
        if role is not None:
            token = self.accounts.log_in(PEOPLE[role], PASSWORD)
            client.cookies.set(self.app.state.door.cookie, token, domain="127.0.0.1")
        return client

    def raw(self, request: bytes) -> bytes:
        """The whole answer to bytes that no proper client would send."""
        with (
            socket.create_connection(("127.0.0.1", self.server.port), timeout=20) as plain,
            self.trust.wrap_socket(plain, server_hostname="127.0.0.1") as wire,
        ):
            wire.sendall(request)
            answer = b""
            while piece := wire.recv(65536):
                answer += piece
            return answer


@contextmanager
def whole_page(root: Path, *, camera: str = CAMERA, routers: tuple[APIRouter, ...] = ()) -> Iterator[Whole]:
    """Serve it over TLS on loopback, with an account per role.

    Args:
        root: An empty folder.
        camera: What it calls itself.
        routers: More routes, as somebody may add them later.
    """
    paths = CameraPaths(root)
    clock = Clock()
    shelf = shelf_in(root, 1, 2)
    source = FakePageSource()
    accounts = accounts_in(root, known_names=(camera, "Harbour site"), clock=clock)
    for role, name in PEOPLE.items():
        add(accounts, name, role)
    with FrameStore(paths.store) as store:
        frame, *_ = [add_frame(store, seed) for seed in range(3)]
        log = EventLog(paths.events)
        now = datetime.now(UTC)
        event = Event("seen", "bare head seen", now - timedelta(minutes=2), now - timedelta(minutes=1))
        log.put(event)
        view = ModelView(shelf, lambda: 1)
        burst = Burst(store, str)
        status = Status(camera, "Harbour site", now, 5.0, own_process("test"))
        token = metrics_token(paths.metrics_token)
        labelling = frames.Labelling(
            store,
            DayQueue(store, LabellingSettings(), ZONE),
            Answers(store, view),
            view,
            ZONE,
            0.05,
            lambda: ("ok", ""),
        )
        certificate = PageCertificate(paths, camera=camera)
        app = create_app(
            source,
            time_zone="Europe/Berlin",
            accounts=accounts,
            routers=[
                frames.router(labelling),
                capture.router(store, burst, paths),
                data.router(store, Deleter(store, shelf), ZONE, camera=camera, labels=lambda: view.labels),
                events.router(log, ZONE),
                models.router(shelf, ModelChanger(shelf, answer_s=0.1), ZONE),
                privacy.router(paths.ledger, "the fleet", Forgetter(paths, camera, lambda: None), ZONE),
                metrics.router(Metrics(lambda: status)),
                authority.router(paths),
                *routers,
            ],
            open_with={metrics.PATH: TokenCheck(token)},
            throttle=Throttle(clock),
        )
        server = PageServer(app, "127.0.0.1", 0, certificate=certificate.certificate_file, key=certificate.key_file)
        server.start()
        log.start()
        try:
            yield Whole(app, server, accounts, clock, paths, source, frame, event.id)
        finally:
            server.stop()
            burst.stop()
            log.stop()
            accounts.close()
