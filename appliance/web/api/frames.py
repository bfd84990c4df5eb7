"""The labelling queue, people's answers, the review, and how the data stands."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.responses import Response

from appliance.labelling.answers import Answers
from appliance.labelling.health import findings
from appliance.labelling.model import ModelView
from appliance.labelling.queue import DayQueue
from appliance.store import queue as waiting
from appliance.store import review
from appliance.store.frames import FrameStore
from appliance.store.records import FrameRecord
from appliance.web.roles import Labeller, Viewer
from appliance.web.snapshot import times

logger = logging.getLogger(__name__)

FrameId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
Before = Annotated[str, Query(pattern="^[0-9a-f]{32}$")]
Count = Annotated[int, Query(ge=1, le=200)]

_REASONS = {
    "": "imported",
    "random": "kept at random",
    "uncertain": "hard for the model",
    "scene": "the picture changed",
    "event": "from an alarm",
    "false alarm": "from an alarm",  # what somebody thought of it would lead the person
    "burst": "taken on demand",
    "upload": "uploaded",
}


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Nothing(_Body):
    """An empty object."""


class Label(_Body):
    """What a frame shows."""

    label: Annotated[str, StringConstraints(min_length=1, max_length=100)]


@dataclass(frozen=True)
class Labelling:
    """What these routes need.

    Attributes:
        store: The camera's frames.
        queue: The day's.
        answers: Takes what people say.
        model: The running one.
        zone: The site's time zone.
        margin: ``model.margin``: how many test frames may get worse, 0 to 1.
        recording: Whether live frames are kept: a state and a sentence for people.
    """

    store: FrameStore
    queue: DayQueue
    answers: Answers
    model: ModelView
    zone: tzinfo
    margin: float
    recording: Callable[[], tuple[str, str]]


def router(parts: Labelling) -> APIRouter:
    """Routes of labelling."""
    routes = APIRouter(tags=["labelling"])
    _answering(routes, parts)
    _looking(routes, parts)
    return routes


def _answering(routes: APIRouter, parts: Labelling) -> None:
    """What a person is asked, and what they say."""
    answers, zone = parts.answers, parts.zone

    def answered(frame: FrameRecord) -> dict[str, Any]:
        said = {"label": frame.label, "unclear": frame.unclear, "skipped": frame.skipped, "split": frame.split}
        return {
            "frame": {**_asked(frame, zone), **said, "labelled_by": frame.labelled_by, **_when(frame, zone)},
            "done_today": parts.queue.done_today(),
        }

    @routes.get("/api/queue")
    def queue(caller: Labeller) -> dict[str, Any]:
        """Today's frames that wait for an answer, in order, and the labels to choose from."""
        day = parts.queue.today(caller.name)
        return {
            "frames": [_asked(frame, zone) for frame in day.frames],
            "asked": day.asked,
            "done_today": day.done,
            "words": day.words,
            "labels": [asdict(choice) for choice in parts.model.choices],
        }

    @routes.post("/api/frames/{frame_id}/label")
    def label(caller: Labeller, frame_id: FrameId, body: Label) -> dict[str, Any]:
        """Say what a frame shows. What this has answered is on the disk."""
        return answered(answers.label(frame_id, body.label, by=caller.name))

    @routes.post("/api/frames/{frame_id}/unclear")
    def unclear(caller: Labeller, frame_id: FrameId, body: Nothing) -> dict[str, Any]:  # noqa: ARG001
        """Say that one can't tell."""
        return answered(answers.unclear(frame_id, by=caller.name))

    @routes.post("/api/frames/{frame_id}/skip")
    def skip(caller: Labeller, frame_id: FrameId, body: Nothing) -> dict[str, Any]:  # noqa: ARG001
        """Put a frame off: it goes to the end of the queue."""
        return answered(answers.skip(frame_id, by=caller.name))

    @routes.post("/api/frames/{frame_id}/undo")
    def undo(caller: Labeller, frame_id: FrameId, body: Nothing) -> dict[str, Any]:  # noqa: ARG001
        """Take back one's own last answer; what was before is there again."""
        return answered(answers.undo(frame_id, by=caller.name))


