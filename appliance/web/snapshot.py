"""The page's state as JSON: one shape for ``/api/status`` and every event of ``/api/live``."""

from __future__ import annotations

import math
from dataclasses import asdict
from datetime import UTC, datetime, tzinfo
from typing import Any

from appliance.events import Event
from appliance.frame import Decision, Frame
from appliance.system import SystemState
from appliance.web.source import PageSource, PageStatus

_MINUTES, _SECONDS = "%H:%M", "%H:%M:%S"


def snapshot(source: PageSource, zone: tzinfo) -> dict[str, Any]:
    """The state right now.

    Times are given twice: ``*_utc`` in ISO 8601 for programs, and beside it the site's time as it stands on
    screens; with seconds where something may last only moments.

    Args:
        source: The live loop.
        zone: The site's time zone.
    """
    status, newest = source.status(), source.newest(-1, 0)
    now = datetime.now(UTC)
    frame, decision = newest or (None, None)
    night, verdict = status.night, status.last_verdict
    return {
        "camera": status.camera,
        "fleet": status.fleet,
        "labels": list(status.labels),
        "clock": _on_screen(now, now, zone),
        "frame": _frame(frame, now, zone),
        "decision": _decision(decision),
        "model": _model(status, now, zone),
        "loop": {
            "decisions_per_s": round(status.decisions_per_s, 2),
            "frames_dropped": status.frames_dropped,
        },
        "faults": {"camera": status.camera_fault, "model": status.model_fault},
        "conditions": [
            {"kind": each.kind, "sentence": each.sentence, **times("since", each.since_utc, now, zone, clock=_SECONDS)}
            for each in status.conditions
        ],
        "trial": status.trial and {"version": status.trial.version, "state": status.trial.state},
        "alarm": status.alarm and _event(status.alarm, now, zone),
        "events": [_event(event, now, zone) for event in status.events],
        "night": {
            "phase": night.phase,
            "night": night.night,
            "round": night.round,
            "rounds": night.rounds,
            "message": night.message,
            **times("updated", night.updated_utc, now, zone),
        },
        "tonight": status.tonight,
        "recorder": status.recorder,
        "system": status.system and _system(status.system),
        "store": status.store and asdict(status.store),
        "queue": status.queue and asdict(status.queue),
        "neighbours": [asdict(each) for each in status.neighbours],
        "last_verdict": verdict
        and {
            "version": verdict.version,
            "accepted": verdict.accepted,
            "sentence": verdict.sentence,
            "state": verdict.state,
            "quarantined": verdict.quarantined,
            **times("at", verdict.at_utc, now, zone),
        },
    }


def _frame(frame: Frame | None, now: datetime, zone: tzinfo) -> dict[str, Any] | None:
    if frame is None:
        return None
    height, width = frame.pixels.shape[:2]
    return {
        "sequence": frame.sequence,
        "width": width,
        "height": height,
        "age_s": round(max(0.0, (now - frame.taken_utc).total_seconds()), 1),
        "taken_utc": frame.taken_utc.isoformat(),
        "taken": frame.taken_utc.astimezone(zone).strftime(_SECONDS),
    }


def _decision(decision: Decision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    prediction = decision.prediction
    return {
        "label": decision.label,
        "confidence": round(decision.confidence, 4),
        "doubt": str(decision.doubt),
        "familiarity": _number(decision.familiarity),
        "scores": {label: round(score, 4) for label, score in prediction.scores.items()},
        "version": prediction.version,
        "classify_ms": round(prediction.classify_ms, 1),
    }


def _event(event: Event, now: datetime, zone: tzinfo) -> dict[str, Any]:
    lasted = None if event.ended_utc is None else (event.ended_utc - event.began_utc).total_seconds()
    return {
        "id": event.id,
        "kind": event.kind,
        "sentence": event.sentence,
        "snapshot": event.snapshot,
        "acknowledged_by": event.acknowledged_by,
        "detail": {name: _number(value) for name, value in event.detail.items()},
        **times("began", event.began_utc, now, zone, clock=_SECONDS),
        **times("ended", event.ended_utc, now, zone, clock=_SECONDS),
        "lasted_s": None if lasted is None else round(max(0.0, lasted), 1),
    }


def _system(system: SystemState) -> dict[str, Any]:
    """Figures for programs, ``lines`` and ``warnings`` for people."""
    return {**asdict(system), "lines": system.lines(), "warnings": list(system.warnings)}


def _model(status: PageStatus, now: datetime, zone: tzinfo) -> dict[str, Any]:
    return {
        "version": status.model_version,
        **times("since", status.model_since_utc, now, zone),
        "history": [
            {"version": change.version, **times("since", change.since_utc, now, zone)} for change in status.history
        ],
    }


def _number(value: float | None) -> float | None:
    """JSON knows no NaN, and one would cost the reader the whole state."""
    return None if value is None or not math.isfinite(value) else round(value, 4)


def times(
    name: str, at: datetime | None, now: datetime, zone: tzinfo, *, clock: str = _MINUTES
) -> dict[str, str | None]:
    """A time twice, as ``NAME_utc`` for programs and as ``NAME`` for screens; both None where there is none.

    Args:
        name: What it is called.
        at: Timezone-aware.
        now: Likewise; the day is left out where it is today's.
        zone: The site's time zone.
        clock: How the time of day looks on screens.
    """
    if at is None:
        return {f"{name}_utc": None, name: None}
    return {f"{name}_utc": at.isoformat(), name: _on_screen(at, now, zone, clock)}


def _on_screen(at: datetime, now: datetime, zone: tzinfo, clock: str = _MINUTES) -> str:
    """The site's time, with the day where it isn't today and the year where it isn't this one."""
    local, today = at.astimezone(zone), now.astimezone(zone)
    if local.date() == today.date():
        return local.strftime(clock)
    year = "" if local.year == today.year else f" {local.year}"
    return f"{local.day} {local.strftime('%b')}{year}, {local.strftime(clock)}"
