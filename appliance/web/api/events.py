"""What happened in front of the camera or to it: the list, an event's trail and picture, and what people say of it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from appliance.errors import NotThereError
from appliance.events import Event, EventLog, Vote
from appliance.web.problems import Refusal
from appliance.web.roles import Labeller, Viewer
from appliance.web.snapshot import times

_SECONDS = "%H:%M:%S"
_Id = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="32 hex digits")]
_NOT_THERE: dict[int | str, dict[str, Any]] = {404: {"model": Refusal, "description": "There is no such event"}}
_UNWRITTEN = _NOT_THERE | {507: {"model": Refusal, "description": "There is no room to write it down"}}


class Nothing(BaseModel):
    """An empty object."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def router(log: EventLog, zone: tzinfo) -> APIRouter:
    """Routes of events.

    Args:
        log: The camera's events.
        zone: The site's time zone.
    """
    routes = APIRouter(prefix="/api/events", tags=["events"])

    @routes.get("", responses=_NOT_THERE)
    def events(
        caller: Viewer,  # noqa: ARG001  # the parameter is the demand
        before: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$", description="only older than this event")] = None,
        kind: Annotated[str | None, Query(max_length=40, description="seen, dark, frozen, slow, no picture")] = None,
        open_only: Annotated[bool, Query(alias="open", description="only what nobody has looked at yet")] = False,
        count: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> dict[str, Any]:
        """Events, newest first. ``fault`` says why they are in memory only; null where they are on the disk."""
        found = log.events(before=before, kind=kind, open_only=open_only, count=count + 1)
        now = datetime.now(UTC)
        shown = [_shown(event, now, zone) for event in found[:count]]
        return {"events": shown, "more": len(found) > count, "fault": log.fault}

    @routes.get("/{event_id}", responses=_NOT_THERE)
    def event(event_id: _Id, caller: Viewer) -> dict[str, Any]:  # noqa: ARG001
        """An event with its trail: what was decided, by which version, on the way to it and through it."""
        now = datetime.now(UTC)
        trail = [_step(vote, now, zone) for vote in log.trail(event_id)]
        return _shown(log.event(event_id), now, zone) | {"trail": trail}

    @routes.get(
        "/{event_id}/snapshot",
        response_class=Response,
        responses=_NOT_THERE | {200: {"content": {"image/jpeg": {}}, "description": "A JPEG file"}},
    )
    def snapshot(event_id: _Id, caller: Viewer) -> Response:  # noqa: ARG001
        """The picture that shows it best."""
        log.event(event_id)
        jpeg = log.snapshot(event_id)
        if jpeg is None:
            raise NotThereError("There is no picture of this event", means="None was kept of it")
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    @routes.post("/{event_id}/acknowledge", responses=_UNWRITTEN)
    def acknowledge(event_id: _Id, caller: Labeller, body: Nothing) -> dict[str, Any]:  # noqa: ARG001
        """Take note of an event; who was first stays."""
        return _shown(log.acknowledge(event_id, caller.name), datetime.now(UTC), zone)

    @routes.post("/{event_id}/false", responses=_UNWRITTEN)
    def false(event_id: _Id, caller: Labeller, body: Nothing) -> dict[str, Any]:  # noqa: ARG001
        """Say that it was none: its picture comes first in the labelling queue, so that the model learns from it."""
        return _shown(log.mark_false(event_id, caller.name), datetime.now(UTC), zone)

    return routes


def _shown(event: Event, now: datetime, zone: tzinfo) -> dict[str, Any]:
    lasted = None if event.ended_utc is None else (event.ended_utc - event.began_utc).total_seconds()
    return {
        "id": event.id,
        "kind": event.kind,
        "sentence": event.sentence,
        **times("began", event.began_utc, now, zone, clock=_SECONDS),
        **times("ended", event.ended_utc, now, zone, clock=_SECONDS),
        "lasted_s": None if lasted is None else round(max(0.0, lasted), 1),
        "detail": {
            name: round(value, 4) if math.isfinite(value) else None for name, value in event.detail.items()
        },  # JSON knows no NaN
        "snapshot": event.snapshot,
        "acknowledged_by": event.acknowledged_by,
        **times("acknowledged", event.acknowledged_utc, now, zone),
        "false": event.false,
    }


def _step(vote: Vote, now: datetime, zone: tzinfo) -> dict[str, Any]:
    return {
        **times("at", vote.at_utc, now, zone, clock=_SECONDS),
        "label": vote.label,
        "confidence": vote.confidence,
        "version": vote.version,
    }
