import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.canary import Canary
from appliance.capture import Capture
from appliance.decide import Decider
from appliance.eim.runner import Impulse, start_impulse
from appliance.ending import resume
from appliance.errors import ImpulseExitedError, ImpulseSilentError
from appliance.live import LiveLoop, RunningModel
from appliance.models.shelf import Shelf
from appliance.models.trial import State, Trial, read_trial, write_trial
from appliance.models.verdict import read_verdict
from appliance.probe import QUESTIONS
from appliance.staging import stage
from appliance.swap import Swapper, SwapRules
from tests.fakes.fleet import TinyFleet
from tests.fakes.live_parts import ClickCamera, ScriptedImpulse
from tests.fakes.swap_bench import FullDisk

RULES = SwapRules(soak_decisions=5, soak_deadline_s=5, exchange_deadline_s=5, retry_s=0.1)


class Bench:
    """A loop that runs version 1, a shelf on which version 2 waits, and a swapper between them."""

    def __init__(self, shelf: Shelf, new: Callable[[Path], Impulse]) -> None:
        self.shelf = shelf
        self.old = ScriptedImpulse(1)
        self.loop = LiveLoop(lambda: RunningModel(1, self.old), decide=Decider(0.6))
        self.capture = Capture(ClickCamera(every_s=0.01), self.loop.take, timeout_s=30, rate_fps=100)
        self.loop.start()
        self.capture.start()
        while self.loop.version is None:
            time.sleep(0.01)
        canary = Canary(shelf.root.parent / "store", shelf, new, margin=0.05)
        self.swapper = Swapper(shelf, self.loop, new, canary, threads=1, rules=RULES)

    def stop(self) -> None:
        self.capture.stop()
        self.loop.stop()


@pytest.fixture
def bench(tmp_path: Path, tiny_backbone: bytes) -> Iterator[Callable[[Callable[[Path], Impulse]], Bench]]:
    made: list[Bench] = []

    def make(new: Callable[[Path], Impulse]) -> Bench:
        fleet = TinyFleet(tmp_path, tiny_backbone)
        shelf = fleet.shelf(tmp_path / "models", 1)
        shelf.accept(*fleet.version(2))
        shelf.offer(2)
        made.append(Bench(shelf, new))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def test_a_good_version_runs_afterwards_and_the_old_one_has_ended(
    bench: Callable[[Callable[[Path], Impulse]], Bench],
) -> None:
    b = bench(lambda path: start_impulse(path))  # the real .eim, assembled and started
    verdict = b.swapper.swap(2)
    assert verdict.accepted, verdict.reason
    assert (b.loop.version, b.shelf.current, b.shelf.previous, b.shelf.offered) == (2, 2, 1, None)
    assert b.old.closed
    assert verdict.swap is not None
    assert verdict.swap.frames_lost == 0
    assert verdict.swap.longest_gap_ms > 0
    assert verdict.swap.steady_p99_ms > 0
    assert read_verdict(b.shelf.root, 2) == verdict


def never_starts(_: Path) -> Impulse:
    raise ImpulseExitedError("the .eim ended with status 1")


def says_another_version(_: Path) -> Impulse:
    return ScriptedImpulse(7)


def silent_when_probed(_: Path) -> Impulse:
    def answer(_: int) -> None:
        raise ImpulseSilentError("no answer within 5 s")

    return ScriptedImpulse(2, answer)


