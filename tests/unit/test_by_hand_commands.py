"""``sitecam rollback``, ``recover`` and ``try`` go through the camera process that runs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from appliance import cli
from appliance.models.shelf import Shelf
from appliance.models.trial import read_trial
from appliance.models.verdict import read_verdict
from tests.fakes.enrolled import replay
from tests.fakes.fleet import TinyFleet
from tests.fakes.visiting import state_of
from tests.fakes.waiting import wait_until


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def enrolled(tmp_path: Path, tiny_backbone: bytes, port: int) -> tuple[Path, Shelf]:
    """The sitecam.toml of a camera that was enrolled with version 1, and got version 2 since; and its shelf."""
    fleet = TinyFleet(tmp_path, tiny_backbone)
    path = replay(tmp_path, fleet, page_port=port, rate_fps=50, more="[model]\nsoak_decisions = 5\n")
    shelf = Shelf(tmp_path / "state" / "models", fleet.public_key)
    shelf.accept(*fleet.version(2))
    return path, shelf


def test_the_commands_go_through_the_running_camera(
    enrolled: tuple[Path, Shelf], capsys: pytest.CaptureFixture[str]
) -> None:
    config, shelf = enrolled
    shelf.offer(2)

    def sitecam(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = cli.main(["--config", str(config), *arguments])
        said = capsys.readouterr()
        return code, said.out + said.err

    def answers() -> int:
        state = state_of(config)
        return int(state["model"]["version"] or 0) if state else 0

    command = [sys.executable, "-m", "appliance.cli", "--config", str(config), "camera"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: shelf.current == 2 and read_trial(shelf.root) is None and shelf.offered is None)
            assert answers() == 2

            code, said = sitecam("rollback")
            assert (code, answers(), shelf.current) == (0, 1, 1), said
            assert said.startswith("Version 1 runs.")
            verdict = read_verdict(shelf.root, 2)
            assert verdict is not None
            assert verdict.quarantined
            code, said = sitecam("models", "--json")
            assert [row["state"] for row in json.loads(said)] == ["runs", "quarantined"]

            shelf.offer(2)  # the network brings it again: the old verdict stands
            wait_until(lambda: shelf.offered is None)
            time.sleep(0.7)
            assert (answers(), read_verdict(shelf.root, 2)) == (1, verdict)
            code, said = sitecam("rollback")
            assert (code, "no earlier version" in said) == (1, True)

            code, said = sitecam("try", "2")
            assert (code, answers()) == (0, 2), said
            code, said = sitecam("recover")
            assert (code, answers()) == (0, 1), said
        finally:
            process.terminate()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    code, said = sitecam("recover")
    assert (code, said) == (0, "Version 1 was assembled afresh from its parts.\n")
    code, said = sitecam("try", "2")
    assert (code, shelf.offered) == (0, 2), said
    assert not [name for name in os.listdir(shelf.root) if name.startswith(("request", "answer", "trial"))]  # noqa: PTH208
