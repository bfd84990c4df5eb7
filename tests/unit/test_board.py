"""What a board says of itself: read from the kernel and the camera's status, sent, kept, and shown."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from flwr.app import ConfigRecord

from appliance.board import Board, camera_board, impulse_pid, memory_of, this_board
from appliance.eim.cell import Cell
from appliance.eim.runner import start_impulse
from appliance.errors import NightError
from appliance.status import LoopState, Status
from appliance.status_file import StatusFile
from appliance.system import System
from server import database as database_module
from server.fleet.boards import board_name, board_takes, board_view
from server.fleet.history import History
from server.registry import Registry
from tests.fakes import statuses
from tests.fakes.board import Board as Machine
from tests.fakes.fleet_page import History as Nights
from tests.fakes.fleet_page import served, settings_in
from trainer.messages import CameraStatus

PI = Board("Raspberry Pi 4 Model B Rev 1.5", "aarch64", 4, 3_900_000_000, 2, 24.2, 64 * 2**20, 8_950_000)
STATUS = CameraStatus("gate", 3, {"head": 4}, {"head": 1}, (), board=PI)


def write_status(folder: Path, status: Status) -> None:
    StatusFile(folder, {}).write(status)


# On the camera


def test_a_pi_is_named_by_its_device_tree(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.write("proc/device-tree/model", "Raspberry Pi Zero 2 W Rev 1.0\0")
    board = this_board(System(tmp_path, root=tmp_path, vcgencmd=str(machine.vcgencmd)).look())
    assert (board.name, board.memory_bytes) == ("Raspberry Pi Zero 2 W Rev 1.0", 436488 * 1024)
    assert (board.machine, board.cores) == (os.uname().machine, os.cpu_count())


@pytest.mark.parametrize("cell", [None, Cell(hide=())], ids=["plain", "in a cell"])
def test_the_running_eim_is_found_and_its_memory_told(tmp_path: Path, tiny_eim: Path, cell: Cell | None) -> None:
    write_status(tmp_path, statuses.typical())
    with start_impulse(tiny_eim, cell=cell):
        board = camera_board(tmp_path, tiny_eim, threads=2)
    assert board.impulse_bytes is not None
    assert 5 * 2**20 < board.impulse_bytes < 500 * 2**20
    assert (board.inference_ms, board.threads, board.file_bytes) == (21.5, 2, tiny_eim.stat().st_size)


def test_a_camera_process_that_is_gone_has_no_figures_but_a_board(tmp_path: Path, tiny_eim: Path) -> None:
    status = statuses.typical()
    write_status(tmp_path, replace(status, process=replace(status.process, started_ticks=1)))
    with start_impulse(tiny_eim):  # somebody else's
        board = camera_board(tmp_path, tiny_eim, threads=1)
    assert (board.inference_ms, board.impulse_bytes) == (None, None)
    assert board.name
    assert camera_board(tmp_path / "nobody was here", None, threads=1).file_bytes is None


def test_before_its_first_answer_a_model_has_no_time(tmp_path: Path) -> None:
    write_status(tmp_path, replace(statuses.typical(), loop=LoopState()))
    assert camera_board(tmp_path, None, threads=1).inference_ms is None


def test_of_two_impulses_the_older_one_counts_and_strangers_do_not(tmp_path: Path) -> None:
    machine, status = Machine(tmp_path), statuses.typical()

    def process(pid: int, parent: int, started: int, command: str) -> None:
        machine.write(f"proc/{pid}/stat", f"{pid} (a) b) S {parent}{' 0' * 17} {started} 0")
        machine.write(f"proc/{pid}/cmdline", command)

    camera = status.process.pid
    process(camera, 1, 10, "sitecam\0camera\0")
    process(camera + 1, camera, 20, "launcher\0")
    process(camera + 2, camera + 1, 40, "python\0-I\0/m/3/impulse.eim\0/tmp/s\0")
    process(camera + 3, camera, 50, "python\0-I\0/m/4/impulse.eim\0/tmp/t\0")  # on trial
    process(camera + 4, 1, 5, "python\0-I\0/m/3/impulse.eim\0/tmp/u\0")  # another camera's
    assert impulse_pid(status, tmp_path) == camera + 2


def test_memory_that_nobody_may_see_is_none(tmp_path: Path) -> None:
    assert memory_of(77, tmp_path) is None


# On the wire


def test_a_board_arrives_as_it_was_sent() -> None:
    assert CameraStatus.from_record(STATUS.to_record()).board == PI
    none = replace(STATUS, board=Board("x86", "x86_64"))
    assert CameraStatus.from_record(none.to_record()) == none


def test_a_camera_that_sends_no_board_takes_part() -> None:
    body = json.loads(str(STATUS.to_record()["status"]))
    del body["board"]
    assert CameraStatus.from_record(ConfigRecord({"status": json.dumps(body)})) == replace(STATUS, board=None)


def test_what_a_later_release_adds_is_passed_over() -> None:
    body = json.loads(str(STATUS.to_record()["status"]))
    body["board"]["colour"] = "green"
    assert CameraStatus.from_record(ConfigRecord({"status": json.dumps(body)})) == STATUS


@pytest.mark.parametrize(
    "change",
    [
        {"inference_ms": -1},
        {"inference_ms": float("nan")},
        {"cores": "many"},
        {"name": None, "machine": 0, "threads": []},
    ],
)
def test_figures_that_are_none_are_refused(change: dict[str, object]) -> None:
    body = json.loads(str(STATUS.to_record()["status"]))
    body["board"].update(change)
    with pytest.raises(NightError, match="status can't be read"):
        CameraStatus.from_record(ConfigRecord({"status": json.dumps(body)}))


def test_a_name_of_any_length_is_cut() -> None:
    assert len(Board.of({**asdict(PI), "name": "x" * 5000}).name) == 100


# On the server


def test_the_last_board_is_kept_with_the_cameras_last_word(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "r.sqlite")
    for took in (50.0, 24.2):
        registry.put_status(registry.begin("a night"), "gate", replace(STATUS, board=replace(PI, inference_ms=took)))
    registry.put_status(registry.begin("a night"), "old", replace(STATUS, name="old", board=None))
    words = History(tmp_path / "r.sqlite").last_words()
    assert (words["gate"].status.board, words["old"].status.board) == (PI, None)
    assert [json.loads(row["board"])["inference_ms"] for row in registry.table("boards")] == [50.0, 24.2]


def test_a_registry_of_an_older_release_learns_to_keep_boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.sqlite"
    (before,) = [n for n, text in enumerate(database_module._MIGRATIONS) if "CREATE TABLE boards" in text]
    with monkeypatch.context() as patch:
        patch.setattr(database_module, "_MIGRATIONS", database_module._MIGRATIONS[:before])
        night = Registry(path).begin("a night")
    Registry(path).put_status(night, "gate", STATUS)
    assert History(path).last_words()["gate"].status.board == PI


def test_a_board_is_told_in_words() -> None:
    assert board_name(PI) == "Raspberry Pi 4 Model B Rev 1.5, 4 cores, 3.6 GB"
    assert board_takes(PI) == "24 ms for a picture on 2 threads, 64 MB of memory, 8.5 MB on its disk"
    single = replace(PI, cores=1, memory_bytes=None, threads=1, inference_ms=7.84, impulse_bytes=None)
    assert board_name(single) == "Raspberry Pi 4 Model B Rev 1.5, 1 core"
    assert board_takes(single) == "7.8 ms for a picture, 8.5 MB on its disk"
    assert "did not run" in board_takes(Board("x86", "x86_64", file_bytes=5))
    assert board_view(None) is None


def test_the_fleet_page_shows_what_each_board_takes(tmp_path: Path) -> None:
    root = tmp_path / "server"
    settings_in(root)
    nights = Nights(root, ("gate-1", "yard"))
    nights.enrol()
    night = nights.night(1)
    nights.registry.put_status(night, "gate-1", replace(STATUS, name="gate-1"))
    with served(root) as page, page.logged_in() as person:
        cameras = {camera["name"]: camera for camera in person.get("/api/fleet").json()["cameras"]}
        table = person.get("/api/export/boards.csv").text
    assert cameras["gate-1"]["board"]["takes"] == board_takes(PI)
    assert cameras["gate-1"]["board"]["inference_ms"] == 24.2
    assert cameras["yard"]["board"] is None
    assert "Raspberry Pi 4 Model B" in table
