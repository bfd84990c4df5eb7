"""Why a SuperNode ended, from what flwr 1.41 prints; tests/night has real ones."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import cast

import pytest

from appliance.fleet import Fleet
from appliance.paths import CameraPaths
from trainer import flower
from trainer.supernode import SuperNode

ACTIVATION = "ERROR :     [code: 2004] Failed to activate SuperNode. Please ensure the SuperNode is registered"
GRACEFUL = "INFO :      SuperNode terminated gracefully"


class _Fleet:
    address = ("fleet.example", 9443)


def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, status: int) -> SuperNode:
    """A program in the SuperNode's place that prints this and ends."""
    program = tmp_path / "flower-supernode"
    (tmp_path / "words").write_text(text)
    program.write_text(f'#!/bin/sh\ncat "{tmp_path}/words"\nexit {status}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(flower, "program", lambda _: str(program))
    paths = CameraPaths(tmp_path / "state")
    paths.flower.mkdir(parents=True)
    node = SuperNode(paths, cast("Fleet", _Fleet()), tmp_path / "secret", 1, "http://127.0.0.1:1")
    while node.running:
        pass
    return node


@pytest.mark.parametrize(
    ("text", "status", "words", "unknown"),
    [
        (ACTIVATION, 245, "doesn't know its key, or it was revoked", True),
        (GRACEFUL, 0, "its clock differs from the server's", False),
        (f"INFO :      SuperNode ID: 7\n{GRACEFUL}", 0, "in mid-night: it was revoked, or its clock jumped", False),
        ("one\nExit Code: 601\nbecause\nof this", 89, "status 89: Exit Code: 601 / because / of this", False),
        ("", 1, "status 1: it said nothing", False),
    ],
)
def test_the_reason_is_read_from_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, status: int, words: str, unknown: bool
) -> None:
    node = ended(tmp_path, monkeypatch, text, status)
    assert words in str(node.why())
    assert node.unknown is unknown
    node.end()
