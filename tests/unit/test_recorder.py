"""Which live frames are kept for people, how many, and what happens when the store won't have them."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from appliance.allowance import Allowance, RandomMoments
from appliance.config import StoreSettings
from appliance.frame import Decision, Doubt
from appliance.recorder import Recorder, shares
from appliance.store.frames import FrameStore
from tests.fakes.labelling import Clock, MemorySink, decision, frame
from tests.fakes.pictures import a_second_later, scene
from tests.fakes.waiting import wait_until

Decide = Callable[[int], Decision | None]
AT_ONCE = StoreSettings(batch_s=0)


class Camera:
    """A recorder whose loop runs as fast as its thread can follow."""

    def __init__(self, sink: MemorySink, settings: StoreSettings, *, seed: int = 1) -> None:
        self.clock = Clock()
        self.alarm = False
        self.recorder = Recorder(
            sink,
            settings,
            in_alarm=lambda: self.alarm,
            recipe=lambda version: f"recipe {version}",
            clock=self.clock,
            draw=random.Random(seed).random,  # noqa: S311
        )
        self.recorder.start()

    def see(self, seed: int, made: Decision | None, *, after_s: float = 10.0) -> None:
        """One frame, and time for the thread to look at it."""
        self.clock.now_s += after_s
        self.recorder(frame(seed, int(self.clock.now_s)), made)
        self.settle()

    def settle(self) -> None:
        ends = time.monotonic() + 30
        while not self.recorder.idle:  # thousands of frames: not ten milliseconds for each
            assert time.monotonic() < ends
            time.sleep(0.0002)


@contextmanager
def camera(sink: MemorySink, settings: StoreSettings = AT_ONCE, *, seed: int = 1) -> Iterator[Camera]:
    made = Camera(sink, settings, seed=seed)
    try:
        yield made
    finally:
        made.recorder.stop()


def without_random(sink: MemorySink) -> list[str]:
    return [each.reason for each in sink.frames if each.reason != "random"]


# Why


def test_a_frame_that_the_model_doubts_is_kept_with_what_it_said() -> None:
    sink = MemorySink()
    with camera(sink) as seen:
        seen.see(1, decision(0.4, doubt=Doubt.LOW_SCORE, features=True))
    (kept,) = [each for each in sink.frames if each.reason == "uncertain"]
    assert kept.said is not None
    assert (kept.said.version, kept.said.guess, kept.said.score) == (1, "hardhat", 0.4)
    assert kept.recipe == "recipe 1"
    np.testing.assert_array_equal(kept.features, np.ones(8, np.float32))


def test_of_ten_seconds_the_least_certain_frame_is_kept_and_an_unfamiliar_one_before_all() -> None:
    for confidences, doubts, wanted in (
        ((0.7, 0.4, 0.5), (Doubt.NONE,) * 3, 2),
        ((0.4, 0.99, 0.5), (Doubt.NONE, Doubt.UNFAMILIAR, Doubt.NONE), 2),
    ):
        sink = MemorySink()
        with camera(sink, StoreSettings(batch_s=0, per_hour=30)) as seen:
            for seed, (confidence, doubt) in enumerate(zip(confidences, doubts, strict=True), start=1):
                seen.see(seed, decision(confidence, doubt=doubt), after_s=3.4)
        (kept,) = [each for each in sink.frames if each.reason == "uncertain"]
        assert kept.said is not None
        assert kept.said.score == confidences[wanted - 1]


def test_a_changed_scene_is_kept_and_the_same_one_is_not_kept_again() -> None:
    sink = MemorySink()
    with camera(sink) as seen:
        seen.see(1, decision())
        for _ in range(200):  # more than half an hour of it
            seen.see(1, decision())
        seen.see(2, decision())
    assert without_random(sink) == ["scene", "scene"]


def test_doubt_about_one_scene_is_kept_once_in_ten_minutes_however_long_it_lasts() -> None:
    sink = MemorySink()
    with camera(sink) as seen:
        for _ in range(55):
            seen.see(1, decision(0.4))
        assert without_random(sink) == ["uncertain"]
        for _ in range(20):
            seen.see(1, decision(0.4))
    assert without_random(sink) == ["uncertain", "uncertain"]


def test_an_alarm_s_frames_are_kept_at_once_beside_the_allowance() -> None:
    sink = MemorySink()
    with camera(sink, StoreSettings(batch_s=0, per_hour=0)) as seen:
        seen.alarm = True
        for seed in range(1, 4):
            seen.see(seed, decision(0.99, label="head"), after_s=6)
    assert [each.reason for each in sink.frames] == ["event"] * 3


def test_without_a_model_s_answer_scenes_are_still_kept() -> None:
    sink = MemorySink()
    with camera(sink) as seen:
        seen.see(1, None)
    (kept,) = [each for each in sink.frames if each.reason == "scene"]
    assert kept.said is None


# How many


def _hours(sink: MemorySink, decide: Decide, *, hours: int, per_hour: int = 30, seed: int = 1) -> list[float]:
    """Every frame another scene for hours, six times a minute; when each frame was kept, seconds."""
    started = 1000.0
    with camera(sink, StoreSettings(batch_s=0, per_hour=per_hour), seed=seed) as seen:
        for number in range(hours * 360):
            seen.see(number % 400, decide(number))
    return [(each.taken_utc.timestamp() - frame(0, int(started)).taken_utc.timestamp()) for each in sink.frames]


def test_no_hour_has_more_than_its_number_and_the_share_of_random_frames_is_the_stated_one() -> None:
    sink = MemorySink()
    times = _hours(sink, lambda _: decision(0.4), hours=4)
    reasons = Counter(each.reason for each in sink.frames)
    assert shares(StoreSettings()) == (8, 22)
    assert 4 * 8 - 1 <= reasons["random"] <= 4 * 8  # the last part of the last hour may not have come to its moment
    others = sorted(at for at, each in zip(times, sink.frames, strict=True) if each.reason != "random")
    assert len(others) >= 4 * 20
    for begin in others:
        assert sum(begin <= at < begin + 3600 for at in others) <= 22


def test_what_is_kept_is_spread_over_the_hour() -> None:
    sink = MemorySink()
    times = _hours(sink, lambda _: decision(0.4), hours=3)
    of_ten_minutes = Counter(int(at // 600) for at in times)
    assert set(of_ten_minutes) >= set(range(17))
    assert max(of_ten_minutes.values()) <= 9


def test_random_frames_are_the_same_whatever_the_model_says() -> None:
    kept = []
    for decide in (
        lambda _: decision(0.99),
        lambda _: decision(0.35, doubt=Doubt.LOW_SCORE),
        lambda _: None,
        lambda number: decision(0.99, label="head") if number % 2 else decision(0.5, doubt=Doubt.UNFAMILIAR),
    ):
        sink = MemorySink()
        _hours(sink, decide, hours=3, seed=7)
        kept.append([each.taken_utc for each in sink.frames if each.reason == "random"])
    assert len(kept[0]) >= 23
    assert kept[0] == kept[1] == kept[2] == kept[3]


def test_random_moments_are_uniform_in_their_part_of_the_hour() -> None:
    """Kolmogorov's test with a stated seed: the largest gap to the uniform distribution of 2,000 moments."""
    clock, draws = 0.0, random.Random(5)  # noqa: S311
    moments = RandomMoments(10, 0.0, draws.random)
    places = []
    for _ in range(2000):
        for _ in range(360):  # one part of an hour, second by second
            clock += 1.0
            if moments.came(clock):
                places.append(clock % 360 / 360)
    assert len(places) >= 1985  # a moment in the last second of a part belongs to a call of the next one
    ranks = np.arange(1, len(places) + 1) / len(places)
    assert float(np.abs(np.sort(places) - ranks).max()) < 1.63 / len(places) ** 0.5  # exceeded in 1 of 100 seeds


