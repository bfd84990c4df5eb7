"""Nights in which a machine, a process or a disk fails: they go on, or end with a reason; nothing half goes out.

No bound here is a measure of speed: each only ends a test that hangs.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.processes import family
from tests.night.listeners import Muffler
from tests.night.running import Held, TinySite, wait_until

pytestmark = pytest.mark.night

_FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: bytes) -> Iterator[TinySite]:
    """Two cameras that run; every test leaves them so. Versions rise from test to test."""
    with TinySite(tmp_path_factory.mktemp("faults"), tiny_backbone) as site:
        for camera in site.cameras:
            site.start_camera(camera)
        yield site
    site.kill_what_is_left()


@contextlib.contextmanager
def asleep(pids: set[int]) -> Iterator[None]:
    """Processes that stand still, as on a machine that hangs."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def serving(site: TinySite) -> int:
    """The ServerApp that is at work."""
    return next(pid for pid, line in site.processes().items() if "flwr-serverapp" in line)


def check_published(site: TinySite, held: Held, version: int) -> None:
    """One whole version more than before, and every camera runs it."""
    assert (held.exit_code, held.outcome) == (0, "published"), (held.message, held.events)
    assert held.message == f"Version {version} runs on 2 of 2 cameras", held.events
    assert (site.shelf.current, site.shelf.highest) == (version, version)
    assert [model.version for model in site.registry.models() if model.night == site.night_id] == [version]
    assert len([text for text in held.events if "is signed and on its way" in text]) >= 1
    for camera in site.cameras:
        assert site.page(camera)["model"]["version"] == version


def test_a_superlink_killed_in_mid_round_comes_back_and_the_night_goes_on(site: TinySite) -> None:
    site.write_rules(rounds=2, epochs=200)
    version, nights = site.shelf.current or 0, site.night_id
    for camera in site.cameras:
        site.start_night(camera)
    round_ = site.start_round()
    site.wait_for_event("Round 1 of 2", night=nights)

    second = site.start_round()  # two commands at once
    assert second.wait(60) == 1
    assert "A night is under way already" in site.round_said()
    if second.stdout:
        second.stdout.close()

    site.kill_superlink()
    assert site.registry.night(site.night_id).outcome is None
    assert site.shelf.versions() == sorted(range(1, version + 1))
    site.restart_superlink()
    held = site.finish_round(round_)
    check_published(site, held, version + 1)
    assert len([text for text in held.events if text.startswith("Round 1 of 2")]) == 1  # it was not held twice
    assert "The server restarted; the night goes on where it stood" in held.events
    assert [site.finish_night(camera) for camera in site.cameras] == [0, 0]


def test_a_round_command_and_a_serverapp_that_are_killed_cost_no_night(site: TinySite) -> None:
    site.write_rules(rounds=2, epochs=200)
    version, nights = site.shelf.current or 0, site.night_id
    for camera in site.cameras:
        site.start_night(camera)
    first = site.start_round()
    site.wait_for_event("Round 1 of 2", night=nights)
    first.kill()
    first.communicate()
    os.kill(serving(site), signal.SIGKILL)
    held = site.finish_round(site.start_round())
    assert site.night_id == nights + 1  # the same night
    check_published(site, held, version + 1)
    assert "was cut off" in held.printed
    assert "The server restarted; the night goes on where it stood" in held.events
    assert len([text for text in held.events if text.startswith("Round 1 of 2")]) == 1
    assert [site.finish_night(camera) for camera in site.cameras] == [0, 0]


def test_a_camera_that_stalls_past_the_deadline_is_left_out_and_takes_part_when_it_wakes(site: TinySite) -> None:
    site.write_rules(rounds=4, epochs=1000, round_deadline_s=12)
    version, nights = site.shelf.current or 0, site.night_id
    quick, slow = site.cameras
    for camera in site.cameras:
        site.start_night(camera)
    round_ = site.start_round()
    wait_until(lambda: site.status(slow).phase == "training", what="the slow one's training", timeout_s=120)
    with asleep(family(site.night_pid(slow))):
        site.wait_for_event(f"Round 1 goes on without {slow.name}", night=nights)
    held = site.finish_round(round_)
    check_published(site, held, version + 1)
    rounds = held.figures["rounds"]
    assert list(rounds[0]["examples"]) == [quick.name]
    assert rounds[0]["left_out"] == {slow.name: "no answer within 12 s"}
    assert any(set(each["examples"]) == {quick.name, slow.name} for each in rounds[1:]), held.events
    assert [site.finish_night(camera) for camera in site.cameras] == [0, 0]


