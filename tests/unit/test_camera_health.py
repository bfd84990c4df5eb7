from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from appliance.camera.health import Health, HealthLimits
from appliance.events import Event
from appliance.frame import Frame, Pixels
from appliance.vision import read_picture
from tests.fakes.pictures import scene

START_UTC = datetime(2026, 10, 1, 6, 0, tzinfo=UTC)
RATE_FPS = 10.0
NOISE = np.random.default_rng(0)
SHAPE = (60, 80, 3)
SITE = scene(1, width=80, height=60).astype(np.int16)


def sensor_picture() -> Pixels:
    """A site by day, with a sensor's noise."""
    return (SITE + NOISE.integers(-2, 3, SHAPE, dtype=np.int16)).clip(0, 255).astype(np.uint8)


def covered_lens(gain_noise: float = 8.0) -> Pixels:
    return NOISE.normal(4, gain_noise, SHAPE).clip(0, 255).astype(np.uint8)


class Watched:
    """A Health whose time is a test's."""

    def __init__(self, *, is_live: bool = True, limits: HealthLimits | None = None, rate_fps: float = RATE_FPS) -> None:
        self.now_s = 1000.0
        self.events: list[Event] = []
        self.health = Health(
            "gate",
            rate_fps=rate_fps,
            is_live=is_live,
            on_event=self.events.append,
            limits=limits,
            clock=lambda: self.now_s,
        )
        self._sequence = 0

    @property
    def utc(self) -> datetime:
        return START_UTC + timedelta(seconds=self.now_s - 1000)

    def frames(self, picture: Callable[[], Pixels], for_s: float, *, rate_fps: float = RATE_FPS, step: int = 1) -> None:
        for _ in range(round(for_s * rate_fps)):
            self.now_s += 1 / rate_fps
            self._sequence += step
            self.health.see(Frame(picture(), self.utc, self._sequence))

    @property
    def kinds(self) -> list[str]:
        return [condition.kind for condition in self.health.conditions]


def test_a_site_by_day_has_nothing_wrong() -> None:
    watched = Watched()
    watched.frames(sensor_picture, 60)
    assert watched.kinds == []
    assert watched.events == []


@pytest.mark.parametrize("gain_noise", [0, 4, 16])
def test_a_covered_lens_is_dark_after_some_seconds_however_noisy_the_sensor(gain_noise: float) -> None:
    watched = Watched()
    watched.frames(sensor_picture, 10)
    covered_at = watched.utc
    watched.frames(lambda: covered_lens(gain_noise), 4)
    assert watched.kinds == []  # somebody walked past
    watched.frames(lambda: covered_lens(gain_noise), 4)
    (condition,) = watched.health.conditions
    assert condition.kind == "dark"
    assert "lens is covered" in condition.sentence
    assert "Look at the lens" in condition.sentence
    assert timedelta(0) <= condition.since_utc - covered_at <= timedelta(seconds=1)


def test_a_dark_picture_is_one_event_with_a_beginning_and_an_end() -> None:
    watched = Watched()
    watched.frames(covered_lens, 20)
    watched.frames(sensor_picture, 20)
    begun, ended = watched.events
    assert begun.kind == ended.kind == "dark"
    assert begun.began_utc == ended.began_utc
    assert begun.ended_utc is None
    assert ended.ended_utc is not None
    assert abs((ended.ended_utc - begun.began_utc).total_seconds() - 20) <= 1
    assert ended.detail["mean"] < 16
    assert watched.kinds == []


def test_a_site_at_night_with_one_lamp_is_not_dark() -> None:
    def night() -> Pixels:
        picture = covered_lens()
        picture[15:23, 50:58] = 255
        return picture

    watched = Watched()
    watched.frames(night, 20)
    assert watched.kinds == []


def test_a_picture_at_the_edge_of_darkness_does_not_flicker() -> None:
    levels = iter([10, 20] * 1000)

    def edge() -> Pixels:
        return np.full(SHAPE, next(levels), np.uint8)

    watched = Watched(is_live=False)
    watched.frames(edge, 60)
    watched.frames(covered_lens, 10)
    watched.frames(edge, 60)
    assert [event.ended_utc for event in watched.events] == [None]


@pytest.mark.parametrize("buffers", [1, 4])
def test_a_picture_that_stands_still_or_goes_round_old_buffers_is_frozen(buffers: int) -> None:
    ring = [sensor_picture() for _ in range(buffers)]
    watched = Watched()
    turn = 0

    def stuck() -> Pixels:
        nonlocal turn
        turn += 1
        return ring[turn % buffers].copy()

    watched.frames(sensor_picture, 10)
    watched.frames(stuck, 20)
    assert watched.kinds == ["frozen"]
    assert "stands still" in watched.health.conditions[0].sentence
    watched.frames(sensor_picture, 10)
    assert watched.kinds == []
    assert [event.kind for event in watched.events] == ["frozen", "frozen"]


def test_an_empty_buffer_which_is_green_is_frozen() -> None:
    watched = Watched()
    watched.frames(lambda: np.full(SHAPE, (0, 135, 0), np.uint8), 10)
    assert watched.kinds == ["frozen"]


def test_black_and_dazzled_pictures_may_be_identical() -> None:
    for level, kinds in ((0, ["dark"]), (255, [])):
        watched = Watched()
        watched.frames(lambda level=level: np.full(SHAPE, level, np.uint8), 20)  # type: ignore[misc]
        assert watched.kinds == kinds


