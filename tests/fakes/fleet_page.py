"""A fleet in a folder for its page: real TLS, real registry and roster, believable nights, and a gatekeeper."""

from __future__ import annotations

import json
import random
import sqlite3
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from appliance.errors import StoreError
from appliance.models.signing import public_pem
from appliance.models.verdict import Verdict
from server import qr
from server.certificates import make_certificates
from server.codes import JoinCode, OpenCode
from server.config import FleetSettings, PageSettings, ServerSettings
from server.database import now
from server.enrolment_tables import JoinRequest
from server.fleet.app import create_app
from server.fleet.password import Password
from server.fleet.serving import PageServer
from server.fleet.sessions import Sessions
from server.fleet.throttle import Throttle
from server.paths import ServerPaths
from server.registry import ModelRecord, Registry, ReplyRecord, RoundRecord
from server.roster import EnrolledCamera, Roster
from tests.fakes.fleet import TinyFleet
from trainer.messages import CameraStatus

PASSWORD = "four random words do"  # noqa: S105  # of a page that lives for a test
LABELS = ("head", "hardhat", "nobody")
DAY = timedelta(days=1)
FINGERPRINT = "9f2c41d07be85a3364c0f1e29d7a5b8813f6a04ce2975b1d80c3e4f7a6b92d15"
WORSE = (
    "Worse on this camera's own test frames of hardhat: 25 of 28 right, 27 before. Chance alone would do that in"
    " 1.2% of cases"
)
FELL = "hardhat recall fell from 96 % to 89 % on its own frames"
GOOD = "It answered every probe and 150 live frames. 109 of 111 own test frames right, 107 before"


def settings_in(root: Path, *, port: int = 4911, time_zone: str = "Europe/Berlin") -> ServerSettings:
    """A server's settings, with certificates and an empty registry in ``root``."""
    paths = ServerPaths(root)
    root.mkdir(parents=True, exist_ok=True)
    if not paths.ca_certificate.exists():
        make_certificates(paths, fleet="Harbour site", host="127.0.0.1")
    return ServerSettings(
        state_dir=root, fleet=FleetSettings("Harbour site"), page=PageSettings(port=port, time_zone=time_zone)
    )


class FakeGatekeeper:
    """What admission does, with a real roster and no SuperLink."""

    def __init__(self, root: Path) -> None:
        self._roster = Roster(ServerPaths(root).registry)
        self.asking: list[JoinRequest] = []
        self.codes: list[OpenCode] = []
        self.said: list[tuple[str, ...]] = []
        self.fault: StoreError | None = None

    def ask(self, name: str, *, address: str = "192.0.2.17") -> JoinRequest:
        """A camera asks to be let in."""
        request = JoinRequest(len(self.asking) + 1, name, FINGERPRINT, address, now())
        self.asking.append(request)
        return request

    def new_code(self, *, approve: bool = False, who: str) -> JoinCode:
        self._may()
        text = ("K7QF-2M9X-4PTR", "W3DA-9HJK-70ZB")[len(self.codes) % 2]
        expires = (datetime.now(UTC) + timedelta(minutes=15)).isoformat(timespec="seconds")
        self.codes.append(OpenCode(text[:4], expires, 1, 5))
        self.said.append((who, "code that approves" if approve else "code"))
        uri = f"sitecam-join://192.0.2.1:9443/{text}#{FINGERPRINT}"
        return JoinCode(text, "192.0.2.1", 9443, FINGERPRINT, expires, uri)

    def open_codes(self) -> Sequence[OpenCode]:
        return self.codes

    def requests(self) -> Sequence[JoinRequest]:
        return [request for request in self.asking if request.decision is None]

    def approve(self, request_id: int, *, who: str) -> EnrolledCamera:
        self._may()
        request = self._decide(request_id, "approved")
        self._roster.enrol(1000 + request_id, request.name, f"key of {request.name}")
        self._roster.note(who, f"{request.name} was let in")
        return self._roster.camera(request.name)

    def refuse(self, request_id: int, reason: str, *, who: str) -> None:
        self._may()
        self._decide(request_id, "refused")
        self.said.append((who, "refuse", reason))

    def revoke(self, name: str, reason: str, *, who: str) -> None:
        self._may()
        self._roster.revoke(name, reason)
        self._roster.note(who, f"{name} was revoked: {reason}")

    def release(self, name: str, *, who: str) -> None:
        self._may()
        self._roster.release(name)
        self._roster.note(who, f"{name} may train again")

    def _may(self) -> None:
        if self.fault is not None:
            raise self.fault

    def _decide(self, request_id: int, decision: str) -> JoinRequest:
        for index, request in enumerate(self.asking):
            if request.id == request_id:
                self.asking[index] = replace(request, decision=decision)
                return request
        raise StoreError(f"There is no request {request_id}", do="Look at the page again")


