"""Pictures on demand: a burst, the empty site, and uploads from a phone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from appliance.burst import MOST_FRAMES as MOST_IN_A_BURST
from appliance.burst import Burst
from appliance.errors import PictureError
from appliance.labelling.upload import MOST_BYTES, store_upload
from appliance.learn_empty import LONGEST_S, request_learning
from appliance.learn_state import learning_state
from appliance.paths import CameraPaths
from appliance.store.frames import FrameStore
from appliance.web.roles import Labeller, Viewer

_Count = Annotated[int, Field(ge=1, le=MOST_IN_A_BURST)]
_Seconds = Annotated[float, Field(ge=0, le=LONGEST_S, allow_inf_nan=False)]


class BurstWish(BaseModel):
    """So many frames, one every so many seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: _Count = 10
    every_s: _Seconds = 1.0


class EmptyWish(BaseModel):
    """So many frames of the empty site, one every so many seconds, and what they show."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: _Count = 12
    every_s: _Seconds = 5.0
    label: Annotated[str, StringConstraints(min_length=1, max_length=100)] = "nobody"


_RAW = {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}, "required": True}


def router(store: FrameStore, burst: Burst, paths: CameraPaths) -> APIRouter:
    """Routes of taking and bringing pictures.

    Args:
        store: The camera's frames.
        burst: Takes frames of the live loop.
        paths: The camera's state folder, where requests to learn the empty site are left.
    """
    routes = APIRouter(tags=["capture"])

    @routes.post("/api/capture")
    def capture(caller: Labeller, body: BurstWish) -> dict[str, Any]:  # noqa: ARG001  # the parameter is the demand
        """Take frames in a row, unlabelled, into the queue."""
        return asdict(burst.begin(body.count, body.every_s))

    @routes.get("/api/capture")
    def capturing(caller: Viewer) -> dict[str, Any]:  # noqa: ARG001
        """How that goes, or went."""
        return asdict(burst.state)

    @routes.post("/api/learn-empty")
    def learn_empty(caller: Labeller, body: EmptyWish) -> dict[str, Any]:
        """Take frames of the empty site and label them all in one go."""
        request_learning(paths, count=body.count, every_s=body.every_s, label=body.label, by=caller.name)
        return asdict(learning_state(paths))

    @routes.get("/api/learn-empty")
    def learning(caller: Viewer) -> dict[str, Any]:  # noqa: ARG001
        """How that goes, or went."""
        return asdict(learning_state(paths))

    @routes.post("/api/upload", openapi_extra={"requestBody": _RAW})
    async def upload(caller: Labeller, request: Request) -> dict[str, Any]:  # noqa: ARG001
        """Bring a picture of one's own, unlabelled, into the queue: JPEG, PNG, WebP or BMP, 20 MB at most."""
        data = await _whole(request)
        added = await run_in_threadpool(store_upload, store, data)
        sentence = "It is in the queue." if added.new else "The same picture is here already."
        return {"id": added.frame.id, "new": added.new, "sentence": sentence}

    return routes


async def _whole(request: Request) -> bytes:
    """The body, as far as it may be long.

    Raises:
        PictureError: It is longer, or its sender left.
    """
    data = bytearray()
    try:
        async for piece in request.stream():
            data += piece
            if len(data) > MOST_BYTES:
                raise PictureError(
                    f"The picture is larger than {MOST_BYTES // 1_000_000} MB",
                    means="Nothing was stored",
                    do="Make it smaller",
                )
    except ClientDisconnect as error:
        raise PictureError("The picture did not arrive", means="Nothing was stored", do="Send it again") from error
    return bytes(data)
