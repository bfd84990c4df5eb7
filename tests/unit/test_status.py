"""The status file, and what it tells of a camera that lives, hangs, ended or was killed."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from appliance.status import Status, started_ticks
from appliance.status_file import FILE, StatusFile, complaint, complaint_of, read_status
from appliance.status_words import tell_status
from tests.fakes.statuses import NOW, dark, typical

WRITER = """
import dataclasses, os, sys, time
from pathlib import Path
from appliance.status_file import StatusFile, own_process
from tests.fakes.statuses import typical
StatusFile(Path(sys.argv[1]), os.environ).write(dataclasses.replace(typical(), process=own_process("0.1.0")))
print("written", flush=True)
time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has written its status and goes on living."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    yield process
    process.kill()
    process.wait(10)
    process.stdout.close()


def written(folder: Path, status: Status) -> Status:
    StatusFile(folder, {}).write(status)
    found = read_status(folder)
    assert found is not None
    return found


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    status = replace(typical(), conditions=(dark(),), alarm="bare head seen", faults=("It is broken.",))
    assert written(tmp_path, status) == status


def test_a_camera_that_knows_little_can_say_so_too(tmp_path: Path) -> None:
    bare = replace(typical(), system=None, store=None, queue=None, neighbours=(), written_bytes=None)
    assert written(tmp_path, bare) == bare


