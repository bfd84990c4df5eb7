"""The model versions on this camera: look, go back, start over, try again."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from appliance.models.shelf import Shelf
from appliance.models.trial import read_trial
from appliance.models_view import ModelChanger, ModelRow, rows
from appliance.web.roles import Admin, Viewer
from appliance.web.snapshot import times


class _Nothing(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Which(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = Field(ge=1, le=2**31)


class Done(BaseModel):
    """What was done, or begun."""

    sentence: str


def router(shelf: Shelf, changer: ModelChanger, zone: tzinfo) -> APIRouter:
    """Routes of the models' page.

    Args:
        shelf: Where versions lie.
        changer: Changes the one that runs.
        zone: The site's time zone.
    """
    routes = APIRouter(prefix="/api/models", tags=["models"])

    @routes.get("")
    def models(caller: Viewer) -> dict[str, Any]:  # noqa: ARG001  # the parameter is the demand
        """Every version here, the newest first; which one runs, and which is on trial."""
        trial = read_trial(shelf.root)
        return {
            "current": shelf.current,
            "versions": [_row(row, zone) for row in reversed(rows(shelf))],
            "trial": {"version": trial.version, "state": str(trial.state)} if trial else None,
        }

    @routes.post("/rollback")
    def rollback(body: _Nothing, caller: Admin) -> Done:  # noqa: ARG001
        """Go back to the version before; the newer one is not tried again by itself."""
        return Done(sentence=changer.change("rollback"))

    @routes.post("/recover")
    def recover(body: _Nothing, caller: Admin) -> Done:  # noqa: ARG001
        """Go to the version that enrolment brought, assembled afresh from its parts."""
        return Done(sentence=changer.change("recover"))

    @routes.post("/try")
    def again(body: _Which, caller: Admin) -> Done:  # noqa: ARG001
        """Try a version again, whatever its verdict was."""
        return Done(sentence=changer.change("try", body.version))

    return routes


def _row(row: ModelRow, zone: tzinfo) -> dict[str, Any]:
    return {**row.to_json(), **times("created", row.created_utc, datetime.now(UTC), zone)}
