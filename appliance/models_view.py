"""The model versions on a camera, for ``sitecam models`` and the page; and changing them from the page."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

from appliance.by_hand import Wish, ask, target
from appliance.errors import ModelError, SitecamError, SwapError
from appliance.models.shelf import Shelf
from appliance.models.trial import read_trial
from appliance.models.verdict import standing_verdict

_ANSWER_S = 15.0  # a page that waits longer looks dead; the live page shows how a trial goes


@dataclass(frozen=True)
class ModelRow:
    """One version on the shelf.

    Attributes:
        version: Which.
        runs: Whether it is the one that runs.
        state: In words: ``runs``, ``previous``, ``on trial: soak``, ``quarantined``, ``waits``; empty for none of them.
        factory: Whether enrolment brought it.
        created_utc: When the fleet made it.
        night: The night that made it; None for the first.
        metrics: What the server measured, by name.
        verdict: Why it was (not) taken here; None before it was tried.
        decided_in: The swap's state in which that was decided.
        problem: Why nothing else is known of it: its manifest is damaged.
        local: The name of a local version, which a person added here; None for the fleet's.
    """

    version: int
    runs: bool
    state: str
    factory: bool
    created_utc: datetime | None = None
    night: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    verdict: str | None = None
    decided_in: str | None = None
    problem: str | None = None
    local: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "created_utc": self.created_utc.isoformat() if self.created_utc else None}

    def line(self) -> str:
        """For a terminal."""
        mark = "*" if self.runs else " "
        state = f"{self.state}{' (factory)' if self.factory else ''}{' (local)' if self.local else ''}".strip()
        made = self.created_utc.isoformat() if self.created_utc else "?"
        words = ". ".join(filter(None, (self.local, self.problem or self.verdict)))
        return f"{mark} {self.version:>4}  {made}  {state:<20}  {words}".rstrip()


def rows(shelf: Shelf) -> list[ModelRow]:
    """Every version here, the oldest first. One whose manifest is damaged is listed with that."""
    trial, current, previous, offered = read_trial(shelf.root), shelf.current, shelf.previous, shelf.offered
    found = []
    for version in shelf.versions():
        verdict = standing_verdict(shelf.root, version)
        state = "runs" if version == current else "previous" if version == previous else ""
        if trial and trial.version == version:
            state = f"on trial: {trial.state}"
        elif verdict and verdict.quarantined:
            state = "quarantined"
        elif version == offered:
            state = "waits"
        row = ModelRow(
            version=version,
            runs=version == current,
            state=state,
            factory=version == shelf.factory,
            verdict=verdict.reason if verdict else None,
            decided_in=verdict.state if verdict else None,
        )
        found.append(_described(row, shelf))
    return found


def _described(row: ModelRow, shelf: Shelf) -> ModelRow:
    try:
        manifest = shelf.manifest(row.version)
    except (ModelError, OSError) as error:
        return replace(row, problem=str(error))
    local = manifest.foreign.name if manifest.foreign else None
    found = replace(row, created_utc=manifest.created_utc, night=manifest.night, metrics=dict(manifest.metrics))
    return replace(found, local=local)


class ModelChanger:
    """Changes the running model on somebody's word, one wish at a time.

    The wish goes the way that the commands go, through :class:`appliance.by_hand.HandOver`, so that a command and
    the page are never answered at once.

    Args:
        shelf: Where versions lie.
        answer_s: After so long without an end, a sentence says that it goes on.
    """

    def __init__(self, shelf: Shelf, *, answer_s: float = _ANSWER_S) -> None:
        self._shelf = shelf
        self._answer_s = answer_s
        self._busy = threading.Lock()

    def change(self, wish: Wish, version: int = 0) -> str:
        """Do what was asked, or begin to.

        Args:
            wish: See :class:`appliance.by_hand.Request`.
            version: For ``try``.

        Returns:
            What was done, or that it is under way, in a sentence.

        Raises:
            ModelError: It can't be; nothing was changed.
            SwapError: It was refused or did not work, with the reason; or another wish is under way.
        """
        wanted = target(self._shelf, wish, version)
        if not self._busy.acquire(blocking=False):
            raise SwapError("Another change of the model is under way", means="Nothing was changed", do="Wait for it")
        outcome: list[str | SitecamError | OSError] = []

        def work() -> None:
            try:
                outcome.append(ask(self._shelf, wish, version))
            except (SitecamError, OSError) as error:
                outcome.append(error)
            finally:
                self._busy.release()

        thread = threading.Thread(target=work, name="models-by-page", daemon=True)
        thread.start()
        thread.join(self._answer_s)
        if not outcome:
            return f"Version {wanted} is on its way into the live loop; its verdict comes within minutes."
        if isinstance(outcome[0], str):
            return outcome[0]
        raise outcome[0]