def _looking(routes: APIRouter, parts: Labelling) -> None:
    """Frames and what was said of them, to look through."""
    store, zone = parts.store, parts.zone

    @routes.get("/api/frames/{frame_id}/picture", response_class=Response)
    def picture(caller: Viewer, frame_id: FrameId) -> Response:  # noqa: ARG001  # the parameter is the demand
        """A frame's picture, a JPEG file."""
        store.frame(frame_id)  # says so where it was deleted
        return _jpeg(store.jpeg(frame_id))

    @routes.get("/api/frames/{frame_id}/thumbnail", response_class=Response)
    def thumbnail(caller: Viewer, frame_id: FrameId) -> Response:  # noqa: ARG001
        """The same, 320 pixels wide."""
        store.frame(frame_id)
        try:
            return _jpeg(store.thumbnail(frame_id))
        except OSError as error:  # a full disk can't keep a new one
            logger.warning("No thumbnail of frame %s could be made (%s): its picture goes out", frame_id, error)
            return _jpeg(store.jpeg(frame_id))

    @routes.get("/api/frames")
    def frames(
        caller: Viewer,  # noqa: ARG001
        label: Annotated[str | None, Query(max_length=100)] = None,
        split: Literal["train", "test"] | None = None,
        state: review.State | None = None,
        before: Before | None = None,
        count: Count = 60,
    ) -> dict[str, Any]:
        """Frames, newest first; ``before`` takes the last id of the page before."""
        page = review.page(store, most=count, label=label, split=split, state=state, before=before)
        return {"frames": [_listed(frame, zone) for frame in page.frames], "more": page.more}

    @routes.get("/api/review")
    def disagreements(caller: Viewer, count: Count = 60) -> dict[str, Any]:  # noqa: ARG001
        """Labels that the running model contradicts, those that it is surest of first."""
        version = parts.model.version
        found = review.disagreements(store, version, count) if version else []
        total = review.count_disagreements(store, version) if version else 0
        return {"version": version, "total": total, "frames": [_listed(frame, zone) for frame in found]}

    @routes.get("/api/data")
    def data(caller: Viewer) -> dict[str, Any]:  # noqa: ARG001
        """How much is labelled, what is wrong with it, and how much room there is."""
        counts, labels = store.counts(), parts.model.labels
        state, sentence = parts.recording()
        found = findings(store, labels, parts.model.version, margin=parts.margin, zone=zone)
        return {
            "counts": {split: dict.fromkeys(labels, 0) | counts.get(split, {}) for split in ("train", "test")},
            "waiting": waiting.waiting(store),
            "unclear": waiting.unclear(store),
            "findings": [asdict(finding) for finding in found],
            "store": asdict(store.room()),
            "recording": {"state": state, "sentence": sentence},
        }


def _asked(frame: FrameRecord, zone: tzinfo) -> dict[str, Any]:
    """A frame that a person is asked about: without the model's guess, which would lead them."""
    return {
        "id": frame.id,
        **times("taken", frame.taken_utc, datetime.now(UTC), zone),
        "width": frame.width,
        "height": frame.height,
        "reason": frame.reason,
        "reason_words": _REASONS.get(frame.reason, frame.reason),
    }


def _listed(frame: FrameRecord, zone: tzinfo) -> dict[str, Any]:
    return {
        **_asked(frame, zone),
        "label": frame.label,
        "unclear": frame.unclear,
        "labelled_by": frame.labelled_by,
        **_when(frame, zone),
        "split": frame.split,
        "guess": frame.guess,
        "score": None if frame.score is None else round(frame.score, 4),
        "version": frame.version,
    }


def _when(frame: FrameRecord, zone: tzinfo) -> dict[str, Any]:
    return times("labelled", frame.labelled_utc, datetime.now(UTC), zone)


def _jpeg(data: bytes) -> Response:
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "no-store"})
