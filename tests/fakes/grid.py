"""A Flower Grid without Flower: nodes that answer as a test's functions say."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

_SERVER_NODE = 1
_NUMBERS = itertools.count(1)


def question(content: RecordDict, node: int, kind: str, *, ttl: float = 60) -> Message:
    """A message as Flower hands it to a ClientApp: with an id."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, _SERVER_NODE, 1
    message = Message(content, node, kind, ttl=ttl)
    return _with_id(message)


def failure(to: Message, reason: str) -> Message:
    """The reply that Flower makes where a ClientApp raised."""
    return Message(Error(code=2, reason=reason), reply_to=to)


@dataclass
class FakeNode:
    """A node.

    Attributes:
        answer: Its reply to a message; None where it never replies.
        after_pulls: Its reply is there from this pull on.
        reachable: Messages to it can be pushed.
        online: It is among the grid's nodes.
    """

    answer: Callable[[Message], Message | None]
    after_pulls: int = 0
    reachable: bool = True
    online: bool = True


class FakeGrid(Grid):
    """A grid of such nodes.

    Args:
        nodes: By node id.
    """

    def __init__(self, nodes: Mapping[int, FakeNode]) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, _SERVER_NODE, 1
        self.nodes = dict(nodes)
        self.sent: list[Message] = []
        self.pulls = 0
        self._due: dict[str, tuple[int, Message]] = {}

    def get_node_ids(self) -> Iterable[int]:
        return [identity for identity, node in self.nodes.items() if node.online]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        # Flower's own gives None for a message that could not be pushed, whatever its type says.
        return [self._push(message) for message in messages]  # type: ignore[misc]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.pulls += 1
        due = [name for name in message_ids if name in self._due and self._due[name][0] <= self.pulls]
        return [self._due.pop(name)[1] for name in due]

    def _push(self, message: Message) -> str | None:
        node = self.nodes[message.metadata.dst_node_id]
        if not node.reachable:
            return None
        self.sent.append(_with_id(message))
        reply = node.answer(message)
        if reply is not None:
            self._due[message.metadata.message_id] = (self.pulls + node.after_pulls, reply)
        return message.metadata.message_id

    # What no code of ours asks of a grid

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        raise NotImplementedError


def _with_id(message: Message) -> Message:
    vars(message.metadata)["_message_id"] = f"message-{next(_NUMBERS)}"
    return message
