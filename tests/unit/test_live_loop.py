import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from appliance.capture import Capture
from appliance.decide import Decider
from appliance.errors import ImpulseExitedError, SwapPostponedError
from appliance.frame import Decision, Frame, Prediction
from appliance.live import Listener, LiveLoop, RunningModel
from tests.fakes.live_parts import ClickCamera, ScriptedImpulse


class Heard:
    """A listener that keeps what it heard."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.items: list[tuple[Frame, Decision | None]] = []

    def __call__(self, frame: Frame, decision: Decision | None) -> None:
        with self._changed:
            self.items.append((frame, decision))
            self._changed.notify_all()

    def wait(self, good: Callable[[], bool], timeout_s: float = 10) -> None:
        with self._changed:
            assert self._changed.wait_for(good, timeout_s), f"heard {len(self.items)} frames only"

    @property
    def versions(self) -> list[int]:
        return [decision.prediction.version for _, decision in self.items if decision]


class Stand:
    """A loop with its fakes, stopped at the test's end."""

    def __init__(
        self,
        camera: ClickCamera,
        restarts: list[ScriptedImpulse],
        listeners: Sequence[Listener] = (),
        decide: Callable[[Prediction], Decision] | None = None,
    ) -> None:
        self.camera, self.heard = camera, Heard()
        self.restarts = restarts
        self.beats = 0
        self.loop = LiveLoop(
            self._restart, decide=decide or Decider(0.6), listeners=[*listeners, self.heard], beat=self._beat
        )
        self.capture = Capture(camera, self.loop.take, timeout_s=30, rate_fps=100)
        self.loop.start()
        self.capture.start()

    def _beat(self) -> None:
        self.beats += 1

    def stop(self) -> None:
        self.capture.stop()
        self.loop.stop()

    def _restart(self) -> RunningModel:
        if not self.restarts:
            raise ImpulseExitedError("there is no model to start")
        impulse = self.restarts.pop(0)
        return RunningModel(impulse.info.version, impulse)


@pytest.fixture
def stand() -> Iterator[Callable[..., Stand]]:
    made: list[Stand] = []

    def make(*restarts: ScriptedImpulse, every_s: float | None = 0.01, **more: Any) -> Stand:
        made.append(Stand(ClickCamera(every_s=every_s), list(restarts), **more))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def test_every_frame_becomes_a_decision(stand: Callable[..., Stand]) -> None:
    s = stand(ScriptedImpulse(1), every_s=None)
    while s.loop.version is None:
        time.sleep(0.01)
    for number in range(5):
        s.camera.click()
        s.heard.wait(lambda expected=number + 1: len(s.heard.versions) == expected)  # type: ignore[misc]
    assert [frame.sequence for frame, _ in s.heard.items] == [1, 2, 3, 4, 5]
    decision = s.heard.items[0][1]
    assert decision is not None
    assert (decision.label, decision.confidence) == ("hardhat", 0.8)


def test_a_slow_model_drops_old_frames_and_counts_them(stand: Callable[..., Stand]) -> None:
    s = stand(ScriptedImpulse(1, lambda _: time.sleep(0.2)))
    s.heard.wait(lambda: len(s.heard.versions) >= 3)
    numbers = [frame.sequence for frame, decision in s.heard.items if decision]
    assert numbers[-1] - numbers[0] > len(numbers)
    assert s.loop.dropped > 0


def test_an_exchange_happens_between_two_frames_and_loses_none(stand: Callable[..., Stand]) -> None:
    first, second = ScriptedImpulse(1), ScriptedImpulse(2)
    s = stand(first)
    s.heard.wait(lambda: len(s.heard.versions) >= 5)
    s.loop.exchange(RunningModel(2, second), timeout_s=5)
    assert not first.closed
    s.heard.wait(lambda: s.heard.versions.count(2) >= 5)
    versions = s.heard.versions
    assert versions == sorted(versions)
    assert second.asked >= 5
    assert s.loop.dropped == 0
    s.loop.settle()
    assert first.closed


def test_a_new_model_that_fails_before_it_is_settled_costs_no_frame(stand: Callable[..., Stand]) -> None:
    def die_at_third(asked: int) -> None:
        if asked == 3:
            raise ImpulseExitedError("the .eim crashed")

    first, second = ScriptedImpulse(1), ScriptedImpulse(2, die_at_third)
    s = stand(first)
    s.heard.wait(lambda: len(s.heard.versions) >= 3)
    s.loop.exchange(RunningModel(2, second), timeout_s=5)
    s.heard.wait(lambda: 2 in s.heard.versions and s.heard.versions[-1] == 1)
    assert second.closed
    assert not first.closed
    sequences = [frame.sequence for frame, decision in s.heard.items if decision]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    s.loop.revert(timeout_s=5)  # nothing is left to go back to: the old one answers already
    assert not first.closed


def test_going_back_puts_the_old_model_in_place_and_ends_the_new_one(stand: Callable[..., Stand]) -> None:
    first, second = ScriptedImpulse(1), ScriptedImpulse(2)
    s = stand(first)
    s.heard.wait(lambda: len(s.heard.versions) >= 3)
    s.loop.exchange(RunningModel(2, second), timeout_s=5)
    s.heard.wait(lambda: 2 in s.heard.versions)
    s.loop.revert(timeout_s=5)
    assert second.closed
    assert s.loop.version == 1


def test_an_exchange_that_the_loop_does_not_reach_leaves_the_old_model(stand: Callable[..., Stand]) -> None:
    stuck = threading.Event()

    def hang(_: int) -> None:
        stuck.wait(5)

    s = stand(ScriptedImpulse(1, hang))
    while s.restarts or s.loop.version is None:
        time.sleep(0.01)
    time.sleep(0.1)
    with pytest.raises(SwapPostponedError, match="did not take the new model"):
        s.loop.exchange(RunningModel(2, ScriptedImpulse(2)), timeout_s=0.3)
    stuck.set()
    s.heard.wait(lambda: len(s.heard.versions) >= 2)
    assert set(s.heard.versions) == {1}


