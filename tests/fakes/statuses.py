"""A status with something in every field."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from appliance.status import (
    ConditionState,
    LoopState,
    ModelState,
    Neighbour,
    NightState,
    QueueState,
    Status,
    StoreState,
    VerdictState,
)
from appliance.status_file import own_process
from appliance.system import SystemState, Throttling

NOW = datetime(2026, 11, 23, 14, 20, 5, tzinfo=UTC)


def typical() -> Status:
    """A camera that works; this very process wrote it at :data:`NOW`."""
    return Status(
        camera="North gate",
        fleet="Harbour site",
        written_utc=NOW,
        every_s=5.0,
        process=own_process("0.1.0"),
        page="https://127.0.0.1:4912/",
        viewers=2,
        loop=LoopState(9.8, 3, 1, 21.5),
        model=ModelState(
            version=7,
            created_utc=NOW - timedelta(days=3),
            since_utc=NOW - timedelta(hours=5),
            accepted=6,
            refused=1,
            verdict=VerdictState(7, True, "109 of 111 own test frames right", NOW - timedelta(days=1), False),
        ),
        system=SystemState(
            48.3, Throttling((), ("under-voltage",)), 10**10, 3 * 10**10, 2 * 10**8, 4 * 10**8, 9e4, 0.5, 4
        ),
        store=StoreState(2**30, 4000 * 2**20, 10**10, 10**9, "ok", "", 12345),
        queue=QueueState(waiting=31, asked=12, done_today=4),
        night=NightState(
            "done", "2026-11-22", "Version 7 runs", NOW - timedelta(hours=11), 202000, 90000, "It trains."
        ),
        neighbours=(Neighbour("mqtt", True, "The broker takes everything.", 12, 0, 1),),
        recorder="Keeps up to 30 an hour.",
        written_bytes=5 * 2**20,
        written_per_day_bytes=40 * 2**20,
    )


def dark() -> ConditionState:
    """A covered lens."""
    return ConditionState("dark", "The picture is black.", NOW - timedelta(minutes=3))
