"""A label becomes an event when enough votes agree, and one person is one event."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from appliance.alarm import Alarm
from appliance.config import AlarmSettings
from appliance.events import Event, Vote
from appliance.frame import Decision, Doubt, Frame, Prediction

_SETTINGS = AlarmSettings(label="head", agree=6, of=8, quiet_s=5.0)
_NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


class _Site:
    """An alarm, the frames it gets, and what it told."""

    def __init__(self, settings: AlarmSettings = _SETTINGS) -> None:
        self.told: list[Event] = []
        self.trail: dict[str, list[Vote]] = {}
        self.shown: list[tuple[str, int]] = []  # event, number of the frame
        self.alarm = Alarm(settings, self.told.append, self._witness)
        self.now = _NOON
        self.frames = 0

    def see(self, labels: Iterable[str | None], *, fps: float, score: float = 0.9) -> None:
        for label in labels:
            doubt = Doubt.NONE if label else Doubt.LOW_SCORE
            decision = Decision(label, score, Prediction({"head": score, "hardhat": 1 - score}, 1, 1.0), doubt)
            self.alarm(self._frame(), decision)
            self.now += timedelta(seconds=1 / fps)

    def no_answer(self, seconds: float, *, fps: float) -> None:
        for _ in range(round(seconds * fps)):
            self.alarm(self._frame(), None)
            self.now += timedelta(seconds=1 / fps)

    def away(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @property
    def begun(self) -> list[Event]:
        return [event for event in self.told if event.ended_utc is None]

    @property
    def ended(self) -> list[Event]:
        return [event for event in self.told if event.ended_utc is not None]

    def _frame(self) -> Frame:
        self.frames += 1
        return Frame(np.zeros((1, 1, 3), np.uint8), self.now, self.frames)

    def _witness(self, event_id: str, votes: Sequence[Vote], best: Frame | None) -> None:
        self.trail.setdefault(event_id, []).extend(votes)
        if best is not None:
            self.shown.append((event_id, best.sequence))


def test_enough_agreeing_decisions_begin_an_event_and_one_fewer_does_not() -> None:
    site = _Site()
    site.see(["head"] * 5, fps=2)
    assert not site.told
    site.see(["head"], fps=2)
    (event,) = site.told
    assert (event.kind, event.sentence, event.began_utc, event.ended_utc) == ("seen", "bare head seen", _NOON, None)
    assert event.detail == {"decisions": 6, "agreed": 6, "highest_score": 0.9}
    assert site.alarm.current == event


def test_two_of_eight_may_say_something_else() -> None:
    site = _Site()
    site.see(["head", "head", None, "head", "hardhat", "head", "head", "head"], fps=2)
    assert len(site.begun) == 1
    other = _Site()
    other.see(["head", "head", None, "head", "hardhat", "head", None, "head", "head"], fps=2)
    assert not other.told


def test_unsure_decisions_never_begin_an_event() -> None:
    site = _Site()
    site.see([None] * 100, fps=4)
    assert not site.told


@pytest.mark.parametrize("fps", [2, 4, 5, 10, 20])
def test_a_second_of_agreement_is_not_enough_at_any_rate(fps: float) -> None:
    site = _Site()
    site.see(["head"] * int(fps), fps=fps)
    site.see(["hardhat"] * int(10 * fps), fps=fps)
    assert not site.told


@pytest.mark.parametrize("fps", [2, 4, 5, 10, 20])
def test_three_seconds_of_agreement_are_enough_at_any_rate(fps: float) -> None:
    site = _Site()
    site.see(["head"] * int(3 * fps), fps=fps)
    assert len(site.begun) == 1


@pytest.mark.parametrize("start_s", [0, 0.05, 0.1, 0.2])
def test_three_of_five_take_half_a_second_however_fast_frames_come(start_s: float) -> None:
    site = _Site(AlarmSettings(agree=3, of=5))
    site.away(start_s)
    site.see(["head"] * 10, fps=20)
    assert not site.told
    site.see(["head"] * 6, fps=20)
    assert len(site.begun) == 1


def test_most_decisions_of_a_quarter_second_must_agree_where_frames_come_fast() -> None:
    site = _Site()
    site.see(["head", "hardhat", None, "head", "hardhat"] * 100, fps=20)
    assert not site.told


def test_one_person_is_one_event_though_decisions_flicker() -> None:
    site = _Site()
    site.see(["head"] * 10, fps=4)
    site.see(["head", None, "hardhat", "hardhat"] * 40, fps=4)
    assert (len(site.begun), len(site.ended)) == (1, 0)


def test_one_person_is_one_event_though_the_rate_halves() -> None:
    site = _Site()
    site.see(["head"] * 40, fps=10)
    site.see(["head"] * 40, fps=5)
    site.see(["head"] * 40, fps=1)
    assert (len(site.begun), len(site.ended)) == (1, 0)


def test_an_event_ends_when_nobody_says_it_for_the_quiet_time_and_tells_what_it_was() -> None:
    site = _Site()
    site.see(["head"] * 8, fps=2, score=0.8)
    site.see(["head"] * 2, fps=2, score=0.97)
    last_said = site.now - timedelta(seconds=0.5)
    site.see(["hardhat"] * 9, fps=2)
    assert not site.ended
    site.see(["hardhat"], fps=2)
    (ended,) = site.ended
    assert (ended.kind, ended.began_utc, ended.ended_utc) == ("seen", _NOON, last_said)
    assert ended.detail == {"decisions": 20, "agreed": 10, "highest_score": 0.97}
    assert site.alarm.current is None


def test_unsure_decisions_do_not_end_an_event_quickly_but_do_in_the_end() -> None:
    site = _Site()
    site.see(["head"] * 8, fps=2)
    site.see([None] * 20, fps=2)
    assert not site.ended
    site.see([None] * 20, fps=2)
    assert len(site.ended) == 1


def test_a_model_that_answers_nothing_does_not_keep_an_event_for_ever() -> None:
    site = _Site()
    site.see(["head"] * 8, fps=2)
    site.no_answer(20, fps=2)
    assert len(site.ended) == 1


def test_a_camera_that_was_away_does_not_join_two_halves_of_a_window() -> None:
    site = _Site()
    site.see(["head"] * 4, fps=2)
    site.away(60)
    site.see(["head"] * 4, fps=2)
    assert not site.told
    site.see(["head"] * 2, fps=2)
    assert len(site.begun) == 1


def test_an_event_ends_when_its_camera_went_away_and_it_ends_where_it_was_last_seen() -> None:
    site = _Site()
    site.see(["head"] * 8, fps=2)
    last_said = site.now - timedelta(seconds=0.5)
    site.away(60)
    site.see(["head"], fps=2)
    assert [event.ended_utc for event in site.ended] == [last_said]
    site.see(["head"] * 7, fps=2)
    assert len(site.begun) == 2


def test_a_clock_that_is_set_back_empties_the_window() -> None:
    site = _Site()
    site.see(["head"] * 5, fps=2)
    site.away(-3600)
    site.see(["head"] * 5, fps=2)
    assert not site.told


def test_the_end_of_the_process_ends_its_event() -> None:
    site = _Site()
    site.see(["head"] * 8, fps=2)
    site.alarm.pause()
    site.alarm.pause()
    assert len(site.ended) == 1


def test_another_label_gets_its_own_words() -> None:
    site = _Site(AlarmSettings(label="nobody", agree=1, of=1, quiet_s=1.0))
    site.see(["nobody"], fps=2)
    assert [event.sentence for event in site.told] == ["nobody seen"]


# The trail and the best frame


def test_the_trail_begins_with_the_votes_that_made_the_event_and_names_who_said_what() -> None:
    site = _Site()
    site.see(["head", None, "head", "hardhat", "head", "head", "head", "head"], fps=2)
    (event,) = site.told
    labels = [vote.label for vote in site.trail[event.id]]
    assert labels == ["head", None, "head", "hardhat", "head", "head", "head"]  # the last vote is still being cast
    assert site.trail[event.id][0] == Vote(_NOON, "head", 0.9, 1)
    site.alarm.pause()
    assert len(site.trail[event.id]) == 8
    assert [vote.at_utc for vote in site.trail[event.id]] == [_NOON + timedelta(seconds=n / 2) for n in range(8)]


def test_one_of_the_winning_decisions_stands_for_a_vote() -> None:
    site = _Site(AlarmSettings(agree=1, of=1))
    site.see(["head", "head", "head", "hardhat"], fps=20)
    site.away(0.25)
    site.see(["head"], fps=20)
    (event,) = site.told
    assert [vote.label for vote in site.trail[event.id]] == ["head"]


def test_a_trail_holds_every_vote_of_half_a_minute_and_then_ever_fewer() -> None:
    site = _Site()
    site.see(["head"] * 120, fps=4)
    (event,) = site.told
    assert len(site.trail[event.id]) == 119
    site.see(["head"] * 4 * 3570, fps=4)  # an hour
    assert 500 < len(site.trail[event.id]) < 750
    site.see(["head"] * 18000, fps=1)  # five more
    assert len(site.trail[event.id]) < 900
    times = [vote.at_utc for vote in site.trail[event.id]]
    assert times == sorted(times)
    assert times[-1] > site.now - timedelta(minutes=15)


def test_the_best_frame_before_an_event_comes_with_it_and_clearer_ones_follow() -> None:
    site = _Site()
    site.see(["head"] * 3, fps=2, score=0.7)
    site.see(["head"], fps=2, score=0.95)  # the fourth frame
    site.see(["head"] * 3, fps=2, score=0.8)
    (event,) = site.told
    assert site.shown == [(event.id, 4)]
    site.see(["head"], fps=2, score=0.96)  # hardly better: not worth a file
    site.see(["head"], fps=2, score=0.99)
    site.see(["hardhat"], fps=2, score=1.0)
    assert site.shown == [(event.id, 4), (event.id, 9)]


def test_a_frame_that_left_the_window_before_the_event_is_not_its_best() -> None:
    site = _Site()
    site.see(["head"], fps=2, score=0.99)
    site.see(["hardhat"] * 9, fps=2)
    site.see(["head"] * 6, fps=2, score=0.7)
    (event,) = site.told
    assert site.shown == [(event.id, 11)]


def test_each_event_has_a_trail_and_a_frame_of_its_own() -> None:
    site = _Site()
    for _ in range(2):
        site.see(["head"] * 8, fps=2)
        site.away(60)
    site.alarm.pause()
    first, second = site.begun
    assert first.id != second.id
    assert [each.id for each in site.ended] == [first.id, second.id]
    assert len(site.trail[first.id]) == len(site.trail[second.id]) == 8
    assert [each[0] for each in site.shown] == [first.id, second.id]


def test_evidence_comes_before_its_event() -> None:
    order: list[str] = []
    alarm = Alarm(
        _SETTINGS, lambda event: order.append(event.id), lambda event_id, _v, _b: order.append(event_id + "!")
    )
    site = _Site()
    site.alarm = alarm
    site.see(["head"] * 6, fps=2)
    assert order[0] == order[1] + "!"
