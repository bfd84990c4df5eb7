"""Who is here, with cameras whose answers Flower loses or makes up; whole nights are in test_server_rounds.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.common.constant import ErrorCode

from server import asking
from server import roll as module
from server.registry import Registry
from server.roll import Roll
from server.roster import Roster
from tests.fakes.grid import FakeGrid, FakeNode
from trainer import messages
from trainer.messages import CameraStatus

HERE = CameraStatus("gate", 1, {"head": 6, "hardhat": 6}, {}, (), backbone="b")


def status(message: Message) -> Message:
    return Message(RecordDict({messages.CONFIG: HERE.to_record()}), reply_to=message)


def error(code: int) -> Callable[[Message], Message]:
    return lambda message: Message(Error(code=code, reason="words"), reply_to=message)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Roll, FakeGrid, list[str]]:
    monkeypatch.setattr(asking, "_POLL_S", 0.01)
    registry, roster = Registry(tmp_path / "registry.sqlite"), Roster(tmp_path / "registry.sqlite")
    roster.enrol(7, "gate", "key")
    grid, said = FakeGrid({7: FakeNode(status)}), list[str]()
    return Roll(grid, registry, roster, registry.begin("tonight"), said.append), grid, said


@pytest.mark.parametrize(
    "code", [ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE]
)
def test_a_question_that_flower_lost_is_asked_again(site: tuple[Roll, FakeGrid, list[str]], code: int) -> None:
    """A server that restarts loses messages; that is no camera's fault."""
    roll, grid, said = site
    grid.nodes[7].answer = error(code)
    roll.look()
    assert not roll.complete
    grid.nodes[7].answer = status
    roll.wait(lambda: roll.complete, 10)
    assert roll.ready("b", 1) == [7]
    assert len(grid.sent) == 2
    assert not [text for text in said if "can't take part" in text]


def test_a_camera_whose_own_code_failed_is_asked_once_a_night(site: tuple[Roll, FakeGrid, list[str]]) -> None:
    roll, grid, said = site
    grid.nodes[7].answer = error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION)
    roll.wait(lambda: roll.complete, 10)
    roll.look()
    assert len(grid.sent) == 1
    assert said == ["gate can't take part: words"]
    assert roll.ready("b", 1) == []


def test_a_large_fleet_is_asked_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_POLL_S", 0.01)
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    registry, roster = Registry(tmp_path / "registry.sqlite"), Roster(tmp_path / "registry.sqlite")
    for node in range(1, 9):
        roster.enrol(node, f"gate-{node}", f"key {node}")
    grid = FakeGrid({node: FakeNode(status, after_pulls=2) for node in range(1, 9)})
    roll = Roll(grid, registry, roster, registry.begin("tonight"), list[str]().append)
    roll.look()
    assert len(grid.sent) == 3
    roll.wait(lambda: roll.complete, 10)
    assert len(grid.sent) == 8


def test_a_camera_that_goes_and_comes_back_before_it_answered_is_asked_again(
    site: tuple[Roll, FakeGrid, list[str]],
) -> None:
    roll, grid, _ = site
    grid.nodes[7].answer = lambda _: None
    roll.look()
    grid.nodes[7].online = False
    roll.look()
    grid.nodes[7].online, grid.nodes[7].answer = True, status
    roll.wait(lambda: roll.complete, 10)
    assert len(grid.sent) == 2