def test_a_model_that_dies_is_started_again(stand: Callable[..., Stand]) -> None:
    def die_at_third(asked: int) -> None:
        if asked == 3:
            raise ImpulseExitedError("the .eim ended")

    first, second = ScriptedImpulse(1, die_at_third), ScriptedImpulse(1)
    s = stand(first, second)
    s.heard.wait(lambda: second.asked >= 3)
    assert first.closed
    assert s.loop.failed_answers == 1
    assert s.loop.model_fault is None


def test_while_no_model_can_be_started_viewers_still_see_the_picture(stand: Callable[..., Stand]) -> None:
    s = stand()
    s.heard.wait(lambda: len(s.heard.items) >= 5)
    assert s.heard.versions == []
    assert "no model to start" in str(s.loop.model_fault)
    assert s.loop.dropped >= 5


def test_a_new_version_heals_a_loop_whose_model_cannot_be_started(stand: Callable[..., Stand]) -> None:
    s = stand()
    s.heard.wait(lambda: len(s.heard.items) >= 2)
    s.loop.exchange(RunningModel(2, ScriptedImpulse(2)), timeout_s=10)
    s.heard.wait(lambda: s.heard.versions.count(2) >= 3)


def test_a_foreign_model_is_asked_about_one_frame_at_a_time(stand: Callable[..., Stand]) -> None:
    impulse = ScriptedImpulse(1)
    impulse.depth = 1  # the fake asserts that no more are under way
    s = stand(impulse)
    s.heard.wait(lambda: len(s.heard.versions) >= 5)
    sequences = [frame.sequence for frame, _ in s.heard.items]
    assert sequences == sorted(set(sequences))


def test_frames_asked_ahead_are_decided_in_their_order(stand: Callable[..., Stand]) -> None:
    s = stand(ScriptedImpulse(1, lambda _: time.sleep(0.02)))
    s.heard.wait(lambda: len(s.heard.versions) >= 10)
    sequences = [frame.sequence for frame, decision in s.heard.items if decision]
    assert sequences == sorted(set(sequences))


def test_a_frame_that_kills_the_model_is_not_asked_about_for_ever(stand: Callable[..., Stand]) -> None:
    def die(_: int) -> None:
        raise ImpulseExitedError("the .eim crashed at this frame")

    s = stand(ScriptedImpulse(1, die), ScriptedImpulse(1), every_s=None)
    while s.loop.version is None:
        time.sleep(0.01)
    s.camera.click()
    s.heard.wait(lambda: len(s.heard.items) == 1)
    assert s.heard.items[0][1] is None
    s.camera.click()
    s.heard.wait(lambda: s.heard.versions == [1])
    assert (s.loop.failed_answers, s.loop.dropped) == (1, 1)


def test_the_loop_shows_that_it_lives_even_without_frames(stand: Callable[..., Stand]) -> None:
    s = stand(ScriptedImpulse(1), every_s=None)
    seen = s.beats
    ends = time.monotonic() + 10
    while s.beats < seen + 3 and time.monotonic() < ends:
        time.sleep(0.05)
    assert s.beats >= seen + 3


def test_gaps_and_counts_since_a_mark_are_those_of_that_span(stand: Callable[..., Stand]) -> None:
    def pause_at_tenth(asked: int) -> None:
        if asked == 10:
            time.sleep(0.3)

    s = stand(ScriptedImpulse(1, pause_at_tenth))
    mark = s.loop.mark()
    s.heard.wait(lambda: len(s.heard.versions) >= 15)
    pace = s.loop.pace_since(mark)
    assert pace.longest_gap_ms >= 300
    assert pace.decisions >= 15
    assert s.loop.pace_since(s.loop.mark()).gaps_ms == []


def test_a_listener_that_makes_a_mistake_costs_the_others_nothing(
    stand: Callable[..., Stand], caplog: pytest.LogCaptureFixture
) -> None:
    s = stand(ScriptedImpulse(1), listeners=[Broken()])
    s.heard.wait(lambda: len(s.heard.versions) >= 20)
    assert caplog.text.count("The listener Broken made a mistake") == 1


class Broken:
    def __call__(self, _: Frame, __: Decision | None) -> None:
        raise RuntimeError("out of luck")


def test_a_decider_that_makes_a_mistake_leaves_the_picture(stand: Callable[..., Stand]) -> None:
    def decide(_: Prediction) -> Decision:
        raise ZeroDivisionError

    s = stand(ScriptedImpulse(1), decide=decide)
    s.heard.wait(lambda: len(s.heard.items) >= 5)
    assert s.heard.versions == []


def test_a_mistake_of_the_loop_itself_costs_a_frame_and_starts_the_model_afresh(stand: Callable[..., Stand]) -> None:
    def confuse_at_third(asked: int) -> None:
        if asked == 3:
            raise KeyError("a mistake nobody thought of")

    first, second = ScriptedImpulse(1, confuse_at_third), ScriptedImpulse(1)
    s = stand(first, second)
    s.heard.wait(lambda: second.asked >= 3)
    assert first.closed
    assert s.loop.model_fault is None


def test_stop_ends_threads_and_model(stand: Callable[..., Stand]) -> None:
    impulse = ScriptedImpulse(1)
    s = stand(impulse)
    s.heard.wait(lambda: len(s.heard.versions) >= 1)
    s.stop()
    assert impulse.closed
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("live-")]