def test_a_moment_that_passes_without_pictures_is_not_made_up_for() -> None:
    moments = RandomMoments(1, 0.0, lambda: 0.25)
    assert not moments.came(899)
    assert not moments.came(2000)  # the camera was away from second 900 to 2000
    assert not moments.came(3599)
    assert not moments.came(3600 + 899)
    assert moments.came(3600 + 901)
    assert not moments.came(3600 + 902)


def test_a_random_frame_is_kept_even_where_it_looks_like_another() -> None:
    sink = MemorySink()
    with camera(sink, StoreSettings(batch_s=0, per_hour=10, random_share=1)) as seen:
        for _ in range(360):
            seen.see(1, decision())
    assert [each.reason for each in sink.frames].count("random") >= 9


@pytest.mark.parametrize("per_hour", [1, 5, 30, 200])
def test_an_allowance_holds_for_every_hour_however_it_begins(per_hour: int) -> None:
    allowance = Allowance(per_hour, 0.0)
    taken = [second for second in range(0, 5 * 3600, 7) if allowance.take(float(second))]
    assert max(sum(begin <= at < begin + 3600 for at in taken) for begin in taken) <= per_hour
    assert len(taken) >= 4 * per_hour


def test_nothing_is_kept_where_nobody_wants_it() -> None:
    sink = MemorySink()
    with camera(sink, StoreSettings(record=False)) as seen:
        assert seen.recorder.state == "off"
        assert "off in sitecam.toml" in seen.recorder.sentence
        seen.recorder(frame(1), decision(0.4))
    with camera(sink, StoreSettings(batch_s=0, per_hour=0)) as seen:
        seen.see(1, decision(0.4))
    assert sink.frames == []


# When the store won't


def test_frames_wait_in_memory_and_are_written_together() -> None:
    sink = MemorySink()
    with camera(sink, StoreSettings(batch_s=30, per_hour=120)) as seen:
        for seed in range(1, 4):
            seen.see(seed, decision(0.4))
        assert sink.batches == []
        seen.clock.now_s += 30
        wait_until(lambda: sink.batches)
        assert len(sink.batches) == 1
        assert len(sink.batches[0]) >= 2


