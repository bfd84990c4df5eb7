from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from appliance.camera.health import HealthLimits
from appliance.capture import Capture, Patience
from appliance.errors import CameraError
from appliance.events import Event
from appliance.frame import Frame
from tests.fakes.fault_camera import FaultCamera

PATIENCE = Patience(capture_s=0.3, open_s=0.3, close_s=0.5, release_s=0.5)
TIMEOUT_S = 0.5


def wait_until(true: Callable[[], Any], what: str) -> None:
    ends = time.monotonic() + 20
    while not true():
        assert time.monotonic() < ends, f"within 20 s: {what}"
        time.sleep(0.01)


class Watched:
    """A capture, what it delivered and what it said."""

    def __init__(self, camera: FaultCamera) -> None:
        self.camera = camera
        self.frames: list[Frame] = []
        self.events: list[Event] = []
        self.deliver: Callable[[Frame], None] = self.frames.append
        self.note: Callable[[Event], None] = self.events.append
        self.capture = Capture(
            camera,
            lambda frame: self.deliver(frame),
            timeout_s=TIMEOUT_S,
            rate_fps=camera.rate_fps,
            health=HealthLimits(dark_s=0.4, settle_s=0.2),
            on_event=lambda event: self.note(event),
            patience=PATIENCE,
        )

    def wait_for_pictures(self) -> None:
        seen = len(self.frames)
        wait_until(lambda: len(self.frames) > seen + 2, "pictures come")

    def wait_until_healed(self) -> None:
        self.wait_for_pictures()
        wait_until(lambda: self.capture.fault is None, "the fault is forgotten")

    def wait_for_fault(self, part: str) -> str:
        wait_until(lambda: part in (self.capture.fault or ""), f"the fault says {part!r}")
        return str(self.capture.fault)


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("capture")}


@pytest.fixture
def watched() -> Iterator[Watched]:
    """A capture that runs; no thread of it is left at the end."""
    before = threads()
    result = Watched(FaultCamera())
    result.capture.start()
    yield result
    result.camera.released.set()
    result.capture.stop(deadline_s=20)
    wait_until(lambda: threads() <= before, "its threads have ended")


def test_every_frame_is_handed_on_in_order(watched: Watched) -> None:
    wait_until(lambda: len(watched.frames) > 50, "pictures come")
    sequences = [frame.sequence for frame in watched.frames]
    assert sequences == sorted(set(sequences))
    assert watched.capture.must_restart is None


def test_a_failure_is_said_at_once_and_forgotten_with_the_first_picture(watched: Watched) -> None:
    watched.wait_for_pictures()
    watched.camera.missing = True
    fault = watched.wait_for_fault("can't be opened")
    assert "Check the ribbon cable" in fault
    faults = []
    watched.deliver = lambda frame: (faults.append(watched.capture.fault), watched.frames.append(frame))[0]  # type: ignore[func-returns-value]
    watched.camera.missing = False
    watched.wait_for_pictures()
    assert faults[0] is None
    assert watched.camera.opened >= 2


def test_a_camera_that_is_absent_at_the_start_is_waited_for() -> None:
    camera = FaultCamera()
    camera.missing = True
    watched = Watched(camera)
    watched.capture.start()
    watched.wait_for_fault("can't be opened")
    camera.missing = False
    watched.wait_for_pictures()
    watched.capture.stop()


