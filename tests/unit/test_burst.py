"""Frames in a row when somebody asks, and how the page shows them and the learning of the empty site."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.burst import Burst, CaptureState
from appliance.errors import ConfigError, StoreError
from appliance.frame import Frame
from appliance.learn_empty import REPORT, REQUEST, Report, request_learning
from appliance.learn_state import learning_state
from appliance.paths import CameraPaths
from appliance.store.frames import FrameStore
from tests.fakes.labelling import MemorySink, decision
from tests.fakes.pictures import scene
from tests.fakes.waiting import wait_until


@contextmanager
def _seeing(burst: Burst) -> Iterator[None]:
    """A live loop that shows another scene every few milliseconds."""
    ends = threading.Event()

    def loop() -> None:
        for number in range(100_000):
            if ends.wait(0.002):
                return
            burst(Frame(scene(number), datetime.now(UTC), number), decision(0.4, features=True))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()
        burst.stop()


def _done(burst: Burst) -> CaptureState:
    wait_until(lambda: not burst.state.busy)
    return burst.state


def test_a_burst_goes_into_the_queue_unlabelled_with_what_the_model_said(tmp_path: Path) -> None:
    with FrameStore(tmp_path / "store") as store:
        burst = Burst(store, lambda _: "live")
        with _seeing(burst):
            assert burst.begin(12, 0.001).busy
            assert _done(burst) == CaptureState(False, 12, 12, "12 frames taken: they are in the queue.")
        frames = store.frames(labelled_only=False)
        assert {(frame.reason, frame.label, frame.version) for frame in frames} == {("burst", None, 1)}
        assert len(store.features.get_many([frame.id for frame in frames], "live")) == 12


def test_a_burst_is_written_in_pieces_so_that_memory_is_bounded() -> None:
    sink = MemorySink()
    burst = Burst(sink, lambda _: "")
    with _seeing(burst):
        burst.begin(25, 0.0)
        _done(burst)
    assert [len(batch) for batch in sink.batches] == [10, 10, 5]


def test_slow_bursts_leave_no_frame_in_memory_for_long() -> None:
    sink = MemorySink()
    burst = Burst(sink, lambda _: "")
    with _seeing(burst):
        burst.begin(2, 12.0)
        wait_until(lambda: sink.batches)
        assert burst.state.busy


def test_one_burst_at_a_time() -> None:
    burst = Burst(MemorySink(), lambda _: "")
    with _seeing(burst):
        burst.begin(3, 30.0)
        with pytest.raises(StoreError, match="being taken already"):
            burst.begin(1, 0.0)


@pytest.mark.parametrize(("count", "every_s"), [(0, 1.0), (101, 1.0), (10, -1.0), (10, 61.0), (10, float("nan"))])
def test_too_many_or_too_long_is_refused(count: int, every_s: float) -> None:
    with pytest.raises(ConfigError):
        Burst(MemorySink(), lambda _: "").begin(count, every_s)


def test_a_full_store_is_said_and_the_next_burst_can_begin() -> None:
    sink = MemorySink()
    sink.full = True
    burst = Burst(sink, lambda _: "")
    with _seeing(burst):
        burst.begin(1, 0.0)
        assert "could not be stored. There is no room" in _done(burst).sentence
        sink.full = False
        burst.begin(1, 0.0)
        assert _done(burst).sentence == "1 frame taken: they are in the queue."


def test_what_was_taken_is_stored_when_the_process_ends() -> None:
    sink = MemorySink()
    burst = Burst(sink, lambda _: "")
    with _seeing(burst):
        burst.begin(5, 100.0)
        wait_until(lambda: burst.state.taken == 1)
    assert len(sink.frames) == 1


# The empty site, as the page shows it


def test_without_a_request_there_is_nothing_to_show(tmp_path: Path) -> None:
    assert learning_state(CameraPaths(tmp_path)) == CaptureState(False, 0, 0, "")


def test_a_request_waits_then_goes_on_then_is_done(tmp_path: Path) -> None:
    paths = CameraPaths(tmp_path)
    request = request_learning(paths, count=4, every_s=1, label="nobody", by="Ada")
    assert learning_state(paths) == CaptureState(True, 0, 4, "Waiting for the camera.")
    _report(paths, Report(request.asked_utc, False, False, 2, 0, 0, "", "Taking frames."))
    assert learning_state(paths) == CaptureState(True, 2, 4, "Taking frames.")
    _report(paths, Report(request.asked_utc, True, True, 4, 4, 0, "train", "Stored as nobody."))
    (tmp_path / REQUEST).unlink()
    assert learning_state(paths) == CaptureState(False, 4, 4, "Stored as nobody.")


def test_an_older_request_s_report_is_not_shown_as_the_new_one_s(tmp_path: Path) -> None:
    paths = CameraPaths(tmp_path)
    _report(paths, Report(datetime.now(UTC) - timedelta(hours=1), True, True, 9, 9, 0, "train", "Stored as nobody."))
    request_learning(paths, count=4, every_s=1, label="nobody", by="Ada")
    assert learning_state(paths) == CaptureState(True, 0, 4, "Waiting for the camera.")


def test_a_request_that_a_dead_process_left_half_done_is_not_busy_for_ever(tmp_path: Path) -> None:
    paths = CameraPaths(tmp_path)
    asked = datetime.now(UTC) - timedelta(hours=1)
    _report(paths, Report(asked, False, False, 2, 0, 0, "", "Taking frames."))
    assert learning_state(paths) == CaptureState(False, 2, 2, "The camera stopped on the way: nothing was stored.")


def _report(paths: CameraPaths, report: Report) -> None:
    (paths.root / REPORT).write_bytes(report.to_bytes())
