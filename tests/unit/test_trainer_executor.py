"""The executor where there is no SuperNode to take tasks from; tests/night has real ones."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
from flwr.clientapp import ClientApp

from appliance.errors import NightError
from trainer.executor import Executor

HANG_S = 30


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def executor(tmp_path: Path) -> Executor:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(32)))
    return Executor(f"127.0.0.1:{closed_port()}", secret, ClientApp())


def outcome_of(executor: Executor, going: object) -> Exception | None:
    """How its run ended; the test fails where it goes on for ever."""
    ended: list[Exception | None] = []

    def run() -> None:
        try:
            executor.run(going)  # type: ignore[arg-type]  # a function that says whether to go on
        except NightError as error:
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(HANG_S)
    assert ended, f"it still waited for its SuperNode after {HANG_S} s"
    return ended[0]


def test_a_supernode_that_ended_ends_the_night(executor: Executor) -> None:
    error = outcome_of(executor, lambda: True)
    assert isinstance(error, NightError)
    assert "The SuperNode answers no more" in str(error)


def test_whoever_watches_the_supernode_has_the_first_word(executor: Executor) -> None:
    """The night process knows more: it has the SuperNode's exit status and its last words."""
    asked: list[int] = []

    def going() -> bool:
        asked.append(1)
        if len(asked) > 1:
            raise NightError("The SuperNode ended with status 1: this key is unknown")
        return True

    assert "this key is unknown" in str(outcome_of(executor, going))


def test_a_night_that_ends_meanwhile_is_no_fault(executor: Executor) -> None:
    answers = iter([True, False])
    assert outcome_of(executor, lambda: next(answers)) is None