# Nights


@dataclass
class History:
    """Fills a registry with nights, one a day at 02:05 site time, the last one last night.

    Attributes:
        root: The server's state folder.
        names: Its cameras.
        seed: Other figures.
    """

    root: Path
    names: Sequence[str] = ("gate-1", "gate-2", "crane north", "canteen", "tower-7", "yard")
    seed: int = 1
    registry: Registry = field(init=False)
    roster: Roster = field(init=False)

    def __post_init__(self) -> None:
        path = ServerPaths(self.root).registry
        self.registry, self.roster = Registry(path), Roster(path)
        self._path = path
        self._dice = random.Random(self.seed)  # noqa: S311  # figures for a test
        self._version = 1

    def enrol(self, *, days_ago: int = 40) -> None:
        for number, name in enumerate(self.names):
            self.roster.enrol(number + 1, name, f"ssh key {number}")
        self._sql("UPDATE cameras SET enrolled_utc = ?", self._at(days_ago))
        self.roster.note("command line", f"{self.names[0]} was let in")

    def night(self, days_ago: int, outcome: str | None = "published", *, absent: Sequence[str] = ()) -> int:
        """One night and what came of it."""
        began = self._at(days_ago)
        night = self.registry.begin(began[:10])
        there = [name for name in self.names if name not in absent]
        recent = days_ago <= 3  # nobody looks closely at older ones, and every line of theirs costs a disk write
        for name in there if recent else there[:1]:
            self.registry.put_status(night, name, self._status(name))
        if outcome == "no quorum":
            message = f"1 camera was ready, 2 are needed; missing: {', '.join(absent)}"
            self._end(night, days_ago, outcome, message, {}, 900)
            return night
        good = 1 - 0.55 * 0.82 ** (40 - days_ago)
        last = 3 if outcome is not None else 2
        for number in range(1 if recent else last, last + 1):
            share = min(0.992, good - 0.03 * (3 - number) + self._dice.uniform(-0.012, 0.012))
            record = RoundRecord(number, 41.0 + number, "fedavg", len(there), len(there), 240, round(240 * share), 0.0)
            self.registry.put_round(night, replace(record, loss=round(1.4 * (1 - share) + 0.03, 4), began_utc=began))
            self.registry.put_replies(night, [self._reply(name, number) for name in there])
            self.registry.note(night, f"Round {number} of 3: {record.correct} of 240 right")
        if outcome is None:
            self._sql("UPDATE nights SET began_utc = ? WHERE id = ?", began, night)
            return night
        figures: dict[str, Any] = {
            "server": {"frames": 240, "rounds": 3, "accuracy_before": round(share - 0.011, 4), "accuracy_after": share},
            "gate": self._gate(outcome),
        }
        if outcome == "published":
            self._publish(night, there if recent else there[:1], self.names if recent else there[:1], began, share)
            message = f"Version {self._version} runs on {len(there)} of {len(self.names)} cameras"
        elif outcome == "failed":
            figures, message = {}, "The SuperLink went away in round 3. Nothing was published."
        else:
            message = f"Version {self._version} stays: the new model is {figures['gate']['reason']}"
        self._end(night, days_ago, outcome, message, figures, 310)
        return night

    def month(self) -> None:
        """Forty nights of all kinds; the last one let a version out that gate-2 did not take."""
        self.enrol()
        for days_ago in range(40, 0, -1):
            outcome = {31: "no quorum", 22: "kept", 21: "kept", 12: "failed", 6: "kept", 4: "kept"}.get(days_ago)
            absent = self.names[1:] if outcome == "no quorum" else ("tower-7",) if days_ago == 1 else ()
            self.night(days_ago, outcome or "published", absent=absent)
        last = self.registry.nights(limit=1)[0].id
        night = RoundRecord(2, 43.0, "fedavg", 5, 4, 240, 231, 0.11)
        self.registry.put_round(last, night)
        late = ReplyRecord(2, "train", "canteen", used=False, reason="it did not answer within 900 s")
        bad = ReplyRecord(
            *(3, "train", "yard"), used=False, bad=True, reason="its update is 41 times as large as the round's median"
        )
        self.registry.put_replies(last, [late, bad])
        refused = Verdict(self._version, False, WORSE, datetime.now(UTC), state="judge")
        self.registry.put_verdict(last, "gate-2", self._version, refused)
        accepted = len(self.names) - 2
        message = f"Version {self._version} runs on {accepted} of {len(self.names)} cameras"
        self._sql("UPDATE nights SET message = ? WHERE id = ?", message, last)
        self.run(self._version)
        self.roster.hold("yard", "it sent updates that could not be used in 3 nights in a row")
        self.roster.note("night", "yard is on hold: it sent updates that could not be used in 3 nights in a row")

    def run(self, version: int) -> None:
        """Let the server's shelf run that version."""
        paths = ServerPaths(self.root)
        fleet = TinyFleet(paths.keys, b"a backbone")
        paths.signing_public.write_bytes(public_pem(fleet.public_key))
        fleet.shelf(paths.models, version)

    # How it is made

    def _publish(self, night: int, there: Sequence[str], asked: Sequence[str], began: str, share: float) -> None:
        parent, self._version = self._version, self._version + 1
        metrics = {"server_accuracy": round(share, 4), "server_frames": 240}
        reason = self._gate("published")["reason"]
        self.registry.put_model(ModelRecord(self._version, night, parent, "published", str(reason), metrics, began))
        for name in asked:
            taken = Verdict(self._version, True, GOOD, datetime.fromisoformat(began), state="commit")
            self.registry.put_verdict(night, name, self._version, taken if name in there else None)

    def _status(self, name: str) -> CameraStatus:
        place = list(self.names).index(name)
        few = 10 if name == "crane north" else 1
        train = {label: (30 + (place * 37 + spot * 19) % 140) // few for spot, label in enumerate(LABELS)}
        test = {label: count // 4 for label, count in train.items()}
        health = "the lens is covered or it is dark" if name == "canteen" else ""
        objection = "22 labelled frames, 40 are needed" if name == "crane north" else ""
        return CameraStatus(name, self._version, train, test, (), objection, health)

    def _reply(self, name: str, number: int) -> ReplyRecord:
        loss = round(0.5 / number + self._dice.uniform(0, 0.1), 4)
        return ReplyRecord(number, "train", name, used=True, examples=150, loss=loss, norm=0.4)

    @staticmethod
    def _gate(outcome: str) -> dict[str, object]:
        labels = [
            {"label": "head", "frames": 80, "before": 74, "after": 77, "low": 0.894, "high": 0.992},
            {"label": "hardhat", "frames": 80, "before": 76, "after": 78, "low": 0.913, "high": 0.997},
            {"label": "nobody", "frames": 80, "before": 80, "after": 80, "low": 0.955, "high": 1.0},
        ]
        if outcome == "published":
            reason = "235 of 240 of the server's frames right, 230 before: better, and not by chance"
            return {"passed": True, "outcome": "better", "reason": reason, "labels": labels}
        reason = "worse on the server's test frames of head: 61 of 80 right, 74 before"
        return {"passed": False, "outcome": "worse", "reason": reason, "labels": labels}

    def _end(
        self, night: int, days_ago: int, outcome: str, message: str, figures: dict[str, object], lasted_s: int
    ) -> None:
        self.registry.end(night, outcome, message, figures)
        began, ended = self._at(days_ago), self._at(days_ago, lasted_s)
        self._sql("UPDATE nights SET began_utc = ?, ended_utc = ? WHERE id = ?", began, ended, night)
        self._sql("UPDATE statuses SET at_utc = ? WHERE night = ?", began, night)
        self._sql("UPDATE events SET at_utc = ? WHERE night = ?", ended, night)

    @staticmethod
    def _at(days_ago: int, later_s: int = 0) -> str:
        """At 01:05 UTC, so many mornings ago; today's morning is 1, yesterday's where that is still to come."""
        moment = datetime.now(UTC)
        morning = moment.replace(hour=1, minute=5, second=0, microsecond=0)
        if morning + timedelta(hours=1) > moment:
            morning -= DAY
        return (morning - (days_ago - 1) * DAY + timedelta(seconds=later_s)).isoformat(timespec="seconds")

    def _sql(self, statement: str, *values: object) -> None:
        with sqlite3.connect(self._path) as database:
            database.execute(statement, values)
        database.close()


def thousand(root: Path, *, cameras: int = 1000) -> History:
    """A fleet that size, written in bulk: one night, one version."""
    history = History(root, tuple(f"cam-{number:04}" for number in range(cameras)))
    began = History._at(1)
    registry = history.registry
    night = registry.begin(began[:10])
    rows = [(str(n + 1), name, f"key {n}", History._at(5)) for n, name in enumerate(history.names)]
    verdicts = [
        Verdict(2, n % 100 != 7, GOOD if n % 100 != 7 else WORSE, datetime.fromisoformat(began), state="commit")
        for n in range(cameras)
    ]
    with sqlite3.connect(ServerPaths(root).registry) as database:
        database.executemany("INSERT INTO cameras (node_id, name, public_key, enrolled_utc) VALUES (?, ?, ?, ?)", rows)
        counts = json.dumps({"head": 40, "hardhat": 61, "nobody": 80})
        statuses = [(night, name, began, 1, counts, counts, "", "") for name in history.names]
        database.executemany("INSERT INTO statuses VALUES (?, ?, ?, ?, ?, ?, ?, ?)", statuses)
        given = [(night, name, 2, began, v.to_json()) for name, v in zip(history.names, verdicts, strict=True)]
        database.executemany("INSERT INTO verdicts VALUES (?, ?, ?, ?, ?)", given)
    database.close()
    registry.put_round(night, RoundRecord(1, 60.0, "fedavg", cameras, cameras, 240, 230, 0.12, began_utc=began))
    registry.put_replies(night, [ReplyRecord(1, "train", name, used=True, examples=181) for name in history.names])
    registry.put_model(ModelRecord(2, night, 1, "published", "better, and not by chance", {}, began))
    history._end(night, 1, "published", f"Version 2 runs on {cameras - cameras // 100} of {cameras} cameras", {}, 200)
    return history


# Serving


class FleetPage:
    """The page over HTTPS, in a thread."""

    def __init__(self, app: Starlette, settings: ServerSettings) -> None:
        self.settings = settings
        self.app = app
        self._server: PageServer | None = None
        self._thread: threading.Thread | None = None
        self.port = settings.page.port

    @property
    def url(self) -> str:
        """Its address, without a slash at its end."""
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        server = PageServer(self.app, self.settings, self.port)
        self._server = server
        self._thread = threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        ends = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < ends, "the page did not come up"
            assert self._thread.is_alive(), "the page's server ended"
            time.sleep(0.02)
        self.port = int(server.servers[0].sockets[0].getsockname()[1])

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(20)
            assert not self._thread.is_alive(), "the page's server did not end"
        self._server = None

    def client(self) -> httpx.Client:
        """A program that trusts the fleet's authority and says that it comes from the page."""
        context = ssl.create_default_context(cafile=str(ServerPaths(self.settings.state_dir).ca_certificate))
        headers = {"Origin": self.url}
        return httpx.Client(base_url=self.url, verify=context, headers=headers, trust_env=False, timeout=30)

    @contextmanager
    def logged_in(self) -> Iterator[httpx.Client]:
        """The same, logged in."""
        with self.client() as client:
            assert client.post("/api/login", json={"password": PASSWORD}).status_code == 200
            yield client


@contextmanager
def served(
    root: Path,
    gatekeeper: FakeGatekeeper | None = None,
    *,
    password: str = PASSWORD,
    port: int = 0,
    sessions: Sessions | None = None,
    throttle: Throttle | None = None,
    join_routes: Sequence[BaseRoute] = (),
) -> Iterator[FleetPage]:
    """The page of the fleet in ``root``."""
    settings = settings_in(root, port=port)
    if password:
        Password(ServerPaths(root).keys).put(password)
    app = create_app(
        settings,
        gatekeeper or FakeGatekeeper(root),
        join_routes=join_routes,
        draw=qr.svg,
        sessions=sessions,
        throttle=throttle,
    )
    page = FleetPage(app, settings)
    page.start()
    try:
        yield page
    finally:
        page.stop()
