"""Forgetting a camera whose process runs, and the status of one that was killed: with real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from appliance.paths import CameraPaths
from appliance.ports import free_port
from appliance.status_file import read_status
from tests.fakes.enrolled import replay
from tests.fakes.fleet import TinyFleet
from tests.fakes.tree import tree_of
from tests.fakes.waiting import wait_until


@pytest.fixture
def config(tmp_path: Path, tiny_backbone: bytes) -> Path:
    port = free_port("127.0.0.1", 0, means="", do="")
    return replay(tmp_path, TinyFleet(tmp_path, tiny_backbone), page_port=port, rate_fps=20)


def sitecam(config: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "appliance.cli", "--config", str(config), *words]


@contextmanager
def running(config: Path) -> Iterator[subprocess.Popen[str]]:
    """The camera process, watching."""
    with subprocess.Popen(
        sitecam(config, "camera"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            wait_until(lambda: process.poll() is not None or _watches(config), 90)
            assert process.poll() is None, process.stdout and process.stdout.read()
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=60)


def _watches(config: Path) -> bool:
    status = read_status(config.parent / "state")
    return status is not None and status.model.version is not None


def test_a_running_camera_is_forgotten_with_everything_that_it_had_open(config: Path) -> None:
    with running(config) as process:
        asked = subprocess.run(
            sitecam(config, "forget", "--yes-forget", "gate", "--json"),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert asked.returncode == 0, asked.stderr
        process.communicate(timeout=60)
    proof = json.loads(asked.stdout)
    assert proof["remains"] == []
    assert proof["versions"] == [1]
    assert proof["was"]["models"]["files"] > 3
    assert set(tree_of(CameraPaths(config.parent / "state").root)) == {"forgotten.json"}


def test_the_status_of_a_camera_that_was_killed_says_so_and_since_when(config: Path) -> None:
    with running(config) as process:
        alive = subprocess.run(sitecam(config, "status"), capture_output=True, text=True, check=False, timeout=60)
        process.kill()
        process.communicate(timeout=60)
    assert (alive.returncode, alive.stdout.splitlines()[0]) == (0, "ok       It watches.")
    dead = subprocess.run(sitecam(config, "status", "--json"), capture_output=True, text=True, check=False, timeout=60)
    body = json.loads(dead.stdout)
    assert dead.returncode == 1
    assert (body["healthy"], body["running"]) == (False, False)
    assert "dead. It was last heard of at" in body["complaint"]
    assert body["status"]["model"]["version"] == 1
