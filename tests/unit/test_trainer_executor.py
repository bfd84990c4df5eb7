"""The executor without a SuperNode, or with one that only hands out tasks; tests/night has real ones."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from flwr.clientapp import ClientApp
from flwr.proto.runtime_pb2 import AcquireTaskResponse
from flwr.supercore.runtime import RuntimeHttpClient

from appliance.errors import NightError
from trainer import executor as module
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


def outcome_of(executor: Executor, going: Callable[[], bool]) -> Exception | None:
    """How its run ended; the test fails where it goes on for ever."""
    ended: list[Exception | None] = []

    def run() -> None:
        try:
            executor.run(going)
        except NightError as error:
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(HANG_S)
    assert ended, f"it still waited for its SuperNode after {HANG_S} s"
    return ended[0]


def test_a_supernode_that_ended_ends_the_night(executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENCE_S", 0.5)
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


def with_one_task(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> None:
    """The SuperNode hands out one task, over and over; its process does ``work``."""
    reply = AcquireTaskResponse(token="one")  # noqa: S106  # no secret
    reply.task.SetInParent()
    monkeypatch.setattr(RuntimeHttpClient, "AcquireTask", lambda *_: reply)
    monkeypatch.setattr(module, "_child", lambda *_: work())


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # threads of other tests are no concern of ours
def test_the_task_that_ends_the_night_may_finish(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reply is still on its way; cut short, it would keep the server waiting for minutes."""
    closing, sent = tmp_path / "closing", tmp_path / "sent"

    def close() -> None:
        closing.touch()
        time.sleep(1)
        sent.touch()

    with_one_task(monkeypatch, close)
    assert outcome_of(executor, lambda: not closing.exists()) is None
    assert sent.exists()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_task_that_hangs_does_not_outlive_the_night(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, woke = tmp_path / "begun", tmp_path / "woke"

    def hang() -> None:
        begun.touch()
        time.sleep(HANG_S)
        woke.touch()

    with_one_task(monkeypatch, hang)
    assert outcome_of(executor, lambda: not begun.exists()) is None
    assert not woke.exists()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_task_that_its_supernode_has_given_up_gives_way_to_the_next_one(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message will never be whole: the server ended while it was sending it."""
    monkeypatch.setattr(module, "_BUSY_POLL_S", 0.1)
    begun, done, woke = tmp_path / "begun", tmp_path / "done", tmp_path / "woke"

    def acquire(*_: object) -> AcquireTaskResponse:
        token = "" if done.exists() else "two" if begun.exists() else "one"
        reply = AcquireTaskResponse(token=token)
        if token:
            reply.task.SetInParent()
        return reply

    def work(_: str, token: str, __: ClientApp) -> None:
        if token == "one":  # noqa: S105  # no secret
            begun.touch()
            time.sleep(HANG_S)
            woke.touch()
        done.touch()

    monkeypatch.setattr(RuntimeHttpClient, "AcquireTask", acquire)
    monkeypatch.setattr(module, "_child", work)
    assert outcome_of(executor, lambda: not done.exists()) is None
    assert not woke.exists()


def test_a_supernode_that_is_silent_for_a_moment_after_a_long_sleep_is_not_given_up(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that stood still wakes with its last answer long ago."""
    monkeypatch.setattr(module, "_SILENCE_S", 0.5)
    answers = iter([None, None, httpx.ConnectError("it too has just woken"), None, None])

    def acquire(*_: object) -> AcquireTaskResponse:
        answer = next(answers)
        if answer:
            time.sleep(1)  # longer than it may be silent
            raise answer
        return AcquireTaskResponse()

    monkeypatch.setattr(RuntimeHttpClient, "AcquireTask", acquire)
    looks = iter([True] * 5 + [False])
    assert outcome_of(executor, lambda: next(looks)) is None
