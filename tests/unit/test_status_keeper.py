from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance import status_keeper
from appliance.errors import StoreError
from appliance.ledger import append
from appliance.live import LiveLoop, RunningModel
from appliance.models.shelf import Shelf
from appliance.models.verdict import Verdict, write_verdict
from appliance.paths import CameraPaths
from appliance.status import QueueState, Status, StoreState
from appliance.status_file import StatusFile, read_status
from appliance.status_keeper import StatusKeeper
from appliance.surroundings import Sources, Surroundings
from appliance.system import SystemState
from appliance.web.source import PageStatus
from tests.fakes.fleet import TinyFleet
from tests.fakes.page_source import condition, decision, typical_status
from tests.fakes.waiting import wait_until


class Bench:
    """A keeper whose page and sources a test sets, and which looks fifty times a second."""

    def __init__(self, root: Path, backbone: bytes, sources: Sources | None = None, environment: str = "") -> None:
        self.paths = CameraPaths(root / "state")
        self.paths.root.mkdir()
        self.shelf: Shelf = TinyFleet(root, backbone).shelf(self.paths.models, 6, 7)
        self.page: PageStatus = typical_status()
        self.outcomes: list[str] = []

        def never() -> RunningModel:
            raise AssertionError("this loop is not started")

        loop = LiveLoop(never, decide=lambda _: decision())
        self.file = StatusFile(self.paths.root, {"RUNTIME_DIRECTORY": environment} if environment else {})
        self.keeper = StatusKeeper(
            lambda: self.page,
            loop,
            self.shelf,
            self.paths,
            self.file,
            sources or Sources(),
            page_url=lambda: "https://gate:4912/",
            viewers=lambda: 3,
            verdict_came=self.outcomes.append,
        )

    def written(self, like: Callable[[Status], bool] = lambda _: True) -> Status:
        """The file's content, once it is as a test expects."""

        def look() -> Status | None:
            found = read_status(self.paths.root)
            return found if found is not None and like(found) else None

        found = wait_until(look)
        assert found is not None
        return found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_keeper, "_TICK_S", 0.02)
    monkeypatch.setattr(status_keeper, "_AROUND_S", 0.0)
    monkeypatch.setattr(status_keeper, "_SOONEST_S", 0.0)


def test_the_page_the_loop_and_what_is_around_become_one_tree(tmp_path: Path, tiny_backbone: bytes) -> None:
    sources = Sources(
        system=lambda: SystemState(temperature_c=51.0),
        store=lambda: StoreState(size_bytes=77),
        queue=lambda: QueueState(waiting=5),
        tonight=lambda: "It trains.",
        recorder=lambda: "Keeps some.",
    )
    bench = Bench(tmp_path, tiny_backbone, sources)
    append(bench.paths.ledger, {"at_utc": "x", "night": "n", "kind": "total", "up_bytes": 11, "down_bytes": 7})
    bench.keeper.start()
    try:
        status = bench.written()
    finally:
        bench.keeper.stop()
    assert (status.camera, status.fleet, status.page, status.viewers) == (
        "North gate",
        "Harbour site",
        "https://gate:4912/",
        3,
    )
    assert status.model.version == 7
    assert status.model.created_utc == bench.shelf.manifest(7).created_utc
    assert status.system == SystemState(temperature_c=51.0)
    assert status.store == StoreState(size_bytes=77)
    assert status.queue == QueueState(waiting=5)
    assert (status.night.tonight, status.recorder) == ("It trains.", "Keeps some.")
    assert (status.night.up_bytes, status.night.down_bytes) == (11, 7)
    assert status.alive or status.ended_utc


def test_a_process_that_ends_in_order_writes_that_down(tmp_path: Path, tiny_backbone: bytes) -> None:
    bench = Bench(tmp_path, tiny_backbone)
    bench.keeper.start()
    assert bench.written().ended_utc is None
    bench.keeper.stop()
    assert bench.written().ended_utc is not None


def test_a_keeper_that_was_never_started_writes_nothing(tmp_path: Path, tiny_backbone: bytes) -> None:
    bench = Bench(tmp_path, tiny_backbone)
    bench.keeper.stop()
    assert read_status(bench.paths.root) is None


