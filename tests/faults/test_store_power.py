"""The power goes at any instruction, 500 times: what was called saved is there, and nothing is left over.

A kill loses no page that the kernel has; that pages reach the disk in the right order is the business of fsync, see
:meth:`appliance.store.pictures.PictureFiles.sync`. So a file system in memory does, and makes 500 times quick.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes import store_writer

PROJECT = Path(__file__).resolve().parents[2]
MEMORY = Path("/dev/shm")  # noqa: S108  # the folder made in it has a random name and is the user's alone
KILLS = 125  # in each of four runs


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="sitecam-test-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("room", ["enough room", store_writer.PURGED])
def test_a_writer_that_is_killed_125_times_loses_nothing_that_it_called_saved(
    quick_folder: Path, room: str, seed: int
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fakes.store_writer", str(quick_folder / "store"), str(KILLS), str(seed), room],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["kills"] == KILLS
    assert report["done"] > KILLS
    assert bool(report["purged"]) == (room == store_writer.PURGED)
