"""What left this camera, and having it forgotten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from appliance.forget_asking import Forgetter
from appliance.privacy import OtherWay, SentNight, read_ledger, sentences
from appliance.web.roles import Admin, Viewer
from appliance.web.snapshot import times

_SECONDS = "%H:%M:%S"


class _Name(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(max_length=200)


def router(
    ledger: Path,
    to: str,
    forgetter: Forgetter,
    zone: tzinfo,
    *,
    other: Callable[[], Sequence[OtherWay]] = tuple,
) -> APIRouter:
    """Routes of the privacy page.

    Args:
        ledger: What left at night.
        to: The fleet and its server's address, in words; empty on a camera that works alone.
        forgetter: Forgets this camera.
        zone: The site's time zone.
        other: What leaves beside the nights, as it is now: MQTT, webhook.
    """
    routes = APIRouter(tags=["privacy"])

    @routes.get("/api/privacy")
    def privacy(
        caller: Viewer,  # noqa: ARG001  # the parameter is the demand
        before: Annotated[int | None, Query(ge=0, le=2**53)] = None,
        count: Annotated[int, Query(ge=1, le=60)] = 14,
    ) -> dict[str, Any]:
        """What left, the newest night first; older nights with ``before`` from the answer."""
        page = read_ledger(ledger, count=count, before=before)
        now = datetime.now(UTC)
        return {
            "nights": [_night(night, to, now, zone) for night in page.nights],
            "sentences": sentences(to),
            "other": [
                {"name": way.name, "sentence": way.sentence, **times("at", way.at_utc, now, zone)}
                for way in (*other(), *page.other)
            ],
            "broken": list(page.broken),
            "before": page.before,
        }

    @routes.post("/api/forget")
    def forget(body: _Name, caller: Admin) -> dict[str, Any]:
        """Forget this camera: keys, frames, events, models, accounts, everything. There is no way back."""
        return {"proof": forgetter.forget(body.name, by=caller.name).to_json()}

    return routes


def _night(night: SentNight, to: str, now: datetime, zone: tzinfo) -> dict[str, Any]:
    began = night.messages[0].at_utc if night.messages else None
    return {
        "night": night.night,
        **times("at", began, now, zone),
        "version": night.version,
        "taken": night.taken,
        "learned_frames": night.learned_frames,
        "up_bytes": night.up_bytes,
        "down_bytes": night.down_bytes,
        "to": to or "the server of a fleet that it belonged to",
        "messages": [
            {
                **times("at", message.at_utc, now, zone, clock=_SECONDS),
                "kind": message.kind,
                "words": message.words,
                "arrays": [asdict(array) for array in message.arrays],
                "values": dict(message.values),
            }
            for message in night.messages
        ],
    }
