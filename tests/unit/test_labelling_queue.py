"""The day's queue: what comes first, what comes once, and that it stays as it is."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from appliance.config import LabellingSettings
from appliance.labelling.queue import DayQueue, seconds_per_answer
from appliance.store.frames import FrameRecord, FrameStore, NewFrame
from tests.fakes.labelling import NOON, add
from tests.fakes.pictures import encoded, scene

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


class Site:
    """A store and its queue on a day that a test turns."""

    def __init__(self, store: FrameStore, **settings: float) -> None:
        self.store = store
        self.now = datetime.now(UTC)
        self._settings = LabellingSettings(**settings)  # type: ignore[arg-type]
        self.restart()

    def restart(self) -> None:
        self.queue = DayQueue(self.store, self._settings, BERLIN, now=lambda: self.now)

    def ids(self) -> list[str]:
        return [frame.id for frame in self.queue.today("Ada").frames]

    def reasons(self) -> list[str]:
        return [frame.reason for frame in self.frames()]

    def frames(self) -> tuple[FrameRecord, ...]:
        return self.queue.today("Ada").frames


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FrameStore]:
    with FrameStore(tmp_path / "store") as opened:
        yield opened


def test_a_dozen_is_asked_for_the_least_certain_first_with_a_quarter_at_random(store: FrameStore) -> None:
    for seed in range(20):
        add(store, seed, "uncertain", 0.3 + seed / 100)
    for seed in range(20, 40):
        add(store, seed, "random", 0.99)
    day = Site(store).queue.today("Ada")
    assert [frame.reason for frame in day.frames].count("random") == 3
    doubtful = [frame.score for frame in day.frames if frame.reason != "random"]
    assert doubtful == [0.3 + seed / 100 for seed in range(9)]
    assert (day.asked, day.done, day.words) == (12, 0, "12 frames today, about 2 minutes")


def test_random_frames_are_spread_among_the_others(store: FrameStore) -> None:
    for seed in range(12):
        add(store, seed)
    for seed in range(20, 26):
        add(store, seed, "random")
    places = [place for place, reason in enumerate(Site(store).reasons()) if reason == "random"]
    assert all(4 * part <= place < 4 * part + 4 for part, place in enumerate(places))
    assert len(places) == 3


def test_which_random_frames_come_does_not_depend_on_the_model(store: FrameStore) -> None:
    ids = [add(store, seed, "random", seed / 20) for seed in range(20)]
    first = Site(store, per_day=4, random_share=1).ids()
    assert first == sorted(ids)[:4]  # ids are random: their order is a shuffle that stays


def test_a_random_frame_is_never_taken_for_the_model_s_doubt(store: FrameStore) -> None:
    doubtful_one = add(store, 1, "random", 0.01)
    others = [add(store, seed, "random", 0.99) for seed in range(2, 30)]
    for seed in range(40, 52):
        add(store, seed)
    chosen = [each.id for each in Site(store).frames() if each.reason == "random"]
    assert chosen == sorted([doubtful_one, *others])[:3]


def test_frames_of_one_scene_come_once(store: FrameStore) -> None:
    noisy = [
        np.clip(scene(1) + np.random.default_rng(number).normal(0, 3, (72, 96, 3)), 0, 255).astype(np.uint8)
        for number in range(5)
    ]
    store.add_all(
        [
            NewFrame(encoded(pixels), NOON + timedelta(seconds=n), "live", reason="burst")
            for n, pixels in enumerate(noisy)
        ]
    )
    site = Site(store)
    (only,) = site.frames()
    assert [frame.id for frame in site.frames()] == [only.id]
    store.label(only.id, "head", by="Ada")
    site.restart()
    assert site.frames() == ()
    assert len({frame.scene for frame in store.frames(labelled_only=False)}) == 1


def test_a_random_frame_is_asked_although_an_uncertain_one_of_its_scene_was_labelled(store: FrameStore) -> None:
    twin = np.clip(scene(1) + np.random.default_rng(0).normal(0, 3, (72, 96, 3)), 0, 255).astype(np.uint8)
    uncertain = add(store, 1, taken_utc=NOON)
    (random_one,) = store.add_all([NewFrame(encoded(twin), NOON, "live", reason="random")])
    store.label(uncertain, "head", by="Ada")
    assert Site(store).ids() == [random_one.frame.id]


def test_false_alarms_come_before_everything_else_also_during_the_day(store: FrameStore) -> None:
    for seed in range(5):
        add(store, seed)
    site = Site(store)
    before = site.ids()
    alarm = add(store, 50, "false alarm", 0.97)
    assert site.ids() == [alarm, *before]


def test_reloading_shows_the_same_frames_although_better_ones_came_in(store: FrameStore) -> None:
    for seed in range(20):
        add(store, seed)
    site = Site(store)
    before = site.ids()
    add(store, 60, score=0.01)
    assert site.ids() == before
    store.label(before[0], "head", by="Ada")
    assert site.ids() == before[1:]


def test_what_is_put_off_goes_to_the_end_and_comes_back(store: FrameStore) -> None:
    for seed in range(4):
        add(store, seed)
    site = Site(store)
    first, *others = site.ids()
    store.skip(first)
    assert site.ids() == [*others, first]


def test_what_comes_in_later_is_added_behind_up_to_the_day_s_number(store: FrameStore) -> None:
    add(store, 1)
    site = Site(store, per_day=3)
    (first,) = site.ids()
    for seed in range(2, 9):
        add(store, seed, score=0.1)
    assert site.ids()[0] == first
    assert len(site.ids()) == 3


def test_after_the_dozen_whoever_asks_gets_as_many_more(store: FrameStore) -> None:
    for seed in range(10):
        add(store, seed)
    site = Site(store, per_day=3)
    for frame_id in site.ids():
        store.label(frame_id, "head", by="Ada")
    day = site.queue.today("Ada")
    assert (len(day.frames), day.asked, day.done) == (3, 3, 3)
    assert day.words == "Done for today. 3 frames more if you like, less than a minute"
    assert site.ids() == [frame.id for frame in day.frames]


def test_a_restart_goes_on_with_what_is_left_of_the_day_and_its_random_share(store: FrameStore) -> None:
    for seed in range(20):
        add(store, seed)
    for seed in range(20, 40):
        add(store, seed, "random")
    site = Site(store, per_day=8)
    answered = site.frames()[:5]
    for frame in answered:
        store.label(frame.id, "head", by="Ada")
    site.restart()
    assert len(site.ids()) == 3
    done = sum(frame.reason == "random" for frame in answered)
    assert site.reasons().count("random") == 2 - done


def test_the_next_day_has_a_queue_of_its_own(store: FrameStore) -> None:
    for seed in range(10):
        add(store, seed)
    site = Site(store, per_day=3)
    for frame_id in site.ids():
        store.label(frame_id, "head", by="Ada")
    site.now += timedelta(days=1)
    day = site.queue.today("Ada")
    assert (len(day.frames), day.done, day.words) == (3, 0, "3 frames today, less than a minute")


def test_the_day_is_the_site_s_not_greenwich_s(store: FrameStore) -> None:
    for seed in range(6):
        add(store, seed)
    site = Site(store, per_day=3)
    site.now = datetime(2026, 6, 1, 22, 30, tzinfo=UTC)  # half past midnight in Berlin
    store.label(site.ids()[0], "head", by="Ada", at_utc=datetime(2026, 6, 1, 21, 59, tzinfo=UTC))
    assert site.queue.done_today() == 0
    store.label(site.ids()[0], "head", by="Ada", at_utc=datetime(2026, 6, 1, 22, 1, tzinfo=UTC))
    assert site.queue.done_today() == 1


def test_imported_labels_are_no_part_of_the_day_s_work(store: FrameStore) -> None:
    store.add_all([NewFrame(encoded(scene(1)), datetime.now(UTC), "import", "head", "Ada")])
    assert Site(store).queue.done_today() == 0


def test_an_empty_store_has_nothing_to_ask(store: FrameStore) -> None:
    day = Site(store).queue.today("Ada")
    assert (day.frames, day.words) == ((), "Nothing to label today.")


def test_a_deleted_frame_leaves_the_queue(store: FrameStore) -> None:
    for seed in range(3):
        add(store, seed)
    site = Site(store)
    first, *others = site.ids()
    store.delete(first)
    assert site.ids() == others


def test_a_frame_that_was_unclear_is_not_asked_again_and_counts_as_done(store: FrameStore) -> None:
    for seed in range(3):
        add(store, seed)
    site = Site(store, per_day=3)
    first, *others = site.ids()
    store.mark_unclear(first, by="Ada")
    day = site.queue.today("Ada")
    assert [frame.id for frame in day.frames] == others
    assert day.done == 1
    assert day.words.startswith("2 frames more today")


def test_the_words_use_the_person_s_own_pace(store: FrameStore) -> None:
    started = datetime.now(UTC) - timedelta(days=1)
    for number in range(8):
        store.label(add(store, number), "head", by="Ada", at_utc=started + timedelta(seconds=25 * number))
    for seed in range(20, 32):
        add(store, seed)
    site = Site(store)
    assert site.queue.today("Ada").words == "12 frames today, about 5 minutes"
    assert site.queue.today("Bo").words == "12 frames today, about 2 minutes"


def test_a_pace_leaves_pauses_out_and_waits_for_enough_answers() -> None:
    now = NOON
    steady = [now - timedelta(seconds=4 * number) for number in range(6)]
    assert seconds_per_answer(steady) == 4
    assert seconds_per_answer(steady[:3]) == 10
    assert seconds_per_answer([*steady, now - timedelta(hours=3)]) == 4
    assert seconds_per_answer([]) == 10
