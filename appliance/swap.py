"""Swaps a new model version in while the old one answers, or says why not.

The states are those of :mod:`appliance.models.trial`; each is on disk before it is entered. A version that fails is
quarantined with its reason: its verdict stands until a person asks for it again. Where something else stood in the
way, such as a full disk, the version waits and is tried again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.canary import Canary
from appliance.eim.runner import Impulse
from appliance.ending import commit, finish, keep, new_verdict
from appliance.errors import ConfigError, ModelError, PartError, SitecamError, SwapError, SwapPostponedError
from appliance.live import LiveLoop, RunningModel
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.models.trial import State, Trial, clear_trial, read_trial, write_trial
from appliance.models.verdict import SwapFigures, Verdict, standing_verdict
from appliance.pace import Pace
from appliance.probe import probe
from appliance.staging import stage

logger = logging.getLogger(__name__)

_STEADY_S = 5.0  # where nothing is known of the loop's pace yet, watch it this long first
_SLOWER_MS = 50.0  # beside slower_by: what a busy machine may add to any answer
_MOST_ATTEMPTS = 3  # restarts in the middle of a trial may be chance; three are the version's doing


@dataclass(frozen=True)
class SwapRules:
    """What a new version has to show.

    Attributes:
        soak_decisions: So many decisions in live work, without a fault.
        soak_deadline_s: Within this time.
        exchange_deadline_s: How long the loop may take to reach the gap between two frames.
        slower_by: Its answers may take so many times as long as the running version's.
        retry_s: A version that something else stood in the way of is tried again after so long.
    """

    soak_decisions: int
    soak_deadline_s: float = 180.0
    exchange_deadline_s: float = 30.0
    slower_by: float = 3.0
    retry_s: float = 300.0


class Swapper:
    """Watches the shelf for an offered version and swaps it in.

    Args:
        shelf: Where versions lie.
        loop: The live loop.
        start: Starts an ``.eim`` file.
        canary: Judges a version by this camera's own frames.
        threads: CPU threads that the model may use.
        rules: What a version has to show.
        entered: Told of every state once it is on disk; for the page, and for tests that pull the plug.
    """

    def __init__(
        self,
        shelf: Shelf,
        loop: LiveLoop,
        start: Callable[[Path], Impulse],
        canary: Canary,
        *,
        threads: int,
        rules: SwapRules,
        entered: Callable[[Trial], None] = lambda _: None,
    ) -> None:
        self._shelf = shelf
        self._loop = loop
        self._start_impulse = start
        self._canary = canary
        self._threads = threads
        self._rules = rules
        self._entered = entered
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="swapper", daemon=True)
        self._since = loop.mark()
        self._busy = threading.Lock()  # one trial at a time, whoever asks
        self._retry_at: dict[int, float] = {}  # time.monotonic() by version
        self._owed: tuple[Trial, Verdict] | None = None  # it fell, but there was no room to write it down
        self.trial: Trial | None = None

    def start(self) -> None:
        """Watch from now on."""
        self._since = self._loop.mark()
        self._thread.start()

    def stop(self, *, deadline_s: float = 10) -> None:
        """Watch no longer; a swap under way is abandoned and tried again after the next start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    def _watch(self) -> None:
        offered: int | None = None
        while not self._stopping.wait(0.5):
            try:
                offered = self._shelf.offered
                if offered is not None and time.monotonic() >= self._retry_at.get(offered, 0):
                    (self.swap if self._may_be_tried(offered) else self._withdraw)(offered)
            except Exception as error:
                # Whatever it was, the loop goes on with what it has, and this is tried again.
                unforeseen = not isinstance(error, SitecamError | OSError)
                logger.error("The swap could not be finished: %s", error, exc_info=unforeseen)
                if not self._stopping.wait(1) and offered is not None:
                    self._retry_at[offered] = time.monotonic() + self._rules.retry_s

    def _may_be_tried(self, version: int) -> bool:
        """An offer comes from the network, which can't bring an older version back, nor one that isn't here."""
        may = self._shelf.may_be_offered(version)
        if not may:
            logger.error("Version %d was offered, but is older than what runs, or not here", version)
        return may

    def swap(self, version: int, *, by_person: bool = False) -> Verdict:
        """Swap a version in, and keep the verdict.

        Args:
            version: On the shelf.
            by_person: Somebody asked for it, so it may be an older one, and is not judged by the own frames.

        Raises:
            OSError: The verdict or a pointer could not be written; the old version runs.
        """
        with self._busy:
            settled = self._settled(version)
            if settled is not None and not by_person:
                self._withdraw(version)
                return settled
            steady, mark = self._steady_pace(), self._loop.mark()
            trial = self._resumed(version, by_person=by_person)
            try:
                verdict = self._hold(trial)
            finally:
                self.trial = None
            self._close(trial, verdict := replace(verdict, swap=_figures(self._loop.pace_since(mark), steady)))
            return verdict

    def _settled(self, version: int) -> Verdict | None:
        """The final verdict that stands; one that fell when there was no room for it is written down now."""
        if self._owed:
            self._close(*self._owed)
        trial = read_trial(self._shelf.root)
        if trial and trial.version == version and _is_over(trial, self._loop.version):
            finish(self._shelf, trial)
        verdict = standing_verdict(self._shelf.root, version)
        return verdict if verdict is not None and verdict.final else None

    def _hold(self, trial: Trial) -> Verdict:
        """Go through the states; whatever happens, the result is a verdict and the loop has a model."""
        version = trial.version
        try:
            reason = self._earn(trial)
        except (SwapPostponedError, OSError, ConfigError) as error:
            return self._not_now(version, error)
        except SitecamError as error:
            if self._stopping.is_set():
                clear_trial(self._shelf.root)
                raise
            failed_in = (self.trial or trial).state
            try:
                self._enter(replace(trial, reason=str(error), failed_in=failed_in), State.ROLLBACK)
            except OSError as full:  # the verdict is told all the same; after a power cut the trial starts afresh
                logger.error("The end of the trial could not be written (%s)", full)
            return new_verdict(version, False, str(error), failed_in)
        return new_verdict(version, True, reason, State.COMMIT)

    def _not_now(self, version: int, error: SitecamError | OSError) -> Verdict:
        state = self.trial.state if self.trial else State.VERIFY
        if self._stopping.is_set():  # an orderly end is no attempt
            clear_trial(self._shelf.root)
            raise error
        self._retry_at[version] = time.monotonic() + self._rules.retry_s
        reason = f"Version {version} waits and is tried again: {error}"
        return new_verdict(version, False, reason, state, final=False)

    def _close(self, trial: Trial, verdict: Verdict) -> None:
        if verdict.final:
            self._owed = trial, verdict
        else:
            clear_trial(self._shelf.root)  # first: were the disk too full for the verdict, it would count as an attempt
        keep(self._shelf, trial, verdict)
        if verdict.final:
            self._withdraw(verdict.version)
        clear_trial(self._shelf.root)
        self._owed = None
        self._shelf.tidy()
        logger.info("Verdict on version %d: %s", verdict.version, verdict.reason)

    def _withdraw(self, version: int) -> None:
        if self._shelf.offered == version:
            self._shelf.withdraw_offer()

    def _resumed(self, version: int, *, by_person: bool) -> Trial:
        """A trial that a restart cut off counts as an attempt."""
        cut_off = read_trial(self._shelf.root)
        if cut_off is None or cut_off.version != version or by_person:
            return Trial(version, by_person=by_person)
        passed = cut_off.state == State.COMMIT  # there was no room for the pointers
        return Trial(version, attempt=cut_off.attempt + (not passed))

    def _enter(self, trial: Trial, state: State) -> None:
        entered = replace(trial, state=state)
        write_trial(self._shelf.root, entered)
        self.trial = entered
        self._entered(entered)

    def _earn(self, trial: Trial) -> str:
        """All states up to commit; returns why it runs now, in a sentence."""
        version, running = trial.version, self._shelf.current
        if trial.attempt > _MOST_ATTEMPTS:
            raise SwapError(f"The camera restarted {_MOST_ATTEMPTS} times while it tried version {version}")
        self._enter(trial, State.VERIFY)
        manifest = self._verify(trial, running)
        self._enter(trial, State.STAGE)
        path = stage(self._shelf, manifest, threads=self._threads)
        self._enter(trial, State.PROBE)
        typical_ms = self._loop.typical_ms
        impulse = self._start_impulse(path)
        try:
            longest_ms = max(self._rules.slower_by * typical_ms, typical_ms + _SLOWER_MS) if typical_ms else math.inf
            probe(impulse, manifest, longest_ms=longest_ms)
            self._enter(trial, State.JUDGE)
            judgement = ""
            if running is not None and not trial.by_person:
                judgement = self._canary.judge(impulse, version, running).sentence
            self._enter(trial, State.ACTIVATE)
            failed_before = self._loop.failed_answers
            self._loop.exchange(RunningModel(version, impulse), timeout_s=self._rules.exchange_deadline_s)
        except BaseException:
            impulse.close()
            raise
        try:
            self._enter(trial, State.SOAK)
            self._soak(version, failed_before, longest_ms)
            reason = f"It answered every probe and {self._rules.soak_decisions} live frames. {judgement}".strip()
            self._enter(replace(trial, reason=reason), State.COMMIT)
            commit(self._shelf, replace(trial, reason=reason))
        except BaseException:
            self._loop.revert(timeout_s=self._rules.exchange_deadline_s)
            raise
        self._loop.settle()
        if running is not None and self._loop.version == running != version:
            self._shelf.go_back(running)  # it failed in the moment of its commit, and the old one took over
            raise _failed_live(version, self._loop)
        return reason

    def _verify(self, trial: Trial, running: int | None) -> Manifest:
        manifest = self._shelf.manifest(trial.version)
        labels = self._labels(running)
        if labels and labels != manifest.labels:
            raise SwapError(
                f"Version {trial.version} has the labels {', '.join(manifest.labels)}",
                means=f"A fleet's labels and their order are fixed: {', '.join(labels)}; the old version runs",
            )
        for role, part in manifest.parts.items():
            if role not in manifest.needed and not self._shelf.has(part.sha256):
                continue  # it was built for another machine
            try:
                self._shelf.part(part)
            except PartError:
                self._shelf.discard_damaged(part)
                raise
        return manifest

    def _labels(self, running: int | None) -> tuple[str, ...]:
        """The fleet's labels; none where what runs can't be read, which is not the new version's fault."""
        try:
            return self._shelf.manifest(running).labels if running is not None else ()
        except ModelError as error:
            logger.error("The labels of version %s can't be compared: %s", running, error)
            return ()

    def _steady_pace(self) -> Pace:
        ends = time.monotonic() + _STEADY_S
        while self._loop.pace_since(self._since).decisions < 20 and time.monotonic() < ends:
            if self._stopping.wait(0.1):
                break
        return self._loop.pace_since(self._since)

    def _soak(self, version: int, failed_before: int, longest_ms: float) -> None:
        mark = self._loop.mark()
        ends = time.monotonic() + self._rules.soak_deadline_s
        while not self._stopping.wait(0.05):
            if self._loop.failed_answers > failed_before:
                raise _failed_live(version, self._loop)
            done, late = self._loop.pace_since(mark).decisions, time.monotonic() > ends
            if done < self._rules.soak_decisions and not late:
                continue
            if self._loop.typical_ms > longest_ms:
                raise SwapError(
                    f"Version {version} needed {self._loop.typical_ms:.0f} ms for a frame in live work",
                    means=f"More than {longest_ms:.0f} ms would slow the camera down; the old one runs",
                )
            if done >= self._rules.soak_decisions:
                return
            break
        raise SwapPostponedError(
            f"It was not asked about {self._rules.soak_decisions} live frames in time",
            means="Too few came to judge it; the old one runs",
            do="Look at the camera's fault on the page",
        )


def _is_over(trial: Trial, running: int | None) -> bool:
    """Whether only its end has to be written down, with the loop as it is."""
    return trial.state == State.ROLLBACK or (trial.state == State.COMMIT and trial.version == running)


def _failed_live(version: int, loop: LiveLoop) -> SwapError:
    return SwapError(f"Version {version} failed in live work: {loop.last_failure}", means="The old one runs")


def _figures(pace: Pace, steady: Pace) -> SwapFigures:
    return SwapFigures(pace.dropped, round(pace.longest_gap_ms, 1), round(steady.p99_gap_ms, 1))
