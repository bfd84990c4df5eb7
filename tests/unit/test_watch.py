from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.alarm import Alarm
from appliance.canary import Canary
from appliance.capture import Capture
from appliance.config import AlarmSettings
from appliance.events import EventLog
from appliance.frame import Frame
from appliance.ladder import Ladder
from appliance.live import LiveLoop, RunningModel
from appliance.models.shelf import Shelf
from appliance.models.verdict import Verdict, write_verdict
from appliance.night_status import NightStatus, write_night_status
from appliance.paths import CameraPaths
from appliance.starter import Starter
from appliance.status import Neighbour, QueueState, StoreState
from appliance.surroundings import Surroundings
from appliance.swap import Swapper, SwapRules
from appliance.system import SystemState, Throttling
from appliance.watch import Watch
from appliance.web.snapshot import snapshot
from tests.fakes.fleet import TinyFleet
from tests.fakes.live_parts import ClickCamera
from tests.fakes.page_source import building_site, decision

AROUND = Surroundings(
    system=SystemState(temperature_c=61.25, throttling=Throttling(("under-voltage",), ())),
    store=StoreState(size_bytes=77, state="full", sentence="It is full."),
    queue=QueueState(waiting=31, asked=12, done_today=4),
    neighbours=(Neighbour("mqtt", True, "The MQTT broker: it takes what it is sent."),),
    tonight="It trains tonight.",
    recorder="Up to 30 frames an hour.",
)


class Bench:
    """A watch over a camera whose parts are real and not started."""

    def __init__(self, root: Path, backbone: bytes) -> None:
        self.paths = CameraPaths(root / "state")
        self.shelf: Shelf = TinyFleet(root, backbone).shelf(self.paths.models, 6, 7)
        self.watch = Watch("North gate", "Harbour site", self.paths, self.shelf)

    def follow(self) -> None:
        def never(*_: object) -> RunningModel:
            raise AssertionError("nothing is started here")

        paths, shelf = self.paths, self.shelf
        loop = LiveLoop(never, decide=lambda _: decision())
        capture = Capture(
            ClickCamera(),
            loop.take,
            timeout_s=5,
            rate_fps=10,
            ladder=Ladder(paths.camera_restarts, paths.reboot_request, restart_after_s=60, reboot_after_restarts=0),
            on_event=lambda _: None,
        )
        canary = Canary(paths.store, shelf, never, margin=0.05)  # type: ignore[arg-type]  # never called
        swapper = Swapper(shelf, loop, never, canary, threads=1, rules=SwapRules(1))  # type: ignore[arg-type]
        starter = Starter(shelf, never, threads=1)  # type: ignore[arg-type]
        events = EventLog(paths.events)
        self.watch.follow(loop, capture, swapper, starter, Alarm(AlarmSettings(), events.put), events, lambda: AROUND)


@pytest.fixture
def bench(tmp_path: Path, tiny_backbone: bytes) -> Bench:
    return Bench(tmp_path, tiny_backbone)


def old(path: Path) -> None:
    """A minute since its last change."""
    found = path.stat()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - 60 * 10**9))


def test_the_state_is_read_from_disk_once_and_not_for_every_viewer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_verdict(bench.shelf.root, Verdict(7, True, "Fine", datetime.now(UTC)))
    write_night_status(bench.paths.night_status, NightStatus("done", "n"))
    for path in (bench.shelf.root / "verdicts", bench.paths.night_status):
        old(path)
    opened: list[str] = []
    real = Path.open
    real_glob = Path.glob

    def counted(path: Path, *arguments: object, **options: object) -> object:
        opened.append(path.name)
        return real(path, *arguments, **options)  # type: ignore[call-overload]  # whatever it was given

    def counted_glob(path: Path, *arguments: object, **options: object) -> object:
        opened.append(f"{path.name}/*")
        return real_glob(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "open", counted)
    monkeypatch.setattr(Path, "glob", counted_glob)
    first = bench.watch.status()
    assert first.last_verdict is not None
    assert first.night.phase == "done"
    assert opened
    opened.clear()
    for _ in range(200):  # fifty viewers for a second
        assert bench.watch.status() == first
    assert opened == []


def test_a_new_verdict_and_the_nights_next_step_are_seen_at_once(bench: Bench) -> None:
    write_verdict(bench.shelf.root, Verdict(6, True, "Fine", datetime.now(UTC)))
    write_night_status(bench.paths.night_status, NightStatus("waiting", "n"))
    for path in (bench.shelf.root / "verdicts", bench.paths.night_status):
        old(path)
    assert bench.watch.status().night.phase == "waiting"
    write_verdict(bench.shelf.root, Verdict(7, False, "Worse", datetime.now(UTC)))
    write_night_status(bench.paths.night_status, NightStatus("training", "n"))
    status = bench.watch.status()
    assert status.last_verdict is not None
    assert (status.last_verdict.version, status.last_verdict.accepted) == (7, False)
    assert status.night.phase == "training"


def test_a_damaged_verdict_is_a_fault_until_it_is_replaced(bench: Bench) -> None:
    (bench.shelf.root / "verdicts" / "7.json").write_text("{")
    old(bench.shelf.root / "verdicts")
    for _ in range(2):
        assert "can't be read" in (bench.watch.status().model_fault or "")
    write_verdict(bench.shelf.root, Verdict(7, True, "Fine", datetime.now(UTC)))
    assert bench.watch.status().model_fault is None


def test_a_camera_whose_parts_are_not_there_yet_shows_what_it_knows(bench: Bench) -> None:
    status = bench.watch.status()
    assert (status.camera, status.fleet, status.system, status.store) == ("North gate", "Harbour site", None, None)
    assert snapshot(bench.watch, UTC)["system"] is None


def test_what_is_around_the_loop_is_on_the_page(bench: Bench) -> None:
    bench.follow()
    bench.watch(Frame(building_site((64, 48)), datetime.now(UTC), 1), decision())
    state = json.loads(json.dumps(snapshot(bench.watch, UTC), allow_nan=False))
    assert state["tonight"] == "It trains tonight."
    assert state["recorder"] == "Up to 30 frames an hour."
    assert state["queue"] == {"waiting": 31, "asked": 12, "done_today": 4}
    assert (state["store"]["state"], state["store"]["sentence"]) == ("full", "It is full.")
    assert state["neighbours"][0]["name"] == "mqtt"
    assert state["system"]["temperature_c"] == 61.25
    assert state["system"]["lines"]["power"] == "under-voltage"
    assert "too weak right now" in state["system"]["warnings"][0]
