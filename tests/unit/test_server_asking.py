"""Asking cameras: nobody is waited for beyond the deadline, and nobody's silence costs another."""

from __future__ import annotations

import time

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from server import asking
from server.asking import Answers, ask
from tests.fakes.grid import FakeGrid, FakeNode


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_POLL_S", 0.01)
    monkeypatch.setattr(asking, "_LIVENESS_S", 0.05)


def echo(message: Message) -> Message:
    return Message(message.content, reply_to=message)


def silence(_: Message) -> None:
    return None


def send(grid: FakeGrid, *nodes: int, deadline_s: float = 30, **more: object) -> Answers:
    contents = {node: RecordDict({"config": ConfigRecord({"to": node})}) for node in nodes}
    return ask(grid, contents, "query.status", group="g", deadline_s=deadline_s, **more)  # type: ignore[arg-type]  # on_reply


def test_each_node_gets_its_own_content_and_its_reply_is_kept_under_its_id() -> None:
    grid = FakeGrid({node: FakeNode(echo) for node in (5, 6, 7)})
    answers = send(grid, 5, 6, 7)
    assert answers.missing == {}
    assert {node: reply.content.config_records["config"]["to"] for node, reply in answers.replies.items()} == {
        5: 5,
        6: 6,
        7: 7,
    }
    assert [(m.metadata.message_type, m.metadata.group_id) for m in grid.sent] == [("query.status", "g")] * 3


def test_once_all_are_in_nobody_waits_for_the_deadline() -> None:
    began = time.monotonic()
    answers = send(FakeGrid({5: FakeNode(echo)}), 5, deadline_s=3600)
    assert set(answers.replies) == {5}
    assert time.monotonic() - began < 60


def test_a_late_reply_within_the_deadline_counts() -> None:
    grid = FakeGrid({5: FakeNode(echo), 6: FakeNode(echo, after_pulls=20)})
    assert list(send(grid, 5, 6).replies) == [5, 6]
    assert grid.pulls >= 20


def test_replies_are_told_as_they_come() -> None:
    order: list[int] = []
    grid = FakeGrid({5: FakeNode(echo, after_pulls=9), 6: FakeNode(echo), 7: FakeNode(echo, after_pulls=5)})
    answers = send(grid, 5, 6, 7, on_reply=lambda node, _: order.append(node))
    assert order == list(answers.replies) == [6, 7, 5]


def test_a_node_that_never_answers_costs_the_deadline_and_is_named() -> None:
    began = time.monotonic()
    answers = send(FakeGrid({5: FakeNode(echo), 6: FakeNode(silence)}), 5, 6, deadline_s=1)
    assert set(answers.replies) == {5}
    assert answers.missing == {6: "no answer within 1 s"}
    assert time.monotonic() - began >= 1


def test_a_node_that_went_offline_is_not_waited_for() -> None:
    grid = FakeGrid({5: FakeNode(echo), 6: FakeNode(silence, online=False)})
    began = time.monotonic()
    answers = send(grid, 5, 6, deadline_s=3600)
    assert set(answers.replies) == {5}
    assert answers.missing == {6: "it went offline"}
    assert time.monotonic() - began < 60


def test_a_node_that_goes_offline_while_it_works_is_not_waited_for() -> None:
    grid = FakeGrid({6: FakeNode(silence)})

    def then_dies(message: Message) -> Message:
        grid.nodes[6].online = False
        return echo(message)

    grid.nodes[5] = FakeNode(then_dies, after_pulls=3)
    answers = send(grid, 6, 5, deadline_s=3600)
    assert (set(answers.replies), set(answers.missing)) == ({5}, {6})


def test_a_question_that_could_not_be_sent_is_told_and_the_others_are_asked() -> None:
    grid = FakeGrid({5: FakeNode(echo, reachable=False), 6: FakeNode(echo)})
    answers = send(grid, 5, 6)
    assert set(answers.replies) == {6}
    assert answers.missing == {5: "the question could not be sent"}


def test_a_message_lives_no_longer_than_anybody_waits_for_it() -> None:
    grid = FakeGrid({5: FakeNode(echo)})
    send(grid, 5, deadline_s=12)
    assert grid.sent[0].metadata.ttl == 12


def test_asking_nobody_takes_no_time() -> None:
    assert send(FakeGrid({}), deadline_s=3600) == Answers({}, {})