def test_what_waits_is_written_when_the_process_ends() -> None:
    sink = MemorySink()
    with camera(sink, StoreSettings(batch_s=3600)) as seen:
        seen.see(1, decision(0.4))
        assert sink.batches == []
    assert len(sink.frames) >= 1


def test_what_waits_can_be_written_before_somebody_deletes_a_stretch_of_time() -> None:
    sink = MemorySink()
    with camera(sink, StoreSettings(batch_s=3600)) as seen:
        seen.see(1, decision(0.4))
        assert sink.batches == []
        assert seen.recorder.flush()
        assert len(sink.frames) == 1
        assert seen.recorder.flush()


def test_a_flush_into_a_full_store_says_that_something_still_waits() -> None:
    sink = MemorySink()
    sink.full = True
    with camera(sink) as seen:
        seen.see(1, decision(0.4))
        wait_until(lambda: seen.recorder.state == "paused")
        assert not seen.recorder.flush()


def test_a_full_store_pauses_recording_says_so_and_is_tried_again_with_what_waited() -> None:
    sink = MemorySink()
    sink.full = True
    with camera(sink) as seen:
        seen.see(1, decision(0.4))
        wait_until(lambda: seen.recorder.state == "paused")
        assert "No frames are kept at the moment. There is no room" in seen.recorder.sentence
        seen.see(2, decision(0.4))
        assert seen.recorder.missed >= 1
        assert sink.tried == 1  # not for every frame
        sink.full = False
        seen.clock.now_s += 61
        wait_until(lambda: seen.recorder.state == "recording")
        seen.see(3, decision(0.4))
    assert len(sink.frames) == 2  # the first one, which waited, and the third
    assert seen.recorder.written == len(sink.frames)


def test_a_disk_that_refuses_pauses_recording_too() -> None:
    class Broken(MemorySink):
        def add_all(self, frames: object) -> object:  # noqa: ARG002
            raise OSError(28, "No space left on device")

    with camera(Broken()) as seen:
        seen.see(1, decision(0.4))
        wait_until(lambda: seen.recorder.state == "paused")
        assert "No space left on device" in seen.recorder.sentence


def test_a_slow_disk_holds_nobody_up_and_few_frames_wait() -> None:
    sink = MemorySink()
    sink.lets_go.clear()
    with camera(sink, StoreSettings(batch_s=0, per_hour=3600)) as seen:
        seen.clock.now_s += 10
        seen.recorder(frame(1, 1), decision(0.4))
        wait_until(lambda: sink.tried)
        # It would never end if the listener waited for the disk.
        handed = threading.Thread(target=lambda: deque((_tick(seen, number) for number in range(2, 200)), 0))
        handed.start()
        handed.join(30)
        assert not handed.is_alive()
        assert seen.recorder.missed > 150
        sink.lets_go.set()
        wait_until(lambda: seen.recorder.idle)
        assert len(sink.frames) < 10


def _tick(seen: Camera, number: int) -> int:
    seen.clock.now_s += 11
    seen.recorder(frame(number, number), decision(0.4))
    return number


def test_a_random_frame_finds_room_where_others_crowd() -> None:
    sink = MemorySink()
    sink.lets_go.clear()
    with camera(sink, StoreSettings(batch_s=0, per_hour=60, random_share=0.1)) as seen:
        seen.clock.now_s += 10
        seen.recorder(frame(1, 1), decision(0.4))
        wait_until(lambda: sink.tried)
        for number in range(2, 64):
            _tick(seen, number)
        sink.lets_go.set()
        wait_until(lambda: seen.recorder.idle)
    assert "random" in [each.reason for each in sink.frames]


def test_a_frame_that_can_t_be_encoded_costs_only_itself() -> None:
    sink = MemorySink()
    with camera(sink) as seen:
        broken = frame(1)
        object.__setattr__(broken, "pixels", np.zeros((0, 0, 3), np.uint8))
        seen.clock.now_s += 10
        seen.recorder(broken, decision(0.4))
        seen.settle()
        seen.see(2, decision(0.4))
    assert "uncertain" in without_random(sink)


def test_the_real_store_takes_a_batch_with_scores_and_features(tmp_path: Path) -> None:
    with FrameStore(tmp_path / "store") as store:
        clock = Clock()
        recorder = Recorder(
            store, StoreSettings(), in_alarm=lambda: False, recipe=lambda _: "live", clock=clock, draw=lambda: 0.99
        )
        recorder.start()
        clock.now_s += 10
        recorder(frame(1), decision(0.4, features=True))
        recorder.stop()
        (kept,) = store.frames(labelled_only=False)
        assert (kept.reason, kept.version, kept.guess, kept.score) == ("uncertain", 1, "hardhat", 0.4)
        assert store.features.get_many([kept.id], "live")[kept.id].shape == (1, 8)


def test_near_twins_count_as_one_scene() -> None:
    sink = MemorySink()
    with camera(sink) as seen:
        seen.see(1, decision(0.4))
        seen.clock.now_s += 10
        twin = frame(1, 5)
        object.__setattr__(twin, "pixels", a_second_later(scene(1)))
        seen.recorder(twin, decision(0.4))
        seen.settle()
    assert without_random(sink) == ["uncertain"]