def test_a_card_is_written_once_until_what_is_wrong_changes(tmp_path: Path, tiny_backbone: bytes) -> None:
    bench = Bench(tmp_path, tiny_backbone)
    looks: list[int] = []
    bench.keeper._sources = Sources(queue=lambda: looks.append(1))
    bench.keeper.start()
    try:
        first = bench.written()
        seen = len(looks)
        wait_until(lambda: len(looks) > seen + 5)
        assert bench.written().written_utc == first.written_utc
        bench.page = replace(bench.page, camera_fault="No picture.")
        bench.written(lambda status: status.faults == ("No picture.",))
        bench.page = replace(bench.page, camera_fault=None, conditions=(condition("dark", datetime.now(UTC)),))
        bench.written(lambda status: not status.faults and len(status.conditions) == 1)
    finally:
        bench.keeper.stop()


def test_a_fault_that_flickers_does_not_write_the_card_to_death(
    tmp_path: Path, tiny_backbone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_keeper, "_SOONEST_S", 3600.0)
    bench = Bench(tmp_path, tiny_backbone)
    writes: list[Status] = []
    monkeypatch.setattr(bench.file, "write", writes.append)
    for number in range(10):
        bench.page = replace(bench.page, camera_fault=f"Fault {number % 2}")
        bench.keeper._tick()
    assert len(writes) == 1


def test_a_source_that_fails_costs_only_its_own_part(
    tmp_path: Path, tiny_backbone: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> StoreState:
        raise StoreError("The frame store refused")

    bench = Bench(tmp_path, tiny_backbone, Sources(store=broken, queue=lambda: QueueState(waiting=5)))
    with caplog.at_level(logging.WARNING):
        bench.keeper._tick()
    assert bench.keeper.surroundings == Surroundings(queue=QueueState(waiting=5))
    assert "lacks the store: The frame store refused" in caplog.text


def test_a_full_disk_costs_the_file_and_nothing_else(
    tmp_path: Path, tiny_backbone: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: Status) -> None:
        raise OSError(28, "No space left on device")

    bench = Bench(tmp_path, tiny_backbone, Sources(queue=lambda: QueueState(waiting=5)))
    monkeypatch.setattr(bench.file, "write", full)
    with caplog.at_level(logging.WARNING):
        bench.keeper._tick()
    assert "could not be written" in caplog.text
    assert bench.keeper.surroundings.queue == QueueState(waiting=5)


def test_verdicts_are_told_as_they_come_and_not_those_that_were_there(tmp_path: Path, tiny_backbone: bytes) -> None:
    bench = Bench(tmp_path, tiny_backbone)
    now = datetime.now(UTC)
    write_verdict(bench.shelf.root, Verdict(6, True, "Good", now))
    bench.keeper._tick()
    assert bench.outcomes == []
    write_verdict(bench.shelf.root, Verdict(7, False, "Bad", now))
    bench.keeper._tick()
    bench.keeper._tick()
    assert bench.outcomes == ["refused"]
    write_verdict(bench.shelf.root, Verdict(7, False, "The disk is full", datetime.now(UTC), final=False))
    bench.keeper._tick()
    assert bench.outcomes == ["refused", "waiting"]
    model = bench.keeper.status().model
    assert (model.accepted, model.refused, model.waiting) == (1, 0, 1)


def test_a_camera_whose_model_is_still_being_started_does_not_watch_yet(tmp_path: Path, tiny_backbone: bytes) -> None:
    bench = Bench(tmp_path, tiny_backbone)
    bench.page = replace(bench.page, model_version=None)
    assert bench.keeper.status().faults == ("No model answers yet: it is being started.",)
    bench.page = replace(bench.page, model_fault="The .eim exited.")
    assert bench.keeper.status().faults == ("The .eim exited.",)


def test_a_version_whose_manifest_is_damaged_has_no_age(tmp_path: Path, tiny_backbone: bytes) -> None:
    bench = Bench(tmp_path, tiny_backbone)
    (bench.paths.models / "versions" / "7" / "manifest.json").write_bytes(b"{}")
    assert bench.keeper.status().model.created_utc is None


def test_bytes_per_day_are_said_after_an_hour_and_at_the_pace_so_far(
    tmp_path: Path, tiny_backbone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, clock, written = Bench(tmp_path, tiny_backbone), [1000.0], [500]
    monkeypatch.setattr("appliance.status_keeper.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(status_keeper, "process_written_bytes", lambda: written[0])
    bench.keeper._tick()
    assert bench.keeper.status().written_per_day_bytes is None
    clock[0], written[0] = 1000.0 + 6 * 3600, 500 + 10 * 2**20
    bench.keeper._tick()
    assert bench.keeper.status().written_per_day_bytes == 40 * 2**20
    for hour in range(7, 80):  # a loud morning is forgotten after a day
        clock[0] = 1000.0 + hour * 3600
        bench.keeper._tick()
    assert bench.keeper.status().written_per_day_bytes == 0
    assert bench.keeper.status().written_bytes == 500 + 10 * 2**20
