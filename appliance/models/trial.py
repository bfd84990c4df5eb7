"""The trial of a new version as it stands on disk: which state was entered last, so that a power cut can be resumed.

    verify    signature, hashes, labels
    stage     assemble the .eim
    probe     start it beside the running one, ask it what it must know
    judge     this camera's own labelled test frames
    activate  exchange it in the loop, between two frames
    soak      live work, the old one still at hand
    commit    it runs from now on, and after the next start       (redone after a power cut)
    rollback  the old one stays; the reason becomes the verdict   (redone after a power cut)

A state is written before it is entered. Until ``commit`` the pointer ``current`` names the old version, so whatever
happens in between, the camera boots into a model that works.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from appliance.files import sync_folder, write_atomically

logger = logging.getLogger(__name__)


class State(StrEnum):
    """Where a trial stands."""

    VERIFY = "verify"
    STAGE = "stage"
    PROBE = "probe"
    JUDGE = "judge"
    ACTIVATE = "activate"
    SOAK = "soak"
    COMMIT = "commit"
    ROLLBACK = "rollback"


@dataclass(frozen=True)
class Trial:
    """One version's way into the loop.

    Attributes:
        version: Which.
        state: Entered last.
        attempt: Counts from 1; a trial that a restart cut off is tried again, but not for ever.
        by_person: Somebody asked for it: it may be an older version, and its own failure puts nothing in quarantine.
        reason: For ``commit`` and ``rollback``: the verdict's sentence.
        failed_in: For ``rollback``: the state in which it failed.
    """

    version: int
    state: State = State.VERIFY
    attempt: int = 1
    by_person: bool = False
    reason: str = ""
    failed_in: str = ""


def write_trial(models: Path, trial: Trial) -> None:
    """Enter a state.

    Raises:
        OSError: The disk refused; the state before still stands there.
    """
    write_atomically(models / "trial.json", json.dumps(dataclasses.asdict(trial)).encode() + b"\n")


def read_trial(models: Path) -> Trial | None:
    """The trial that was under way; None where there was none. A damaged file is none, and is logged."""
    path = models / "trial.json"
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        return Trial(
            version=int(body["version"]),
            state=State(body["state"]),
            attempt=int(body["attempt"]),
            by_person=bool(body["by_person"]),
            reason=str(body["reason"]),
            failed_in=str(body["failed_in"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s can't be read (%r); the old model runs, and the offer is tried afresh", path, error)
        return None


def clear_trial(models: Path) -> None:
    """The trial is over."""
    (models / "trial.json").unlink(missing_ok=True)
    sync_folder(models)
