"""Cameras that fail as real ones do: what is said, and how it ends. Each row is one fault."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from appliance.camera.health import HealthLimits
from appliance.camera.picamera import PiCamera
from appliance.camera.source import CameraSource
from appliance.capture import Capture, Patience
from appliance.errors import CameraError
from appliance.events import Event, EventLog
from appliance.frame import Frame
from appliance.ladder import Ladder
from appliance.paths import CameraPaths
from tests.fakes.fault_camera import Call, FaultCamera
from tests.fakes.picamera2_fake import FakeSensor
from tests.fakes.picamera2_fixture import sensor as sensor  # a fixture is imported by its name

BOUND_S = 30.0  # for each step of a row; the times below add up to a few seconds, a busy machine to more
TIMEOUT_S = 0.2
RATE_FPS = 20.0
LIMITS = HealthLimits(dark_s=0.4, light_s=0.2, frozen_s=0.4, moving_s=0.2, span_s=0.4, settle_s=0.2)

End = Literal["pictures", "fresh process"]

# Where a fresh process is the end, it is to come soon; where pictures are, a busy machine must not look like a fault.
RESTART_AFTER_S: dict[End, float] = {"pictures": 300.0, "fresh process": 1.0}
PATIENCE: dict[End, Patience] = {
    "pictures": Patience(capture_s=0.3, release_s=60.0, open_s=60.0, close_s=60.0),
    "fresh process": Patience(capture_s=0.3, release_s=0.3, open_s=0.3, close_s=0.5),
}


def wait_until(true: Callable[[], Any], what: str) -> None:
    ends = time.monotonic() + BOUND_S
    while not true():
        assert time.monotonic() < ends, f"within {BOUND_S:g} s: {what}"
        time.sleep(0.01)


class Site:
    """A capture with its ladder and its events on a disk, as in the camera's process."""

    def __init__(self, source: CameraSource, root: Path, end: End) -> None:
        self.end = end
        self.paths = CameraPaths(root)
        self.log = EventLog(self.paths.events)
        self.frames = 0
        ladder = Ladder(
            self.paths.camera_restarts,
            self.paths.reboot_request,
            restart_after_s=RESTART_AFTER_S[end],
            reboot_after_restarts=1,
        )
        self.capture = Capture(
            source,
            self._count,
            timeout_s=TIMEOUT_S,
            rate_fps=RATE_FPS,
            ladder=ladder,
            health=LIMITS,
            on_event=self.log.put,
            patience=PATIENCE[end],
        )

    def _count(self, _: Frame) -> None:
        self.frames += 1

    @property
    def said(self) -> str:
        """What the page says of the camera."""
        return " ".join([self.capture.fault or "", *(each.sentence for each in self.capture.conditions)])

    def events(self, kind: str) -> list[Event]:
        return [event for event in self.log.recent(100) if event.kind == kind]

    def wait_for_pictures(self) -> None:
        seen = self.frames
        wait_until(lambda: self.frames > seen + 2, "pictures come")

    def wait_for_restart(self) -> None:
        wait_until(lambda: self.capture.must_restart, "it asks for a fresh process")

    def wait_for_end(self) -> None:
        if self.end == "fresh process":
            self.wait_for_restart()
            assert "starts afresh" in str(self.capture.must_restart)
            assert json.loads(self.paths.camera_restarts.read_text())["restarts"] == 1
            assert not self.paths.reboot_request.exists()
        else:
            self.wait_until_healed()
            wait_until(lambda: not self.said, "the page has nothing to complain of")
            assert self.capture.must_restart is None

    def wait_until_healed(self) -> None:
        self.wait_for_pictures()
        wait_until(lambda: self.capture.fault is None, "the fault is forgotten")


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(("capture", "picamera-close"))}


MakeSite = Callable[[CameraSource, End], Site]


