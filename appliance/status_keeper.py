"""Looks around every few seconds, for the page, for /metrics and for the status file."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from appliance import __version__
from appliance.cached import Cached
from appliance.errors import ModelError
from appliance.ledger_reader import last_traffic
from appliance.live import LiveLoop
from appliance.models.shelf import Shelf
from appliance.models.verdict import Verdict, standing_verdict
from appliance.paths import CameraPaths
from appliance.status import (
    ConditionState,
    LoopState,
    ModelState,
    NightState,
    ProcessState,
    Status,
    VerdictState,
)
from appliance.status_file import StatusFile, own_process
from appliance.store.written import process_written_bytes
from appliance.surroundings import Sources, Surroundings
from appliance.web.source import PageStatus, PageVerdict

logger = logging.getLogger(__name__)

_TICK_S = 5.0
_AROUND_S = 15.0
_HOUR_S = 3600.0
_DAY_S = 86400.0
_SOONEST_S = 10.0  # a fault that comes and goes must not write the card to death


class StatusKeeper:
    """Knows how the camera is.

    Args:
        page: What the page shows; :meth:`appliance.watch.Watch.status`.
        loop: The live loop.
        shelf: Its models.
        paths: The camera's state folder.
        file: Where to write the status.
        sources: Whom to ask for everything around the loop.
        page_url: The page's address.
        viewers: How many watch the live picture.
        verdict_came: Told the outcome of every verdict as it comes: ``accepted``, ``refused`` or ``waiting``.
    """

    def __init__(
        self,
        page: Callable[[], PageStatus],
        loop: LiveLoop,
        shelf: Shelf,
        paths: CameraPaths,
        file: StatusFile,
        sources: Sources,
        *,
        page_url: Callable[[], str] = str,
        viewers: Callable[[], int] = int,
        verdict_came: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._page = page
        self._loop = loop
        self._shelf = shelf
        self._file = file
        self._sources = sources
        self._page_url = page_url
        self._viewers = viewers
        self._verdict_came = verdict_came
        self._verdicts: Cached[dict[int, Verdict]] = Cached(shelf.root / "verdicts", self._read_verdicts)
        self._traffic: Cached[tuple[int, int]] = Cached(paths.ledger, lambda: last_traffic(paths.ledger))
        self._process: ProcessState = own_process(__version__)
        self._known: dict[int, Verdict] | None = None
        self._created: tuple[int, datetime | None] | None = None
        self._pace: deque[tuple[float, int]] = deque()  # time.monotonic(), bytes written, one an hour
        self._next_look_s = 0.0
        self._written: tuple[float, tuple[object, ...]] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="status", daemon=True)
        self.surroundings = Surroundings()

    def start(self) -> None:
        """Look around from now on."""
        self._thread.start()

    def stop(self, *, deadline_s: float = 10) -> None:
        """Look no more, and write down that the process ended in order."""
        self._stopping.set()
        if not self._thread.is_alive():
            return
        self._thread.join(deadline_s)
        self._write(replace(self.status(), ended_utc=datetime.now(UTC)))

    def status(self) -> Status:
        """How the camera is now; what is slow to find out as of some seconds ago."""
        page, around = self._page(), self.surroundings
        up_bytes, down_bytes = self._traffic()
        night = page.night
        return Status(
            camera=page.camera,
            fleet=page.fleet,
            written_utc=datetime.now(UTC),
            every_s=self._file.every_s,
            process=self._process,
            page=self._page_url(),
            viewers=self._viewers(),
            faults=_faults(page),
            conditions=tuple(ConditionState(each.kind, each.sentence, each.since_utc) for each in page.conditions),
            alarm=page.alarm.sentence if page.alarm else None,
            loop=LoopState(
                decisions_per_s=round(page.decisions_per_s, 2),
                frames_dropped=page.frames_dropped,
                answers_failed=self._loop.failed_answers,
                inference_ms=round(self._loop.typical_ms, 2),
            ),
            model=replace(
                self._model(page),
                verdict=_verdict(page.last_verdict),
                trial=f"version {page.trial.version}: {page.trial.state}" if page.trial else None,
            ),
            system=around.system,
            store=around.store,
            queue=around.queue,
            night=NightState(
                phase=night.phase,
                night=night.night,
                sentence=night.message,
                at_utc=night.updated_utc,
                up_bytes=up_bytes,
                down_bytes=down_bytes,
                tonight=around.tonight,
            ),
            neighbours=around.neighbours,
            recorder=around.recorder,
            written_bytes=process_written_bytes(),
            written_per_day_bytes=self._per_day(),
        )

    def _model(self, page: PageStatus) -> ModelState:
        outcomes = [outcome(verdict) for verdict in self._verdicts().values()]
        version = page.model_version
        if version is not None and (self._created is None or self._created[0] != version):
            self._created = version, self._created_utc(version)
        return ModelState(
            version=version,
            created_utc=self._created[1] if self._created and version is not None else None,
            since_utc=page.model_since_utc,
            accepted=outcomes.count("accepted"),
            refused=outcomes.count("refused"),
            waiting=outcomes.count("waiting"),
        )

    def _created_utc(self, version: int) -> datetime | None:
        try:
            return self._shelf.manifest(version).created_utc
        except (ModelError, OSError) as error:
            logger.warning("The age of version %d is not known: %s", version, error)
            return None

    def _read_verdicts(self) -> dict[int, Verdict]:
        found = {version: standing_verdict(self._shelf.root, version) for version in self._shelf.versions()}
        return {version: verdict for version, verdict in found.items() if verdict is not None}

    # The thread

    def _work(self) -> None:
        while True:
            try:
                self._tick()
            except Exception:
                logger.exception("The status could not be found out; it is tried again")
            if self._stopping.wait(_TICK_S):
                return

    def _tick(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + _AROUND_S
            self.surroundings = self._sources.look()
            self._note_pace(now_s)
        self._note_verdicts()
        status = self.status()
        wrong: tuple[object, ...] = (status.faults, [each.kind for each in status.conditions], status.model.version)
        age_s = float("inf") if self._written is None else now_s - self._written[0]
        changed = self._written is None or self._written[1] != wrong
        if age_s >= self._file.every_s or (changed and age_s >= _SOONEST_S):
            self._write(status)
            self._written = now_s, wrong

    def _write(self, status: Status) -> None:
        try:
            self._file.write(status)
        except OSError as error:
            logger.warning("The status could not be written (%s); the page still shows it", error)

    def _note_verdicts(self) -> None:
        """Tell of verdicts that were not there before."""
        found = self._verdicts()
        if self._known is not None:
            for version, verdict in found.items():
                before = self._known.get(version)
                if before is None or before.at_utc != verdict.at_utc:
                    self._verdict_came(outcome(verdict))
        self._known = found

    def _note_pace(self, now_s: float) -> None:
        written = process_written_bytes()
        if written is None or (self._pace and now_s - self._pace[-1][0] < _HOUR_S):
            return
        self._pace.append((now_s, written))
        while now_s - self._pace[0][0] > _DAY_S:
            self._pace.popleft()

    def _per_day(self) -> int | None:
        written = process_written_bytes()
        if written is None or not self._pace:
            return None
        since_s, before = self._pace[0]
        passed_s = time.monotonic() - since_s
        return None if passed_s < _HOUR_S else round((written - before) * _DAY_S / passed_s)


def outcome(verdict: Verdict) -> str:
    """A verdict in one word."""
    if verdict.accepted:
        return "accepted"
    return "refused" if verdict.final else "waiting"


def _faults(page: PageStatus) -> tuple[str, ...]:
    """Why nobody is watching; a model that is still being started is a reason too."""
    starting = "No model answers yet: it is being started." if page.model_version is None else None
    return tuple(fault for fault in (page.camera_fault, page.model_fault or starting) if fault)


def _verdict(shown: PageVerdict | None) -> VerdictState | None:
    if shown is None:
        return None
    return VerdictState(shown.version, shown.accepted, shown.sentence, shown.at_utc, shown.quarantined)