def test_an_absent_camera_is_asked_for_ever_more_rarely(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked_at: list[float] = []
    real = watched.camera.open

    def open_it() -> None:
        asked_at.append(time.monotonic())
        real()

    monkeypatch.setattr(watched.camera, "open", open_it)
    watched.wait_for_pictures()
    with caplog.at_level(logging.WARNING, logger="appliance.capture"):
        watched.camera.missing = True
        wait_until(lambda: len(asked_at) == 3, "it is opened again")
    waits = [later - earlier for earlier, later in itertools.pairwise(asked_at)]
    assert waits[0] >= 1  # half a second before the first
    assert waits[1] >= 2
    # The same fault again is not worth another line.
    assert [record.getMessage() for record in caplog.records if "can't be opened" in record.getMessage()] == [
        watched.capture.fault
    ]


def test_a_capture_that_never_returns_is_closed_from_outside_and_opened_again(watched: Watched) -> None:
    watched.wait_for_pictures()
    watched.camera.hangs.add("capture")
    fault = watched.wait_for_fault("has not come back from a capture")
    assert "Its driver is stuck" in fault
    watched.camera.hangs.clear()
    watched.wait_until_healed()
    assert watched.capture.must_restart is None
    assert watched.camera.opened >= 2


def test_why_it_was_closed_stays_said_until_pictures_come(watched: Watched) -> None:
    watched.wait_for_pictures()
    watched.camera.hangs.add("capture")
    watched.wait_for_fault("has not come back")
    watched.camera.missing = True
    watched.camera.hangs.clear()
    said: set[str] = set()

    def moved_on() -> bool:
        said.add(fault := str(watched.capture.fault))
        return "can't be opened" in fault

    wait_until(moved_on, "the next fault is said")
    assert all("has not come back" in fault or "can't be opened" in fault for fault in said)


@pytest.mark.parametrize("call", ["open", "capture", "close"])
def test_a_driver_that_is_stuck_for_good_needs_a_fresh_process(watched: Watched, call: Any) -> None:
    watched.wait_for_pictures()
    watched.camera.deaf = call == "capture"
    watched.camera.hangs.add(call)
    if call != "capture":
        watched.camera.unforeseen = CameraError("it stalled")  # so that it is closed and opened
    wait_until(lambda: watched.capture.must_restart, "it asks for a fresh process")
    assert "starts afresh" in str(watched.capture.must_restart)
    assert "has not come back from" in str(watched.capture.fault)


def test_pictures_of_a_thread_that_was_given_up_are_not_handed_on(watched: Watched) -> None:
    watched.wait_for_pictures()
    watched.camera.deaf = True
    watched.camera.hangs.add("capture")
    wait_until(lambda: watched.capture.must_restart, "it asks for a fresh process")
    handed_on = len(watched.frames)
    watched.camera.deaf = False
    watched.camera.released.set()  # hours later, the driver answers
    wait_until(lambda: not any(thread.name == "capture" for thread in threads()), "the thread ends")
    assert len(watched.frames) == handed_on
    assert watched.capture.fault is not None


def test_what_nobody_foresaw_is_a_fault_with_its_trace_in_the_log_and_not_the_end(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.wait_for_pictures()
    with caplog.at_level(logging.WARNING):
        watched.camera.unforeseen = ZeroDivisionError("in the driver")
        assert "report what the log says" in watched.wait_for_fault("ZeroDivisionError")
    assert "Traceback" in caplog.text
    watched.camera.unforeseen = None
    watched.wait_until_healed()


def test_a_listener_that_fails_costs_a_reopening_not_the_capture(watched: Watched) -> None:
    watched.wait_for_pictures()
    good = watched.deliver

    def bad(_: Frame) -> None:
        watched.deliver = good
        raise ValueError("nobody wants it")

    watched.deliver = bad
    watched.wait_for_fault("nobody wants it")
    watched.wait_for_pictures()


def test_an_outage_is_one_event_with_both_ends(watched: Watched) -> None:
    watched.wait_for_pictures()
    watched.camera.missing = True
    wait_until(lambda: watched.events, "the event begins")
    watched.camera.missing = False
    wait_until(lambda: len(watched.events) > 1, "the event ends")
    begun, ended = watched.events
    assert (begun.kind, begun.ended_utc) == ("no picture", None)
    assert "has gone away" in begun.sentence
    assert ended.began_utc == begun.began_utc
    assert ended.ended_utc is not None
    assert ended.ended_utc > begun.began_utc


def test_an_event_that_cannot_be_passed_on_is_logged_and_the_next_one_is(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.wait_for_pictures()
    good = watched.note

    def bad(_: Event) -> None:
        watched.note = good
        raise OSError("disk full")

    watched.note = bad
    with caplog.at_level(logging.ERROR):
        watched.camera.missing = True
        wait_until(lambda: "could not be passed on" in caplog.text, "it is logged")
    watched.camera.missing = False
    wait_until(lambda: watched.events, "the end of the outage is passed on")


def test_a_picture_that_stays_black_is_a_condition_not_a_fault(watched: Watched) -> None:
    watched.camera.view = "black"
    wait_until(lambda: watched.capture.conditions, "it is said")
    assert [condition.kind for condition in watched.capture.conditions] == ["dark"]
    watched.wait_until_healed()


def test_stopping_ends_every_thread_and_every_event() -> None:
    before = threads()
    watched = Watched(FaultCamera())
    watched.capture.start()
    watched.wait_for_pictures()
    watched.camera.missing = True
    wait_until(lambda: watched.events, "the event begins")
    watched.capture.stop(deadline_s=20)
    assert threads() <= before
    assert watched.events[-1].ended_utc is not None
    handed_on = len(watched.frames)
    watched.camera.missing = False
    time.sleep(0.05)
    assert len(watched.frames) == handed_on


def test_stopping_wakes_a_capture_that_waits() -> None:
    before = threads()
    watched = Watched(FaultCamera(rate_fps=0.01))
    watched.capture.start()
    wait_until(lambda: watched.frames, "the first picture comes")
    watched.capture.stop(deadline_s=20)
    assert threads() <= before


def test_stopping_before_starting_does_nothing() -> None:
    Watched(FaultCamera()).capture.stop()


@pytest.mark.parametrize("call", ["capture", "close"])
def test_stopping_a_stuck_driver_returns_in_time_and_names_what_is_left_behind(
    call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    before = threads()
    watched = Watched(FaultCamera())
    watched.capture.start()
    watched.wait_for_pictures()
    watched.camera.deaf = True
    watched.camera.hangs.add(call)
    time.sleep(0.05)  # into the call
    with caplog.at_level(logging.ERROR):
        watched.capture.stop(deadline_s=0.3)
    assert "the thread 'capture' did not end within 0.3 s" in caplog.text
    left = threads() - before
    assert left
    assert all(thread.daemon for thread in left)
    watched.camera.deaf = False
    watched.camera.released.set()
    wait_until(lambda: threads() <= before, "they end once the driver answers")
