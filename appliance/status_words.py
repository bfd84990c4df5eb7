"""``sitecam status``: how a camera is, for a terminal or as JSON, also when its process is dead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from appliance.status import Status, warnings
from appliance.status_file import as_json, complaint_of, read_status


def tell_status(state_dir: Path, *, json_wanted: bool, now: datetime | None = None) -> tuple[int, str]:
    """How the camera of a state folder is.

    Args:
        state_dir: Its state folder.
        json_wanted: As JSON; else as lines for a person.
        now: Timezone-aware; the clock's if left out.

    Returns:
        The exit code, 0 where it watches and nothing is wrong, 1 otherwise; and what to print.
    """
    status = read_status(state_dir)
    wrong = complaint_of(status, now)
    code = 1 if wrong else 0
    if not json_wanted:
        return code, "\n".join(_lines(status, wrong, now or datetime.now(UTC)))
    body = {"healthy": not wrong, "complaint": wrong, "running": status is not None and status.alive}
    return code, json.dumps({**body, "status": status and json.loads(as_json(status))}, indent=1)


def _lines(status: Status | None, wrong: str, now: datetime) -> Iterator[str]:
    yield f"{'fault' if wrong else 'ok':<8} {wrong or 'It watches.'}"
    if status is None:
        return
    for sentence in warnings(status):
        yield f"{'warning':<8} {sentence}"
    if not status.alive:
        yield "Before that it said:"
    for name, text in _facts(status, now):
        if text:
            yield f"  {name:<18} {text}"


def _facts(status: Status, now: datetime) -> Iterator[tuple[str, str]]:
    loop, model, night = status.loop, status.model, status.night
    yield "camera", f"{status.camera}{f', fleet {status.fleet}' if status.fleet else ''}"
    yield "page", f"{status.page}, {status.viewers} watching" if status.page else ""
    yield "live loop", f"{loop.decisions_per_s:.1f} decisions a second, {loop.inference_ms:.0f} ms for one"
    yield "frames dropped", str(loop.frames_dropped)
    if model.version is None:
        yield "model", "none answers"
    else:
        age = "" if model.created_utc is None else f", {_span(now, model.created_utc)} old"
        yield "model", f"version {model.version}{age}"
    yield "swaps so far", f"{model.accepted} taken, {model.refused} refused, {model.waiting} waiting"
    yield "on trial", model.trial or ""
    if model.verdict is not None:
        yield "last verdict", f"version {model.verdict.version}: {model.verdict.sentence}"
    yield "alarm", status.alarm or ""
    if status.store is not None:
        store = status.store
        yield "store", f"{store.size_bytes // 2**20} of {store.budget_bytes // 2**20} MB. {store.sentence}".strip()
    if status.written_bytes is not None:
        per_day = status.written_per_day_bytes
        pace = "" if per_day is None else f", {per_day / 2**20:.0f} MB a day"
        yield "written to disk", f"{status.written_bytes / 2**20:.1f} MB since the start{pace}"
    yield "recorder", status.recorder
    if status.queue is not None:
        yield "labelling", f"{status.queue.done_today} done today, {status.queue.waiting} frames wait"
    yield "tonight", night.tonight
    if night.night is not None:
        when = "" if night.at_utc is None else f" ({_span(now, night.at_utc)} ago)"
        yield "last night", f"{night.night}: {night.phase}{when}. {night.sentence}"
        yield "its traffic", f"{night.up_bytes:,} bytes left, {night.down_bytes:,} came"
    for neighbour in status.neighbours:
        yield neighbour.name, f"{neighbour.sentence} {neighbour.sent} sent, {neighbour.waiting} waiting"
    if status.system is not None:
        yield from status.system.lines().items()


def _span(now: datetime, since: datetime) -> str:
    minutes = max(0, round((now - since).total_seconds() / 60))
    if minutes < 120:
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 48 * 60 else f"{minutes // 1440} days"
