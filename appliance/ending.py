"""How a trial ends on disk: pointers, verdict, offer. Every step may be done twice, so a power cut is made good."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from appliance.models.shelf import Shelf
from appliance.models.trial import State, Trial, clear_trial, read_trial
from appliance.models.verdict import Verdict, write_verdict

logger = logging.getLogger(__name__)

_LAST = (State.COMMIT, State.ROLLBACK)


def commit(shelf: Shelf, trial: Trial) -> None:
    """Let the pointers name the version. Doing it twice does it once: a power cut in between is made good."""
    current = shelf.current
    if current == trial.version:
        return
    if trial.by_person and current is not None and trial.version < current:
        reason = f"Somebody went back to version {trial.version}"
        write_verdict(shelf.root, new_verdict(current, False, reason, State.ROLLBACK))
        shelf.go_back(trial.version)
    else:
        shelf.activate(trial.version)


def resume(shelf: Shelf) -> None:
    """Finish what a power cut interrupted; call it before the loop starts.

    A trial in ``commit`` or ``rollback`` is brought to its end. One in an earlier state is left for the swapper,
    which tries again and counts the attempt, unless nobody offers that version any more; meanwhile the old version
    runs. Where the disk refuses, it is logged: a camera with a full disk must start all the same.
    """
    trial = read_trial(shelf.root)
    if trial is None:
        return
    try:
        if trial.state in _LAST:
            finish(shelf, trial)
        elif shelf.offered != trial.version:
            clear_trial(shelf.root)
    except OSError as error:
        logger.error("Version %d: what a restart cut off can't be finished yet (%s)", trial.version, error)


def finish(shelf: Shelf, trial: Trial) -> None:
    """Bring a trial in its last state to its end.

    Raises:
        OSError: The disk refused; doing it again finishes it.
    """
    accepted = trial.state == State.COMMIT
    if accepted:
        commit(shelf, trial)
    keep(shelf, trial, new_verdict(trial.version, accepted, trial.reason, trial.failed_in or State.COMMIT))
    if shelf.offered == trial.version:
        shelf.withdraw_offer()
    clear_trial(shelf.root)
    logger.info("Version %d: finished what was cut off (%s)", trial.version, trial.state)


def keep(shelf: Shelf, trial: Trial, verdict: Verdict) -> None:
    """Write a verdict, unless somebody asked for an older version, which did not work: what it was, it still is."""
    if verdict.accepted or not trial.by_person:
        write_verdict(shelf.root, verdict)


def new_verdict(version: int, accepted: bool, reason: str, state: str, *, final: bool = True) -> Verdict:
    """A verdict as of now."""
    return Verdict(version, accepted, reason, datetime.now(UTC), state=str(state), final=final)
