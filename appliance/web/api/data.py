"""A camera's own data, out and in, and gone for good: export, import, deletion."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from appliance.errors import ConfigError, DatasetError
from appliance.store.archive import ArchiveReport, read_archive, write_archive
from appliance.store.deletion import Deleter, Deletion
from appliance.store.frames import FrameStore
from appliance.web.roles import Admin, Labeller
from appliance.web.snapshot import times

_PIECE_BYTES = 1_000_000  # of an upload, in memory at once
_MINUTE = "%Y-%m-%dT%H:%M"

FrameId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="32 hex digits")]
_Moment = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d$")]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Nothing(_Body):
    """An empty object."""


class Span(_Body):
    """Everything from one moment until another, by the site's clock."""

    begin: _Moment
    end: _Moment
    confirm: bool = False


def router(
    store: FrameStore, deleter: Deleter, zone: tzinfo, *, camera: str, labels: Callable[[], Sequence[str]]
) -> APIRouter:
    """Routes of a camera's data.

    Args:
        store: Its frames.
        deleter: Deletes them for good.
        zone: The site's time zone.
        camera: Its name.
        labels: The fleet's.
    """
    routes = APIRouter(tags=["data"])

    @routes.get("/api/export", response_class=Response, responses={200: {"content": {"application/zip": {}}}})
    def export(caller: Admin) -> Response:  # noqa: ARG001  # the parameter is the demand
        """All frames with all that is known of them, as a zip file."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", camera) or "camera"
        day = datetime.now(zone).date().isoformat()
        head = {"Content-Disposition": f'attachment; filename="{name}-{day}.zip"'}
        return StreamingResponse(write_archive(store, camera=camera), media_type="application/zip", headers=head)

    @routes.post(
        "/api/import",
        openapi_extra={"requestBody": {"required": True, "content": {"application/zip": {}}}},
    )
    async def import_archive(request: Request, caller: Admin) -> dict[str, Any]:  # noqa: ARG001
        """Bring an export back. Frames that are here already stay as they are."""
        with store.incoming() as folder:
            await _receive(request, folder / "upload.zip")
            report: ArchiveReport = await run_in_threadpool(read_archive, store, folder / "upload.zip", labels=labels())
        return {
            "frames": report.frames,
            "new": report.new,
            "labelled": report.labelled,
            "contradictions": report.contradictions,
            "sentence": report.sentence,
        }

    @routes.post("/api/frames/{frame_id}/delete")
    def delete(frame_id: FrameId, body: Nothing, caller: Labeller) -> dict[str, Any]:  # noqa: ARG001
        """Delete a frame for good: picture, thumbnail, label, cached features."""
        store.frame(frame_id)
        return _said(deleter.frames([frame_id], by=caller.name))

    @routes.post("/api/deletions")
    def delete_span(span: Span, caller: Admin) -> dict[str, Any]:
        """Delete everything of a span of time for good; without ``confirm``, say what that would be."""
        begin, end = _moment(span.begin, zone), _moment(span.end, zone, last=True)
        what = f"everything from {_on_screen(begin, zone)} until {_on_screen(end, zone)}"
        if not span.confirm:
            return _said(deleter.preview(begin, end, what=what))
        return _said(deleter.span(begin, end, by=caller.name, what=what))

    @routes.get("/api/deletions")
    def deletions(caller: Labeller) -> list[dict[str, Any]]:  # noqa: ARG001
        """What was deleted, by whom, and which versions had learned from it."""
        now = datetime.now(UTC)
        return [
            {**times("at", each.at_utc, now, zone), "by": each.by, "what": each.what, **_said(each)}
            for each in deleter.done()
        ]

    return routes


async def _receive(request: Request, path: FilePath) -> None:
    """Write a request's body into a file; a Pi's memory does not hold it."""
    pending = bytearray()
    try:
        with path.open("wb") as file:
            async for piece in request.stream():
                pending += piece
                if len(pending) >= _PIECE_BYTES:
                    await run_in_threadpool(file.write, bytes(pending))
                    pending.clear()
            await run_in_threadpool(file.write, bytes(pending))
    except ClientDisconnect as error:
        raise DatasetError("The upload was cut off", means="Nothing was imported", do="Send it again") from error


def _moment(text: str, zone: tzinfo, *, last: bool = False) -> datetime:
    """A moment of the site's clock in UTC; of two that are called the same in autumn, the first or the last one."""
    try:
        return datetime.strptime(text, _MINUTE).replace(tzinfo=zone, fold=int(last)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"{text!r} is not a time", means="Nothing was deleted", do="Write it like 2026-11-23T14:20"
        ) from error


def _on_screen(moment: datetime, zone: tzinfo) -> str:
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M")


def _said(deletion: Deletion) -> dict[str, Any]:
    return {
        "frames": deletion.frames,
        "labelled": deletion.labelled,
        "events": deletion.events,
        "nights": list(deletion.nights),
        "versions": list(deletion.versions),
        "sentence": _sentence(deletion),
        "done": deletion.done,
    }


def _sentence(deletion: Deletion) -> str:
    frames = _counted(deletion.frames, "frame")
    labelled = f" ({deletion.labelled:,} labelled)" if deletion.labelled else ""
    events = f" and {_counted(deletion.events, 'event')}" if deletion.events else ""
    what = f"{frames}{labelled}{events}"
    one = deletion.frames + deletion.events == 1
    if not deletion.id:
        return f"{what} would be deleted for good.{_learned(deletion)}"
    if not deletion.done:
        return f"{what} {'is' if one else 'are'} gone from every list; the files are finished at the next start."
    return f"{what} {'is' if one else 'are'} deleted for good.{_learned(deletion)}"


def _learned(deletion: Deletion) -> str:
    names = [str(version) for version in deletion.versions]
    if names:
        which = f"Version {names[0]} has" if len(names) == 1 else f"Versions {_joined(names)} have"
        return f" {which} learned from this, and what a model has learned stays in it."
    if deletion.nights:
        return f" The night of {_joined(deletion.nights)} learned from this; no version of it is on this camera."
    return " No model has learned from this."


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _counted(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count:,} {noun}s"
