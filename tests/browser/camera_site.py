"""A camera with a week behind it: real events, versions, ledger, accounts; only loop and swapper are stand-ins."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

from appliance.by_hand import HandOver
from appliance.errors import SwapError
from appliance.events import EventLog, Vote
from appliance.events_record import Event
from appliance.forget_asking import Forgetter
from appliance.frame import Frame
from appliance.ledger import append
from appliance.models.shelf import Shelf
from appliance.models.trial import State, Trial, clear_trial, write_trial
from appliance.models.verdict import Verdict, write_verdict
from appliance.models_view import ModelChanger
from appliance.night_status import NightStatus
from appliance.paths import CameraPaths
from appliance.privacy import OtherWay
from appliance.status import Neighbour, QueueState, StoreState
from appliance.swap import Swapper
from appliance.system import SystemState, Throttling
from appliance.web.api import events as events_api
from appliance.web.api import models as models_api
from appliance.web.api import privacy as privacy_api
from appliance.web.app import create_app
from appliance.web.roles import Role
from appliance.web.server import PageServer
from tests.fakes.camera_page import PASSWORD, accounts_in, add
from tests.fakes.fleet import TinyFleet
from tests.fakes.page_source import LABELS, FakePageSource, building_site
from tests.fakes.waiting import wait_until

CAMERA = "North gate"
TO = "the fleet Harbour site at site.example:9443"
PEOPLE: dict[str, Role] = {"Ada": "admin", "Lin": "labeller", "Vic": "viewer"}
ZONE = ZoneInfo("Europe/Berlin")


class FakeSwapper:
    """Takes every version through its states at once, as somebody watches who is patient.

    Attributes:
        hold: Cleared, a trial stays in ``probe`` until it is set.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self.hold = threading.Event()
        self.hold.set()

    def swap(self, version: int, *, by_person: bool = False) -> Verdict:
        if self._shelf.current is None:
            raise SwapError("No version runs")
        for state in (State.VERIFY, State.STAGE, State.PROBE):
            write_trial(self._shelf.root, Trial(version, state, by_person=by_person))
        if not self.hold.wait(30):
            raise SwapError("Nobody let the trial go on")
        reason = "Somebody asked for it" if by_person else "108 of 111 own test frames right, 104 before"
        before = self._shelf.current
        if by_person:
            why = f"Somebody went back to version {version}"
            write_verdict(self._shelf.root, Verdict(before, False, why, datetime.now(UTC), state="rollback"))
        self._shelf.activate(version)
        verdict = Verdict(version, True, reason, datetime.now(UTC), state="commit")
        write_verdict(self._shelf.root, verdict)
        clear_trial(self._shelf.root)
        return verdict