def test_a_reply_that_is_announced_and_never_comes_costs_only_its_camera(site: TinySite) -> None:
    site.write_rules(rounds=1, round_deadline_s=60)
    version = site.shelf.current or 0
    whole, torn = site.cameras
    with Muffler(site.paths, site.settings.superlink.port) as muffler, site.reached_at(torn, muffler.port):
        for camera in site.cameras:
            site.start_night(camera)
        nights = site.night_id
        round_ = site.start_round()
        site.wait_for_event(f"Round 1 goes on without {torn.name}", night=nights)
        site.stop_night(torn)
        held = site.finish_round(round_)
    assert muffler.announced
    assert (held.exit_code, held.message) == (0, f"Version {version + 1} runs on 1 of 2 cameras"), held.events
    (left_out,) = (entry["left_out"] for entry in held.figures["rounds"])
    assert left_out[torn.name] == "its answer was announced and did not come, or the question was lost"
    assert site.finish_night(whole) == 0


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A folder on a disk of its own that has room for little; a file to fill it up with."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    try:
        if mounted.returncode:
            pytest.skip(f"a disk of its own needs the right to mount one: {mounted.stderr.strip()}")
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield folder / "ballast"
        shutil.rmtree(aside)
        shutil.copytree(folder, aside, symlinks=True)
        (aside / "ballast").unlink(missing_ok=True)
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", folder], check=True)
        folder.rmdir()
        aside.rename(folder)


def fill_up(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass


def test_a_server_without_room_publishes_nothing_and_does_so_once_there_is_some(site: TinySite) -> None:
    site.write_rules()
    version = site.shelf.current or 0
    running = [site.page(camera)["model"]["version"] for camera in site.cameras]
    with small_disk(site.paths.models) as ballast:
        fill_up(ballast)
        held = site.hold_night()
        assert (held.exit_code, held.outcome) == (1, "failed"), held.events
        assert "No space left" in held.message
        assert "Nothing was published that isn't whole" in held.message
        assert (site.shelf.current, site.shelf.highest) == (version, version)
        assert site.shelf.versions() == list(range(1, version + 1))
        assert [site.page(camera)["model"]["version"] for camera in site.cameras] == running
        assert [site.status(camera).phase for camera in site.cameras] == ["done", "done"]
        ballast.unlink()
        check_published(site, site.hold_night(), version + 1)


@pytest.mark.skipif(_FAKETIME is None, reason="libfaketime, which gives one process another clock, isn't installed")
def test_a_camera_whose_clock_is_fast_says_so_holds_nobody_up_and_joins_once_it_is_right(
    site: TinySite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write_rules(quorum=1, quorum_deadline_s=15, rounds=8, epochs=20)
    version, nights = site.shelf.current or 0, site.night_id
    right, fast = site.cameras
    with monkeypatch.context() as patch:
        patch.setenv("LD_PRELOAD", str(_FAKETIME))
        patch.setenv("FAKETIME", "+6s")
        site.start_night(fast)
    site.start_night(right)
    round_ = site.start_round()
    wait_until(lambda: "clock is" in site.status(fast).message, what="the word of the clock", timeout_s=60)
    night = site.page(fast)["night"]
    assert night["phase"] == "waiting"
    assert re.search(r"This camera's clock is [56] s ahead of the server's.*timedatectl", night["message"])
    site.wait_for_event("Round 1 of 8", night=nights)
    assert site.stop_night(fast) == 1  # libfaketime can't set a running program right: tests/unit/test_reach.py does
    site.start_night(fast)
    held = site.finish_round(round_)
    check_published(site, held, version + 1)
    rounds = held.figures["rounds"]
    assert list(rounds[0]["examples"]) == [right.name]
    assert set(rounds[-1]["examples"]) == {right.name, fast.name}, held.events
    assert [site.finish_night(camera) for camera in site.cameras] == [0, 0]