def dies_in_live_work(_: Path) -> Impulse:
    def answer(asked: int) -> None:
        if asked == QUESTIONS + 2:  # the golden pictures, then the second live frame
            raise ImpulseExitedError("the .eim crashed")

    return ScriptedImpulse(2, answer)


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (never_starts, "ended with status 1"),
        (says_another_version, "says it is version 7"),
        (silent_when_probed, "no answer"),
        (dies_in_live_work, "failed in live work"),
    ],
)
def test_a_bad_version_leaves_the_old_one_answering_with_a_reason(
    bench: Callable[[Callable[[Path], Impulse]], Bench], new: Callable[[Path], Impulse], words: str
) -> None:
    b = bench(new)
    verdict = b.swapper.swap(2)
    assert not verdict.accepted
    assert words in verdict.reason
    assert (b.shelf.current, b.shelf.offered) == (1, None)
    ends = time.monotonic() + 5
    mark = b.loop.mark()
    while b.loop.pace_since(mark).decisions < 3 and time.monotonic() < ends:
        time.sleep(0.02)
    assert b.loop.version == 1
    assert b.loop.pace_since(mark).decisions >= 3


def test_a_damaged_part_on_disk_is_found_before_it_runs(
    bench: Callable[[Callable[[Path], Impulse]], Bench],
) -> None:
    b = bench(never_starts)
    head = b.shelf.manifest(2).parts["head"]
    (b.shelf.root / "parts" / head.sha256).write_bytes(b"rubbish")
    verdict = b.swapper.swap(2)
    assert not verdict.accepted
    assert "doesn't match its hash" in verdict.reason or "don't match its hash" in verdict.reason


def test_an_offer_found_at_start_is_taken_up(bench: Callable[[Callable[[Path], Impulse]], Bench]) -> None:
    b = bench(lambda _: ScriptedImpulse(2))
    b.swapper.start()
    ends = time.monotonic() + 15
    while b.shelf.current != 2 and time.monotonic() < ends:
        time.sleep(0.05)
    b.swapper.stop()
    assert (b.shelf.current, b.loop.version) == (2, 2)
    assert not [thread for thread in threading.enumerate() if thread.name == "swapper"]


def test_a_verdict_that_was_given_is_not_given_again(
    bench: Callable[[Callable[[Path], Impulse]], Bench],
) -> None:
    b = bench(never_starts)
    first = b.swapper.swap(2)
    b.shelf.offer(2)  # as if the power had gone before the offer was withdrawn
    assert b.swapper.swap(2) == first
    assert b.shelf.offered is None


def test_staging_twice_makes_the_same_file(tmp_path: Path, tiny_backbone: bytes) -> None:
    shelf = TinyFleet(tmp_path, tiny_backbone).shelf(tmp_path / "models", 1)
    path = stage(shelf, shelf.manifest(1), threads=1)
    first = path.read_bytes()
    path.write_bytes(first[:100])  # a card that forgets
    assert stage(shelf, shelf.manifest(1), threads=1).read_bytes() == first


