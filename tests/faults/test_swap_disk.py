"""Swaps on a full disk: the version waits, nothing is blamed for it, and it runs once there is room."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.models.trial import Trial, read_trial
from appliance.models.verdict import read_verdict
from tests.fakes.eim_faults import write_version
from tests.fakes.swap_bench import NEW, OLD, FullDisk, Patience, SwapBench, other

PATIENT = Patience()

FILLS_UP_AT = ("verify", "stage", "impulse.eim", "probe", "judge", "activate", "soak", "commit", "previous", "current")


@pytest.mark.parametrize("at", FILLS_UP_AT)
def test_a_full_disk_puts_a_version_off_and_it_runs_once_there_is_room(
    bench: SwapBench, tmp_path: Path, at: str
) -> None:
    case = bench.case(tmp_path)
    other()(bench, case)
    bench.use(case)
    swapper = bench.swapper(case)
    disk = FullDisk(at)
    begun = time.monotonic()
    with disk.mounted():
        for _ in range(4):  # more often than a version may be cut off by restarts
            with pytest.raises(OSError, match="No space left"):
                swapper.swap(NEW)
            bench.decides(OLD)
            assert (case.shelf.current, case.shelf.offered) == (OLD, NEW)
            assert read_verdict(case.shelf.root, NEW) is None
            assert read_trial(case.shelf.root) is None
        assert disk.refused
        disk.room()
        verdict = swapper.swap(NEW)
    assert verdict.accepted, verdict.reason
    assert (case.shelf.current, case.shelf.previous, case.shelf.offered) == (NEW, OLD, None)
    assert time.monotonic() - begun < 40
    bench.decides(NEW)


def test_a_disk_that_is_full_for_one_file_only_tells_why_the_version_waits(bench: SwapBench, tmp_path: Path) -> None:
    case = bench.case(tmp_path)
    other()(bench, case)
    bench.use(case)
    swapper = bench.swapper(case)
    disk = FullDisk("impulse.eim")
    with disk.mounted():
        disk.only = True
        verdict = swapper.swap(NEW)
        assert (verdict.final, verdict.state, case.shelf.offered) == (False, "stage", NEW)
        assert "No space left" in verdict.reason
        assert read_verdict(case.shelf.root, NEW) == verdict
        disk.room()
        swapper.start()  # by itself, after a while
        try:
            ends = time.monotonic() + 20
            while case.shelf.offered is not None and time.monotonic() < ends:
                time.sleep(0.05)
        finally:
            swapper.stop()
    assert (case.shelf.current, case.shelf.offered) == (NEW, None)
    bench.decides(NEW)


@pytest.mark.parametrize("at", ["rollback", f"{NEW}.json"])
def test_a_bad_version_s_verdict_that_finds_no_room_is_written_later_without_another_try(
    bench: SwapBench, tmp_path: Path, at: str
) -> None:
    case = bench.case(tmp_path)
    other("rubbish")(bench, case)
    bench.use(case)
    swapper = bench.swapper(case)
    disk = FullDisk(at)
    with disk.mounted():
        for _ in range(4):
            with pytest.raises(OSError, match="No space left"):
                swapper.swap(NEW)
        bench.decides(OLD)
        disk.room()
        verdict = swapper.swap(NEW)
    assert case.starts.count(NEW) == 1
    assert verdict.quarantined
    assert "not JSON" in verdict.reason
    assert (read_trial(case.shelf.root), case.shelf.offered) == (None, None)


def test_a_good_version_s_verdict_that_finds_no_room_is_written_later_without_another_try(
    bench: SwapBench, tmp_path: Path
) -> None:
    case = bench.case(tmp_path)
    other()(bench, case)
    bench.use(case)
    swapper = bench.swapper(case)
    disk = FullDisk(f"{NEW}.json")
    with disk.mounted():
        for _ in range(5):
            with pytest.raises(OSError, match="No space left"):
                swapper.swap(NEW)
            bench.decides(NEW)
        disk.room()
        assert swapper.swap(NEW).accepted
    assert case.starts.count(NEW) == 1
    assert (case.shelf.current, case.shelf.offered, read_trial(case.shelf.root)) == (NEW, None, None)


def test_a_relapse_on_a_full_disk_still_ends_with_the_old_model_answering(bench: SwapBench, tmp_path: Path) -> None:
    case = bench.case(tmp_path)
    other("exits-mid-reply", at_frame=30)(bench, case)
    bench.use(case)
    assert bench.swapper(case).swap(NEW).accepted
    disk = FullDisk(f"{NEW}.json")
    with disk.mounted():
        bench.decides(OLD, within_s=45)
        assert "failed 3 times" in str(bench.starter.stand_in)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system can't be mounted here ({mounted.stderr.decode().strip()})")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def filling(folder: Path, at: str) -> Callable[[Trial], None]:
    return lambda trial: fill(folder) if trial.state == at else None


def fill(folder: Path) -> None:
    with (folder / "filler").open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def test_a_file_system_that_is_really_full_puts_a_version_off_in_every_state(
    bench: SwapBench, tmp_path: Path, small_disk: Path
) -> None:
    case = bench.case(small_disk)
    case.instead = write_version(tmp_path / "new.eim", NEW)
    bench.use(case)
    for at in ("verify", "stage", "probe", "judge", "activate", "soak", "commit"):
        try:
            assert (
                not bench.swapper(case, entered=filling(small_disk, at)).swap(NEW).final
            )  # there may be room for this one file, where another one went
        except OSError as error:
            assert "No space left" in str(error)  # noqa: PT017  either is right
        bench.decides(OLD)
        assert (case.shelf.current, case.shelf.offered) == (OLD, NEW)
        (small_disk / "filler").unlink()
    verdict = bench.swapper(case).swap(NEW)
    assert verdict.accepted, verdict.reason
    bench.decides(NEW)
