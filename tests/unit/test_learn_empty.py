"""The empty site is learned in one go: asked for by a command, done by the camera process, answered by a report."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from appliance.errors import CameraError, ConfigError, StoreError
from appliance.frame import Frame, Pixels
from appliance.learn_empty import (
    REPORT,
    REQUEST,
    EmptyLearner,
    Report,
    Request,
    request_learning,
    wait_for_report,
)
from appliance.paths import CameraPaths
from appliance.store.frames import FrameStore, NewFrame
from tests.fakes.parts import LABELS
from tests.fakes.pictures import encoded, scene


@pytest.fixture
def paths(tmp_path: Path) -> CameraPaths:
    """An empty state folder."""
    return CameraPaths(tmp_path)


def _noisy(number: int) -> Pixels:
    noise = np.random.default_rng(number).normal(0, 3, (72, 96, 3))
    return np.clip(scene(1) + noise, 0, 255).astype(np.uint8)


@contextmanager
def _running(
    paths: CameraPaths, see: Callable[[int], Pixels] = _noisy, labels: tuple[str, ...] = LABELS
) -> Iterator[EmptyLearner]:
    """A camera process whose loop hands the learner a frame every few milliseconds."""
    clock = iter(range(1_000_000))  # every frame is a time to look for a request
    learner = EmptyLearner(paths, lambda: labels, clock=lambda: float(next(clock)))
    stop = threading.Event()

    def loop() -> None:
        for number in range(1_000_000):
            if stop.wait(0.003):
                return
            learner(Frame(see(number), datetime.now(UTC), number), None)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield learner
    finally:
        stop.set()
        thread.join()
        learner.stop()


def _ask(paths: CameraPaths, *, count: int = 5, label: str = "nobody", every_s: float = 0.01) -> Request:
    return request_learning(paths, count=count, every_s=every_s, label=label, by="Ada")


def _waited(paths: CameraPaths, request: Request, **others: object) -> Report:
    return wait_for_report(paths, request, poll_s=0.01, **others)  # type: ignore[arg-type]


def test_frames_of_the_empty_site_are_stored_with_their_label_and_who_said_so(paths: CameraPaths) -> None:
    with _running(paths):
        report = _waited(paths, _ask(paths))
    assert (report.ok, report.taken, report.stored, report.changed) == (True, 5, 5, 0)
    assert not (paths.root / REQUEST).exists()
    with FrameStore(paths.store) as store:
        frames = store.frames()
    assert {(frame.label, frame.labelled_by, frame.source) for frame in frames} == {("nobody", "Ada", "learn-empty")}
    assert len(frames) == 5


def test_all_frames_of_a_request_are_one_scene_and_the_report_says_so(paths: CameraPaths) -> None:
    with _running(paths):
        report = _waited(paths, _ask(paths))
    with FrameStore(paths.store) as store:
        assert len({frame.scene for frame in store.frames()}) == 1
    assert report.split == "train"
    assert "Stored as nobody: 5 of 5 frames, all for training, because they are one scene" in report.sentence


def test_a_request_at_another_hour_goes_to_testing_where_testing_has_too_few(paths: CameraPaths) -> None:
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    with FrameStore(paths.store) as store:
        store.add_all(
            [NewFrame(encoded(_noisy(900 + n)), an_hour_ago, "learn-empty", "nobody", "Ada", "train") for n in range(3)]
        )
    with _running(paths):
        report = _waited(paths, _ask(paths))
    assert report.split == "test"
    assert "all for testing" in report.sentence


def test_frames_in_which_something_moved_are_left_out(paths: CameraPaths) -> None:
    def see(number: int) -> Pixels:
        """Somebody walks through the third frame that is taken."""
        report = paths.root / REPORT
        visited = report.exists() and Report.from_bytes(report.read_bytes()).taken == 2
        return scene(77) if visited else _noisy(number)

    with _running(paths, see):
        report = _waited(paths, _ask(paths, count=8))
    assert (report.ok, report.taken, report.changed, report.stored) == (True, 8, 1, 7)
    assert "1 of 8 were left out because something moved" in report.sentence


def test_a_picture_that_keeps_changing_is_not_stored_at_all(paths: CameraPaths) -> None:
    with _running(paths, see=lambda number: scene(number)):
        report = _waited(paths, _ask(paths))
    assert not report.ok
    assert "kept changing" in report.sentence
    with FrameStore(paths.store) as store:
        assert not store.frames()


def test_a_frozen_camera_brings_one_frame_and_the_report_says_so(paths: CameraPaths) -> None:
    with _running(paths, see=lambda _: scene(1)):
        report = _waited(paths, _ask(paths))
    assert report.stored == 1
    assert "4 were exactly the same picture" in report.sentence


def test_a_label_that_the_model_lacks_is_refused(paths: CameraPaths) -> None:
    with _running(paths):
        report = _waited(paths, _ask(paths, label="empty"))
    assert not report.ok
    assert "no label 'empty'" in report.sentence
    assert "head, hardhat, nobody" in report.sentence
    assert not (paths.root / REQUEST).exists()


def test_an_old_request_is_not_carried_out(paths: CameraPaths) -> None:
    old = Request(5, 0.01, "nobody", "Ada", datetime.now(UTC) - timedelta(minutes=11))
    (paths.root / REQUEST).write_bytes(old.to_bytes())
    with _running(paths):
        report = _waited(paths, old)
    assert not report.ok
    assert "ten minutes" in report.sentence


def test_an_unreadable_request_is_removed_with_a_reason(paths: CameraPaths) -> None:
    (paths.root / REQUEST).write_bytes(b'{"count": ')
    with _running(paths):
        ends = time.monotonic() + 5
        while (paths.root / REQUEST).exists() and time.monotonic() < ends:
            time.sleep(0.01)
    assert not (paths.root / REQUEST).exists()
    assert not Report.from_bytes((paths.root / REPORT).read_bytes()).ok


def test_a_second_request_while_one_is_under_way_is_an_error_that_says_so(paths: CameraPaths) -> None:
    first = _ask(paths)
    with pytest.raises(StoreError, match="being learned already"):
        _ask(paths)
    assert Request.from_bytes((paths.root / REQUEST).read_bytes()) == first


def test_a_request_left_behind_long_ago_does_not_stand_in_the_way(paths: CameraPaths) -> None:
    old = Request(5, 0.01, "nobody", "Ada", datetime.now(UTC) - timedelta(minutes=11))
    (paths.root / REQUEST).write_bytes(old.to_bytes())
    assert Request.from_bytes((paths.root / REQUEST).read_bytes()) != _ask(paths)


def test_with_no_camera_process_the_wait_ends_with_an_error_and_the_request_is_withdrawn(paths: CameraPaths) -> None:
    request = _ask(paths)
    with pytest.raises(CameraError, match="No camera process took the request"):
        _waited(paths, request, answer_s=0.1)
    assert not (paths.root / REQUEST).exists()


def test_a_camera_process_that_dies_on_the_way_ends_the_wait(paths: CameraPaths) -> None:
    request = _ask(paths)
    begun = Report(request.asked_utc, False, False, 3, 0, 0, "", "Taking frames.")
    (paths.root / REPORT).write_bytes(begun.to_bytes())
    with pytest.raises(CameraError, match="stopped after 3 of 5"):
        _waited(paths, request, answer_s=0.1)


def test_the_report_of_an_earlier_request_is_not_taken_for_an_answer(paths: CameraPaths) -> None:
    request = _ask(paths)
    earlier = Report(request.asked_utc - timedelta(hours=1), True, True, 5, 5, 0, "train", "Done.")
    (paths.root / REPORT).write_bytes(earlier.to_bytes())
    with pytest.raises(CameraError):
        _waited(paths, request, answer_s=0.1)


def test_progress_is_told_while_frames_are_taken(paths: CameraPaths) -> None:
    told: list[int] = []
    heard = threading.Event()

    def progress(report: Report) -> None:
        told.append(report.taken)
        heard.set()

    def see(number: int) -> Pixels:
        """After the frame that made it look for a request, none comes until progress was told."""
        if number:
            heard.wait(5)
        return _noisy(number)

    with _running(paths, see):
        _waited(paths, _ask(paths, count=4), progress=progress)
    assert told[0] == 0
    assert told == sorted(told)
    assert set(told) <= {0, 1, 2, 3}


def test_a_request_survives_a_restart_of_the_camera_process(paths: CameraPaths) -> None:
    request = _ask(paths, count=3)
    learner = EmptyLearner(paths, lambda: LABELS)
    ends = time.monotonic() + 5
    learner(Frame(_noisy(0), datetime.now(UTC), 0), None)
    while not (paths.root / REPORT).exists() and time.monotonic() < ends:
        time.sleep(0.01)
    learner.stop()
    assert (paths.root / REQUEST).exists()
    with _running(paths):
        assert _waited(paths, request).stored == 3


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"count": 101}, {"count": 100, "every_s": 7.0}, {"every_s": -1.0}, {"label": ""}]
)
def test_a_request_that_makes_no_sense_is_refused_before_it_is_written(
    paths: CameraPaths, wrong: dict[str, object]
) -> None:
    asked: dict[str, object] = {"count": 5, "every_s": 1.0, "label": "nobody", "by": "Ada"}
    with pytest.raises(ConfigError):
        request_learning(paths, **(asked | wrong))  # type: ignore[arg-type]
    assert not list(paths.root.iterdir())


def test_a_request_is_plain_json(paths: CameraPaths) -> None:
    request = _ask(paths)
    body = json.loads((paths.root / REQUEST).read_text())
    assert body == {
        "count": 5,
        "every_s": 0.01,
        "label": "nobody",
        "by": "Ada",
        "asked_utc": request.asked_utc.isoformat(),
    }
    assert Request.from_bytes(replace(request).to_bytes()) == request