# What stays on disk when something comes in between


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{", b'{"version": 2}'])
def test_a_damaged_verdict_counts_as_missing(
    bench: Callable[[Callable[[Path], Impulse]], Bench], content: bytes
) -> None:
    b = bench(lambda _: ScriptedImpulse(2))
    (b.shelf.root / "verdicts" / "2.json").write_bytes(content)
    assert b.swapper.swap(2).accepted


@pytest.mark.parametrize("state", ["commit", "rollback"])
def test_a_camera_with_a_full_disk_starts_and_finishes_later_what_was_cut_off(
    bench: Callable[[Callable[[Path], Impulse]], Bench], state: str
) -> None:
    starts: list[Path] = []

    def new(path: Path) -> Impulse:
        starts.append(path)
        return ScriptedImpulse(2)

    b = bench(new)
    write_trial(b.shelf.root, Trial(2, State(state), attempt=3, reason="because", failed_in="probe"))
    disk = FullDisk("previous" if state == "commit" else "2.json")
    with disk.mounted():
        resume(b.shelf)
    assert (b.shelf.current, read_verdict(b.shelf.root, 2), b.shelf.offered) == (1, None, 2)
    verdict = b.swapper.swap(2)
    # What had passed must get into the loop as well; what had failed is not tried again.
    assert verdict.accepted == (state == "commit")
    assert len(starts) == (1 if state == "commit" else 0)
    assert "because" in verdict.reason or verdict.accepted
    assert (read_trial(b.shelf.root), b.shelf.offered) == (None, None)


def test_a_trial_that_nobody_offers_any_more_is_void(bench: Callable[[Callable[[Path], Impulse]], Bench]) -> None:
    b = bench(never_starts)
    write_trial(b.shelf.root, Trial(2, State.SOAK, attempt=2))
    resume(b.shelf)
    assert read_trial(b.shelf.root) == Trial(2, State.SOAK, attempt=2)  # it is offered: it is tried again
    b.shelf.withdraw_offer()
    resume(b.shelf)
    assert read_trial(b.shelf.root) is None


def test_an_orderly_end_in_the_middle_of_a_soak_is_no_attempt(
    bench: Callable[[Callable[[Path], Impulse]], Bench],
) -> None:
    b = bench(lambda _: ScriptedImpulse(2))
    patient = SwapRules(soak_decisions=100_000, soak_deadline_s=60, exchange_deadline_s=5)
    canary = Canary(b.shelf.root.parent / "store", b.shelf, never_starts, margin=0.05)
    swapper = Swapper(b.shelf, b.loop, lambda _: ScriptedImpulse(2), canary, threads=1, rules=patient)
    swapper.start()
    ends = time.monotonic() + 20
    while (swapper.trial is None or swapper.trial.state != State.SOAK) and time.monotonic() < ends:
        time.sleep(0.02)
    swapper.stop()
    assert (b.loop.version, b.shelf.current, b.shelf.offered) == (1, 1, 2)
    assert (read_trial(b.shelf.root), read_verdict(b.shelf.root, 2)) == (None, None)


def test_an_unforeseen_error_costs_one_attempt_not_the_swapper(
    bench: Callable[[Callable[[Path], Impulse]], Bench], caplog: pytest.LogCaptureFixture
) -> None:
    failures = [ZeroDivisionError("a fault of ours")]

    def new(_: Path) -> Impulse:
        if failures:
            raise failures.pop()
        return ScriptedImpulse(2)

    b = bench(new)
    b.swapper.start()
    ends = time.monotonic() + 20
    while b.shelf.current != 2 and time.monotonic() < ends:
        time.sleep(0.05)
    b.swapper.stop()
    assert (b.shelf.current, b.loop.version) == (2, 2)
    assert "a fault of ours" in caplog.text
    assert "Traceback" in caplog.text


def test_an_offer_that_can_t_be_read_is_looked_at_again(bench: Callable[[Callable[[Path], Impulse]], Bench]) -> None:
    b = bench(lambda _: ScriptedImpulse(2))
    (b.shelf.root / "offered").write_bytes(b"\xff\n")
    b.swapper.start()
    time.sleep(0.8)
    b.shelf.offer(2)
    ends = time.monotonic() + 20
    while b.shelf.current != 2 and time.monotonic() < ends:
        time.sleep(0.05)
    b.swapper.stop()
    assert b.shelf.current == 2


def test_an_older_version_that_fails_at_a_person_s_wish_keeps_what_was_said_of_it(
    bench: Callable[[Callable[[Path], Impulse]], Bench],
) -> None:
    b = bench(never_starts)
    said = b.swapper.swap(2, by_person=True)
    assert not said.accepted
    assert "ended with status 1" in said.reason
    assert (read_verdict(b.shelf.root, 2), read_trial(b.shelf.root)) == (None, None)


def test_a_rollback_that_a_power_cut_interrupts_writes_no_verdict_on_the_older_version(
    bench: Callable[[Callable[[Path], Impulse]], Bench],
) -> None:
    b = bench(never_starts)
    write_trial(b.shelf.root, Trial(2, State.ROLLBACK, by_person=True, reason="it failed", failed_in="probe"))
    resume(b.shelf)
    assert (read_verdict(b.shelf.root, 2), read_trial(b.shelf.root)) == (None, None)