@pytest.fixture
def site_of(tmp_path: Path) -> Iterator[MakeSite]:
    """Starts a site; when its driver answers at last, no thread of it is left and no event is open."""
    before = threads()
    made: list[Site] = []

    def start(source: CameraSource, end: End) -> Site:
        made.append(Site(source, tmp_path, end))
        made[-1].capture.start()
        return made[-1]

    yield start
    for site in made:
        site.capture.stop(deadline_s=0.3)
        source: Any = site.capture._source
        if isinstance(source, FaultCamera):
            source.deaf = False
            source.released.set()
            wait_until(lambda: threads() <= before, "no thread is left")
        assert all(event.ended_utc is not None for event in site.log.recent(100))


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        name: For people.
        breaks: What happens to the camera.
        says: Part of what the page says.
        kind: Of the event that is made of it.
        heals: What happens to the camera then; None: nothing.
        end: How it ends.
    """

    name: str
    breaks: Callable[[FaultCamera], None]
    says: str
    kind: str
    heals: Callable[[FaultCamera], None] | None
    end: End


def _set(**attributes: object) -> Callable[[FaultCamera], None]:
    def work(camera: FaultCamera) -> None:
        for name, value in attributes.items():
            setattr(camera, name, value)

    return work


def _hang(*calls: Call, deaf: bool = False, fails: bool = False) -> Callable[[FaultCamera], None]:
    """``fails``: a capture fails first, so that the camera is closed and opened."""
    return _set(hangs=set(calls), deaf=deaf, unforeseen=CameraError("the sensor stalled") if fails else None)


HEALTHY = _set(view="noise", rate_fps=RATE_FPS, missing=False, hangs=set(), deaf=False, unforeseen=None)
DARK, STILL, SLOW = "The picture of fault camera is black", "stands still", "pictures a second instead of 20"
CAPTURE, OPENING, CLOSING = (f"has not come back from {doing}" for doing in ("a capture", "opening", "closing"))

ROWS = (
    Row("a covered lens", _set(view="black"), DARK, "dark", HEALTHY, "pictures"),
    Row("a frozen picture", _set(view="frozen"), STILL, "frozen", HEALTHY, "pictures"),
    Row("a ring of old pictures", _set(view="ring"), STILL, "frozen", HEALTHY, "pictures"),
    Row("a halved rate", _set(rate_fps=10.0), SLOW, "slow", HEALTHY, "pictures"),
    Row("unplugged, and plugged in again", _set(missing=True), "can't be opened", "no picture", HEALTHY, "pictures"),
    Row("unplugged for good", _set(missing=True), "can't be opened", "no picture", None, "fresh process"),
    Row("no frame for a while", _set(rate_fps=0.01), "sent no picture", "no picture", HEALTHY, "pictures"),
    Row("a driver's own error", _set(unforeseen=OSError(5, "I/O")), "I/O", "no picture", HEALTHY, "pictures"),
    Row("a driver's own error for good", _set(unforeseen=OSError()), "OSError", "no picture", None, "fresh process"),
    Row("a capture that a close wakes", _hang("capture"), CAPTURE, "no picture", HEALTHY, "pictures"),
    Row("a capture that never returns", _hang("capture", deaf=True), CAPTURE, "no picture", None, "fresh process"),
    Row("an opening that never returns", _hang("open", fails=True), OPENING, "no picture", None, "fresh process"),
    Row("a close that never returns", _hang("close", fails=True), CLOSING, "no picture", None, "fresh process"),
    Row("nothing ever returns", _hang("open", "capture", "close"), CAPTURE, "no picture", None, "fresh process"),
)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_fault_is_said_and_ends_as_it_should(row: Row, site_of: MakeSite) -> None:
    camera = FaultCamera(rate_fps=RATE_FPS)
    site = site_of(camera, row.end)
    site.wait_for_pictures()
    row.breaks(camera)
    wait_until(lambda: row.says in site.said, f"the page says {row.says!r}")
    wait_until(lambda: site.events(row.kind), f"{row.kind} is an event")
    if row.kind != "no picture":
        site.wait_for_pictures()  # the worth of a picture never stops the pictures
    if row.heals:
        row.heals(camera)
    site.wait_for_end()
    if row.heals:
        wait_until(lambda: all(event.ended_utc for event in site.events(row.kind)), "the event has ended")


def test_the_second_process_in_a_row_without_a_picture_asks_for_a_reboot(site_of: MakeSite) -> None:
    for restarts in (1, 2):
        camera = FaultCamera()
        camera.missing = True
        site = site_of(camera, "fresh process")
        site.wait_for_restart()
        assert json.loads(site.paths.camera_restarts.read_text())["restarts"] == restarts
        site.capture.stop()
    request = json.loads(site.paths.reboot_request.read_text())
    assert request["restarts"] == 1
    assert "no picture" in request["reason"]


@pytest.fixture
def pi_camera(sensor: FakeSensor) -> PiCamera:
    """PiCamera on a picamera2 that a test can break."""
    sensor.rate_fps = RATE_FPS
    return PiCamera(size=(64, 48), rate_fps=RATE_FPS, close_deadline_s=0.2)


def test_a_stalled_sensor_is_said_and_goes_on_when_it_does(
    sensor: FakeSensor, pi_camera: PiCamera, site_of: MakeSite
) -> None:
    site = site_of(pi_camera, "pictures")
    site.wait_for_pictures()
    sensor.stalled.set()
    wait_until(lambda: "sent no picture within 0.2 s" in site.said, "the page says that it stalled")
    sensor.stalled.clear()
    site.wait_until_healed()
    assert site.capture.must_restart is None
    site.capture.stop()
    wait_until(lambda: sensor.open_cameras == sensor.unreleased == 0, "the driver is let go")


def test_a_sensor_that_stays_stalled_needs_a_fresh_process(
    sensor: FakeSensor, pi_camera: PiCamera, site_of: MakeSite
) -> None:
    site = site_of(pi_camera, "fresh process")
    site.wait_for_pictures()
    sensor.stalled.set()
    site.wait_for_end()
    assert site.capture.fault


def test_a_pi_without_a_camera_says_what_to_check_and_finds_it_when_it_is_plugged_in(
    sensor: FakeSensor, pi_camera: PiCamera, site_of: MakeSite
) -> None:
    sensor.missing = True
    site = site_of(pi_camera, "pictures")
    wait_until(lambda: "rpicam-hello --list-cameras" in site.said, "the page says what to check")
    sensor.missing = False
    site.wait_until_healed()


def test_a_driver_that_goes_away_is_opened_again(sensor: FakeSensor, pi_camera: PiCamera, site_of: MakeSite) -> None:
    site = site_of(pi_camera, "pictures")
    site.wait_for_pictures()
    sensor.vanished.set()
    wait_until(lambda: "gone away" in site.said, "the page says so")
    sensor.vanished.clear()
    site.wait_for_pictures()
    assert len(sensor.configurations) >= 2


def test_a_driver_whose_close_never_returns_is_not_asked_again_and_needs_a_fresh_process(
    sensor: FakeSensor, pi_camera: PiCamera, site_of: MakeSite
) -> None:
    site = site_of(pi_camera, "fresh process")
    site.wait_for_pictures()
    sensor.hang_on_close = threading.Event()
    sensor.stalled.set()
    wait_until(lambda: "has not let go since it was closed" in site.said, "the page says what holds it")
    site.wait_for_end()
    assert len(sensor.configurations) == 1
    assert sensor.open_cameras == 1


def test_a_driver_that_lets_go_late_is_opened_again(sensor: FakeSensor, pi_camera: PiCamera, site_of: MakeSite) -> None:
    site = site_of(pi_camera, "pictures")
    site.wait_for_pictures()
    sensor.hang_on_close = threading.Event()
    sensor.stalled.set()
    wait_until(lambda: "has not let go since it was closed" in site.said, "the page says what holds it")
    sensor.stalled.clear()
    sensor.hang_on_close.set()
    site.wait_until_healed()


def test_two_identical_pictures_of_a_sensor_are_said_to_stand_still(
    sensor: FakeSensor, pi_camera: PiCamera, site_of: MakeSite
) -> None:
    site = site_of(pi_camera, "pictures")  # this sensor's pictures have no noise
    wait_until(lambda: "stands still" in site.said, "the page says so")
    reds = itertools.cycle(range(256))

    def moves_and_is_well() -> bool:
        sensor.colour = (next(reds), 60, 30)
        return not site.said

    wait_until(moves_and_is_well, "the page has nothing to complain of")