def test_where_nothing_was_written_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    assert "not run here" in complaint(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"camera": "North gate"}', b"\xff\xfe"])
def test_a_damaged_file_counts_as_none_and_is_logged(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert read_status(tmp_path) is None
    assert "can't be read" in caplog.text


# Where it lies


def test_with_a_runtime_folder_the_state_folder_has_only_a_link_to_it(tmp_path: Path) -> None:
    state, memory = tmp_path / "state", tmp_path / "run"
    state.mkdir()
    memory.mkdir()
    file = StatusFile(state, {"RUNTIME_DIRECTORY": f"{memory}:/run/another"})
    file.write(typical())
    link = (state / FILE).lstat()
    file.write(replace(typical(), viewers=3))
    assert (state / FILE).readlink() == memory / FILE
    assert (state / FILE).lstat().st_mtime_ns == link.st_mtime_ns  # the card was written once
    found = read_status(state)
    assert found is not None
    assert found.viewers == 3
    assert sorted(path.name for path in (*state.iterdir(), *memory.iterdir())) == [FILE, FILE]


def test_memory_is_written_every_few_seconds_and_a_card_every_few_minutes(tmp_path: Path) -> None:
    assert StatusFile(tmp_path, {"RUNTIME_DIRECTORY": str(tmp_path)}).every_s == 5
    assert StatusFile(tmp_path, {}).every_s == 300


def test_after_a_restart_of_the_machine_the_link_leads_nowhere_and_that_is_no_status(tmp_path: Path) -> None:
    (tmp_path / FILE).symlink_to("/run/nobody/has/made/this/status.json")
    assert read_status(tmp_path) is None


def test_without_a_runtime_folder_the_link_of_an_earlier_start_is_replaced(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    (tmp_path / FILE).symlink_to(elsewhere)
    status = typical()
    assert written(tmp_path, status) == status
    assert not (tmp_path / FILE).is_symlink()
    assert not elsewhere.exists()


# Dead or alive


def test_a_living_process_has_no_complaint(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    assert writer.poll() is None
    assert complaint(tmp_path, NOW) == ""
    assert tell_status(tmp_path, json_wanted=False, now=NOW)[0] == 0


def test_a_killed_process_is_told_as_dead_with_when_it_was_last_heard_of(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    writer.kill()
    writer.wait(10)
    code, text = tell_status(tmp_path, json_wanted=False, now=NOW)
    assert code == 1
    assert "dead. It was last heard of at 2026-11-23 14:20:05 UTC" in text
    assert "Before that it said:" in text
    assert "version 7" in text


def test_a_killed_process_is_dead_before_anybody_has_fetched_its_exit_code(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    writer.kill()
    while (Path("/proc") / str(writer.pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
        pass
    assert "dead" in complaint(tmp_path, NOW)


def test_another_process_with_the_same_number_is_not_the_camera(tmp_path: Path, writer: subprocess.Popen[str]) -> None:
    status = read_status(tmp_path)
    assert status is not None
    assert status.process.pid == writer.pid
    before = replace(status, process=replace(status.process, started_ticks=status.process.started_ticks - 1))
    assert "dead" in complaint_of(before, NOW)


def test_a_process_that_lives_but_says_nothing_any_more_is_told_with_for_how_long() -> None:
    status = typical()
    assert complaint_of(status, NOW + timedelta(seconds=29)) == ""
    assert "said nothing for 7 minutes" in complaint_of(status, NOW + timedelta(minutes=7))
    on_card = replace(status, every_s=300)
    assert complaint_of(on_card, NOW + timedelta(minutes=14)) == ""
    assert "said nothing" in complaint_of(on_card, NOW + timedelta(minutes=16))


def test_a_process_that_ended_in_order_is_told_as_that() -> None:
    assert "ended in order at 2026-11-23 14:20:05 UTC" in complaint_of(replace(typical(), ended_utc=NOW))


def test_there_is_no_process_zero() -> None:
    assert started_ticks(2**22 + 1) is None


# What people and programs read


def test_a_fault_is_said_first_and_the_exit_code_is_1(tmp_path: Path) -> None:
    written(tmp_path, replace(typical(), faults=("No picture came for 12 s.",)))
    code, text = tell_status(tmp_path, json_wanted=False, now=NOW)
    assert code == 1
    assert text.splitlines()[0] == "fault    No picture came for 12 s."


def test_what_does_not_stop_the_watch_is_a_warning_and_no_fault(tmp_path: Path) -> None:
    status = typical()
    assert status.store is not None
    written(
        tmp_path,
        replace(
            status,
            conditions=(dark(),),
            store=replace(status.store, state="full", sentence="The store is full."),
            neighbours=(replace(status.neighbours[0], ok=False, sentence="The broker is away."),),
        ),
    )
    code, text = tell_status(tmp_path, json_wanted=False, now=NOW)
    assert code == 0
    warned = [line.removeprefix("warning").strip() for line in text.splitlines() if line.startswith("warning")]
    assert warned[0] == "The picture is black."
    assert warned[1].startswith("The power supply was too weak")
    assert warned[2:] == ["The store is full.", "The broker is away."]


def test_everything_the_page_knows_is_told_to_a_terminal(tmp_path: Path) -> None:
    written(tmp_path, typical())
    _, text = tell_status(tmp_path, json_wanted=False, now=NOW)
    for words in (
        *(
            "North gate",
            "Harbour site",
            "https://127.0.0.1:4912/",
            "9.8 decisions a second",
            "22 ms",
            "version 7, 3 days",
        ),
        *("6 taken, 1 refused", "1024 of 4000 MB", "40 MB a day", "4 done today, 31 frames wait", "It trains."),
        *("2026-11-22: done (11 hours ago)", "202,000 bytes left", "12 sent", "48.3 °C", "Keeps up to 30 an hour."),
    ):
        assert words in text, words


def test_json_has_the_verdict_and_the_whole_tree(tmp_path: Path) -> None:
    written(tmp_path, typical())
    code, text = tell_status(tmp_path, json_wanted=True, now=NOW)
    body = json.loads(text)
    assert code == 0
    assert (body["healthy"], body["running"], body["complaint"]) == (True, True, "")
    assert body["status"]["loop"]["inference_ms"] == 21.5
    assert body["status"]["system"]["throttling"]["since_start"] == ["under-voltage"]


def test_json_of_a_camera_that_never_ran_is_null(tmp_path: Path) -> None:
    code, text = tell_status(tmp_path, json_wanted=True)
    body = json.loads(text)
    assert code == 1
    assert (body["healthy"], body["running"], body["status"]) == (False, False, None)