class CameraSite:
    """The page of a camera, in a folder, as a browser meets it.

    Args:
        root: An empty folder.
    """

    def __init__(self, root: Path) -> None:
        self.paths = CameraPaths(root / "camera")
        self.paths.root.mkdir(parents=True)
        self.source = FakePageSource(rate_fps=5, size=(640, 480))
        self.accounts = accounts_in(self.paths.root)
        self.shelf = _shelf(self.paths, TinyFleet(root, b"no test of these pages runs a model"))
        _ledger(self.paths.ledger)
        self.hard_examples: list[str] = []
        self.events = EventLog(
            self.paths.events, on_false=lambda event, jpeg: self.hard_examples.append(f"{event.id} {len(jpeg)}")
        )
        self.swapper = FakeSwapper(self.shelf)
        self.hands = HandOver(self.shelf, cast("Swapper", self.swapper), threads=1)
        self.forgetter = Forgetter(self.paths, CAMERA, self._quiet)
        others = (OtherWay("mqtt", "Events go to the MQTT broker 192.0.2.7, with their pictures left out."),)
        self.app = create_app(
            self.source,
            time_zone="Europe/Berlin",
            accounts=self.accounts,
            https=False,
            routers=[
                events_api.router(self.events, ZONE),
                models_api.router(self.shelf, ModelChanger(self.shelf), ZONE),
                privacy_api.router(self.paths.ledger, TO, self.forgetter, ZONE, other=lambda: others),
            ],
        )
        self.server = PageServer(self.app, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return self.server.url.rstrip("/")

    def start(self, *, people: bool = True) -> None:
        """Serve, with three people who may log in with :data:`PASSWORD`."""
        if people:
            for name, role in PEOPLE.items():
                add(self.accounts, name, role)
        self.events.start()
        self.hands.start()
        self.server.start()

    def stop(self) -> None:
        """End everything."""
        self.swapper.hold.set()
        self.server.stop()
        self._quiet()

    def _quiet(self) -> None:
        self.hands.stop()
        self.events.stop()

    def cookie(self, name: str) -> dict[str, str]:
        """The session of somebody who logs in now, for a browser."""
        return {
            "name": self.app.state.door.cookie,
            "value": self.accounts.log_in(name, PASSWORD),
            "url": self.url,
        }

    def a_week(self) -> list[Event]:
        """Events of a week, oldest first; their pictures are on the disk when this returns."""
        now = datetime.now(UTC)
        made = [
            self.seen(now - timedelta(days=6, hours=3), 4),
            self.happened("dark", "The picture of North gate is black. Look at the lens.", timedelta(days=2, hours=5)),
            self.seen(now - timedelta(days=1, hours=2, minutes=40), 95),
            self.happened("slow", "North gate sends 4.9 pictures a second instead of 10.", timedelta(hours=9)),
            self.seen(now - timedelta(minutes=51), 12),
            self.seen(now - timedelta(minutes=3), 31),
        ]
        wait_until(lambda: self.events.unwritten == 0, within_s=20)
        self.events.acknowledge(made[0].id, "Lin")
        self.events.acknowledge(made[2].id, "Ada")
        return [self.events.event(event.id) for event in made]

    def happened(self, kind: str, sentence: str, ago: timedelta) -> Event:
        """Something was wrong with the pictures for a while."""
        began = datetime.now(UTC) - ago
        event = Event(kind, sentence, began, began + timedelta(minutes=18))
        self.events.put(event)
        return event

    def seen(self, began: datetime, lasted_s: float | None) -> Event:
        """Somebody without a hardhat, with a trail and a picture; still there where no duration is given."""
        ended = None if lasted_s is None else began + timedelta(seconds=lasted_s)
        detail = {"decisions": 40.0, "agreed": 33.0, "highest_score": 0.98}
        event = Event("seen", "bare head seen", began, ended, detail)
        self.events.witness(event.id, _votes(began), Frame(building_site((640, 480), 2), began, 7))
        self.events.put(event)
        wait_until(lambda: self.events.event(event.id).snapshot, within_s=20)
        return event


def busy(source: FakePageSource) -> None:
    """Let the camera tell of its machine, its store, its neighbours, its queue and its plan."""
    source.page = dataclasses.replace(
        source.page,
        system=SystemState(temperature_c=61.4, throttling=Throttling((), ())),
        store=StoreState(1_600_000_000, 4_000_000_000, 9_000_000_000, 1_000_000_000, "ok", "Room for 40 more days"),
        neighbours=(Neighbour("mqtt", True, "The broker takes events"),),
        night=NightStatus("done", "2026-11-22", 3, 3, "208 labelled frames took part", datetime.now(UTC)),
        queue=QueueState(waiting=240, asked=12, done_today=0),
        tonight=(
            "It trains tonight, once the server opens the night: 208 labelled frames to learn from, 64 to test with."
        ),
    )


def _votes(began: datetime) -> list[Vote]:
    votes = []
    for number in range(40):
        sure = 0.72 + 0.24 * math.sin(number / 6) ** 2
        label = None if number in (0, 1, 17) else LABELS[0] if number in (2, 30, 38, 39) else LABELS[1]
        confidence = round(sure if label else 0.5, 4)
        votes.append(Vote(began + timedelta(milliseconds=250 * number), label, confidence, 7))
    return votes


def _shelf(paths: CameraPaths, fleet: TinyFleet) -> Shelf:
    """Versions 1 (factory), 5 (before), 6 (kept out) and 7 (runs)."""
    shelf = Shelf(paths.root / "models", fleet.public_key)
    now = datetime.now(UTC)
    metrics = {5: 0.951, 6: 0.934, 7: 0.978}
    for number in (1, 5, 6, 7):
        made = now - timedelta(days=8 - number, hours=6)
        known = {"server_accuracy": metrics[number], "server_frames": 75.0} if number > 1 else {}
        night = made.strftime("%Y-%m-%d") if number > 1 else None
        shelf.accept(*fleet.version(number, metrics=known, night=night, created_utc=made))
    shelf.note_factory(1)
    for number in (1, 5, 7):
        shelf.activate(number)
    worse = "worse on this camera's own test frames of head: 31 of 40 right, 38 before"
    for verdict in (
        Verdict(5, True, "104 of 111 own test frames right, 97 before", now - timedelta(days=3), state="commit"),
        Verdict(6, False, worse, now - timedelta(days=2), state="judge"),
        Verdict(7, True, "109 of 111 own test frames right, 104 before", now - timedelta(days=1), state="commit"),
    ):
        write_verdict(shelf.root, verdict)
    return shelf


def _ledger(path: Path) -> None:
    """Three nights, as the night process writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for ago in (3, 2, 1):
        at = datetime.now(UTC) - timedelta(days=ago)
        night = at.strftime("%Y-%m-%d")

        def line(kind: str, minute: int, night: str = night, at: datetime = at, **more: object) -> None:
            stamp = (at + timedelta(minutes=minute)).isoformat(timespec="seconds")
            append(path, {"at_utc": stamp, "night": night, "kind": kind, **more})

        line("query.status", 0, arrays=[], values={"metrics/hardhat": 96, "metrics/head": 71, "metrics/nobody": 41})
        for minute in (2, 4, 6):
            arrays = [_array("0", [1280, 3], night, minute), _array("1", [3], night, minute)]
            line("train", minute, arrays=arrays, values={"metrics/num-examples": 208, "metrics/loss": 0.0812 / minute})
        line("evaluate", 7, arrays=[], values={"metrics/num-examples": 64, "metrics/right": 62})
        verdict = Verdict(8 - ago, ago != 2, "109 of 111 own test frames right", at, state="commit")
        line("query.deploy", 9, arrays=[], values={"config/verdict": verdict.to_json()})
        line("total", 10, up_bytes=67_532, down_bytes=42_129)


def _array(name: str, shape: list[int], *salt: object) -> dict[str, object]:
    digest = hashlib.sha256(f"{name} {salt}".encode()).hexdigest()
    size = 4 * math.prod(shape)
    return {"name": f"arrays/{name}", "shape": shape, "dtype": "float32", "size_bytes": size, "sha256": digest}
