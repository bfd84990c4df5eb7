"""Events survive a process that is killed at any moment: what was said to be on the disk is there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from appliance.events import EventLog

PROJECT = Path(__file__).resolve().parents[2]
ROUNDS = 8

# Begins, shows, ends, acknowledges and deletes events; says on its standard output what is safe on the disk.
WRITER = """
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
import numpy as np
from appliance.events import Event, EventLog, Vote
from appliance.frame import Frame

log = EventLog(Path(sys.argv[1]))
log.start()

def say(what, event_id):
    while log.unwritten:
        pass
    assert log.fault is None, log.fault
    print(what, event_id, flush=True)

for number in range(10**6):
    now = datetime.now(UTC)
    event = Event("seen", "bare head seen", now)
    frame = Frame(np.full((64, 64, 3), number % 200, np.uint8), now, number)
    log.witness(event.id, [Vote(now, "head", 0.9, 1)] * 5, frame)
    log.put(event)
    say("began", event.id)
    log.put(replace(event, ended_utc=datetime.now(UTC), detail={"agreed": 5.0}))
    say("ended", event.id)
    log.acknowledge(event.id, "writer")
    print("acknowledged", event.id, flush=True)
    if number % 2:
        print("deleting", event.id, flush=True)
        log.delete(event.began_utc, event.began_utc + timedelta(microseconds=1))
        print("deleted", event.id, flush=True)
"""


def test_killed_writers_lose_no_event_that_was_on_the_disk(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    chance = random.Random(11)  # noqa: S311  # moments to kill at, not secrets
    said: list[list[str]] = []
    for _ in range(ROUNDS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ},
        )
        assert writer.stdout is not None
        try:
            said += [writer.stdout.readline().split() for _ in range(chance.randint(1, 12))]
            time.sleep(chance.uniform(0, 0.03))
        finally:
            writer.send_signal(signal.SIGKILL)
            said += [line.split() for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
            writer.stdout.close()
            writer.wait()
    log = EventLog(folder)
    log.start()
    events = {event.id: event for event in log.events(count=10**6)}
    deleted = {event_id for what, event_id in said if what == "deleted"}
    perhaps = {event_id for what, event_id in said if what == "deleting"}
    assert not deleted & events.keys()
    for what, event_id in said:
        if event_id in perhaps:
            continue
        event = events[event_id]
        assert event.snapshot
        assert len(log.trail(event_id)) == 5
        if what != "began":
            assert event.detail == {"agreed": 5.0}
        if what == "acknowledged":
            assert event.acknowledged_by == "writer"
    assert all(event.ended_utc is not None for event in events.values())
    files = {path.stem for path in (folder / "snapshots").iterdir()}
    assert files == {event.id for event in events.values() if event.snapshot}
    assert deleted
    log.stop(deadline_s=30)