def test_a_replay_is_never_frozen() -> None:
    watched = Watched(is_live=False)
    picture = sensor_picture()
    watched.frames(lambda: picture, 60)
    assert watched.kinds == []


def test_half_the_rate_is_slow_and_says_the_numbers() -> None:
    watched = Watched()
    watched.frames(sensor_picture, 20)
    watched.frames(sensor_picture, 4, rate_fps=5)
    assert watched.kinds == []
    watched.frames(sensor_picture, 16, rate_fps=5)
    assert watched.kinds == ["slow"]
    assert "sends 5.0 pictures a second instead of 10" in watched.health.conditions[0].sentence
    watched.frames(sensor_picture, 20)
    assert watched.kinds == []
    assert watched.events[-1].detail == {"rate_fps": 5.0, "asked_fps": 10.0, "skipped": 0.0}


def test_skipped_frames_are_told_from_a_slow_sensor() -> None:
    watched = Watched()
    watched.frames(sensor_picture, 20, rate_fps=5, step=2)
    assert watched.events[0].kind == "slow"
    assert watched.events[0].detail["skipped"] == 25


def test_a_rate_between_slow_and_steady_changes_nothing() -> None:
    watched = Watched()
    watched.frames(sensor_picture, 60, rate_fps=7)
    assert watched.kinds == []
    watched.frames(sensor_picture, 20, rate_fps=4)
    watched.frames(sensor_picture, 60, rate_fps=7)
    assert watched.kinds == ["slow"]


def test_a_camera_of_one_picture_in_ten_seconds_is_measured_over_a_longer_time() -> None:
    watched = Watched(rate_fps=0.1)
    watched.frames(sensor_picture, 600, rate_fps=0.1)
    assert watched.kinds == []


def test_no_picture_is_an_event_from_the_last_one_until_they_stay() -> None:
    watched = Watched()
    before = datetime.now(UTC)
    watched.health.miss("the sensor stalled")
    watched.now_s += 60
    watched.health.miss("the sensor stalled")
    watched.frames(sensor_picture, 2)
    watched.health.miss("the sensor stalled")
    assert watched.kinds == []
    (begun,) = watched.events
    assert (begun.kind, begun.sentence) == ("no picture", "the sensor stalled")
    assert before <= begun.began_utc <= datetime.now(UTC)
    watched.frames(sensor_picture, 10)
    assert watched.events[-1].ended_utc is not None
    assert watched.events[-1].began_utc == begun.began_utc
    assert watched.events[-1].detail["failures"] == 3


def test_an_outage_counts_from_the_last_picture_not_from_the_first_complaint() -> None:
    watched = Watched()
    watched.frames(sensor_picture, 5)
    watched.now_s += 30
    watched.health.miss("the sensor stalled")
    assert timedelta(seconds=29) < datetime.now(UTC) - watched.events[0].began_utc < timedelta(seconds=60)


def test_without_pictures_there_are_no_conditions_and_their_events_end() -> None:
    watched = Watched()
    watched.frames(covered_lens, 10)
    assert watched.kinds == ["dark"]
    watched.health.miss("unplugged")
    assert watched.kinds == []
    assert [(event.kind, event.ended_utc is None) for event in watched.events] == [
        ("dark", True),
        ("dark", False),
        ("no picture", True),
    ]


def test_a_pause_is_not_a_slow_rate() -> None:
    watched = Watched()
    for _ in range(10):
        watched.frames(sensor_picture, 6)
        watched.health.miss("unplugged")
        watched.now_s += 60
    assert "slow" not in {event.kind for event in watched.events}


def test_a_clock_set_back_does_not_end_an_event_before_it_began() -> None:
    watched = Watched()
    watched.frames(covered_lens, 10)
    watched.health.see(Frame(sensor_picture(), watched.utc, 5000))
    for seconds in (1, 2, 3):
        watched.now_s += 1
        watched.health.see(Frame(sensor_picture(), START_UTC - timedelta(days=365), 5000 + seconds))
    began, ended = watched.events[-1].began_utc, watched.events[-1].ended_utc
    assert ended is not None
    assert ended >= began


def test_whoever_stops_looking_ends_the_open_events() -> None:
    watched = Watched()
    watched.frames(covered_lens, 10)
    watched.health.finish()
    assert watched.events[-1].ended_utc is not None


def test_almost_every_frame_costs_a_look_at_the_clock_only(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    judged = 0

    def judge(*_: object) -> None:
        nonlocal judged
        judged += 1

    monkeypatch.setattr(watched.health, "_judge", judge)
    watched.frames(sensor_picture, 10, rate_fps=50)
    assert judged <= 21


def test_real_pictures_are_neither_dark_nor_frozen() -> None:
    folder = Path(__file__).parents[2].parent / "shared" / "datasets" / "hardhat"
    paths = sorted(folder.rglob("*.jpg"))[::4]
    if not paths:
        pytest.skip("the tutorial's hard-hat pictures are not beside this project, in ../shared/datasets/hardhat")
    watched = Watched(limits=HealthLimits(dark_s=0, frozen_s=0))
    for path in paths:
        watched.frames(lambda path=path: read_picture(path), 1, rate_fps=1)  # type: ignore[misc]
    assert len(paths) > 50
    assert {event.kind for event in watched.events} <= {"slow"}
