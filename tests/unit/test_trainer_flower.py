"""Flower's programs phone nobody, whatever the environment they are started from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from trainer import flower

PROJECT = Path(__file__).resolve().parents[2]


def test_telemetry_and_the_look_for_updates_are_off(tmp_path: Path) -> None:
    environment = flower.environment(tmp_path)
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_HOME"] == str(tmp_path)


def test_nothing_of_flowers_and_no_proxy_is_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leftovers = ("FLWR_TELEMETRY_ENABLED", "FLWR_HOME", "FLWR_LOG_LEVEL", "FLWR_ANYTHING")
    proxies = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy", "NO_PROXY")
    for name in (*leftovers, *proxies):
        monkeypatch.setenv(name, "left over")
    monkeypatch.setenv("SITECAM_SOMETHING", "kept")
    environment = flower.environment(tmp_path)
    assert [name for name, value in environment.items() if value == "left over"] == []
    assert environment["SITECAM_SOMETHING"] == "kept"


def test_what_is_added_has_the_last_word(tmp_path: Path) -> None:
    environment = flower.environment(tmp_path, HTTPS_PROXY="http://127.0.0.1:5", PYTHONUNBUFFERED="")
    assert environment["HTTPS_PROXY"] == "http://127.0.0.1:5"
    assert environment["PYTHONUNBUFFERED"] == ""


def test_our_own_process_loses_its_proxies_and_leaves_the_home_folder_alone(tmp_path: Path) -> None:
    with patch.dict(os.environ, {"http_proxy": "http://proxy", "HTTPS_PROXY": "http://proxy", "OTHER": "kept"}):
        flower.settle_in(tmp_path / "flower")
        assert not [name for name in os.environ if name.lower() in {"http_proxy", "https_proxy", "all_proxy"}]
        assert os.environ["FLWR_HOME"] == str(tmp_path / "flower")
        assert os.environ["OTHER"] == "kept"


def test_our_own_programs_come_first_on_the_path(tmp_path: Path) -> None:
    assert flower.environment(tmp_path)["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert Path(flower.program("flower-supernode")).is_file()


@pytest.mark.parametrize("module", ["trainer.night", "trainer.executor"])
def test_telemetry_is_off_in_our_own_processes_too(module: str, tmp_path: Path) -> None:
    """A task runs Flower's code in a fork of the night process: not in a Flower program that we start."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("FLWR_")}
    code = f"import {module}; from flwr.supercore import telemetry; print(telemetry.FLWR_TELEMETRY_ENABLED)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**bare, "HOME": str(tmp_path)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == "0"
