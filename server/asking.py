"""Asks cameras something and waits no longer than a deadline: Flower's own helpers wait for ever, or for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.superlink.grid import http_grid

_POLL_S = 0.5
_LONGEST_REST_S = 10.0
_LIVENESS_S = 5.0
_PATIENCE_S = 10.0  # with the arrays of a reply that was announced, and so for all replies of one pull together
_BATCH_MESSAGES = 100
_BATCH_BYTES = 2 * 2**20


@dataclass(frozen=True)
class Answers:
    """What came back.

    Attributes:
        replies: By node id, in the order of their arrival.
        missing: Node id -> why there is none, in a sentence.
    """

    replies: Mapping[int, Message]
    missing: Mapping[int, str]


class Questions:
    """Questions of one kind that are under way; nothing here waits.

    Args:
        grid: Flower's.
        message_type: Flower's, e.g. "train" or "query.status".
        group: Shown in the nodes' logs, e.g. the round.
        deadline_s: Of each question, from its sending.
    """

    def __init__(self, grid: Grid, message_type: str, *, group: str, deadline_s: float) -> None:
        self._grid, self._type, self._group, self._deadline_s = grid, message_type, group, deadline_s
        self._asked: dict[str, tuple[int, float]] = {}  # message id -> node, when its time is up
        self.missing: dict[int, str] = {}

    @property
    def open(self) -> set[int]:
        """Nodes that have not answered yet."""
        return {node for node, _ in self._asked.values()}

    def send(self, contents: Mapping[int, RecordDict]) -> None:
        """Send each node its content, many small ones in one request."""
        for batch in _batches(contents):
            messages = [
                Message(content, node, self._type, ttl=self._deadline_s, group_id=self._group)
                for node, content in batch.items()
            ]
            identities = list(self._grid.push_messages(messages)) or [""] * len(batch)  # none at all: it was too large
            ends = time.monotonic() + self._deadline_s
            for node, identity in zip(batch, identities, strict=True):
                if identity:
                    self._asked[identity] = (node, ends)
                else:
                    self.missing[node] = "the question could not be sent"

    def collect(self) -> Iterator[tuple[int, Message]]:
        """The replies that are in by now; nodes whose time is up go to ``missing``."""
        if not self._asked:
            return
        late = [identity for identity, (_, ends) in self._asked.items() if time.monotonic() > ends]
        for reply in self._grid.pull_messages(list(self._asked)):
            node, ends = self._asked.pop(reply.metadata.reply_to_message_id, (None, 0.0))
            if node is None:
                continue
            lost = self._lost(reply, ends)
            if lost:
                self.missing[node] = lost
            else:
                yield node, reply
        for identity in late:
            if identity in self._asked:
                self.missing[self._asked.pop(identity)[0]] = self._late

    def _lost(self, reply: Message, ends: float) -> str:
        """Why this is no answer of the node's but Flower's word that there is none; empty where it is one."""
        code = reply.error.code if reply.has_error() else None
        if code == ErrorCode.NODE_UNAVAILABLE:
            return "it went offline"
        if code not in (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE):
            return ""
        if time.monotonic() > ends - _POLL_S:
            return self._late
        return "its answer was announced and did not come, or the question was lost"

    @property
    def _late(self) -> str:
        return f"no answer within {self._deadline_s:.0f} s"

    def drop(self, nodes: Collection[int], why: str) -> None:
        """Wait for these no longer."""
        for identity, (node, _) in list(self._asked.items()):
            if node in nodes:
                del self._asked[identity]
                self.missing[node] = why


def ask(
    grid: Grid,
    contents: Mapping[int, RecordDict],
    message_type: str,
    *,
    group: str,
    deadline_s: float,
    on_reply: Callable[[int, Message], None] | None = None,
    meanwhile: Callable[[], Collection[int]] | None = None,
) -> Answers:
    """Send each node its content and collect replies until all are in, their nodes are gone, or time is up.

    Args:
        grid: Flower's.
        contents: By node id.
        message_type: Flower's, e.g. "train" or "query.status".
        group: Shown in the nodes' logs, e.g. the round.
        deadline_s: From now.
        on_reply: Called as soon as a reply is in.
        meanwhile: Called every few seconds; nodes that it names are not waited for any longer.
    """
    questions = Questions(grid, message_type, group=group, deadline_s=deadline_s)
    questions.send(contents)
    replies: dict[int, Message] = {}
    look_again = time.monotonic() + _LIVENESS_S
    while questions.open:
        looked = time.monotonic()
        for node, reply in questions.collect():
            replies[node] = reply
            if on_reply:
                on_reply(node, reply)
        if questions.open and time.monotonic() > look_again:
            questions.drop(questions.open - set(grid.get_node_ids()), "it went offline")
            if meanwhile:
                questions.drop(meanwhile(), "it does not belong to the fleet any longer")
            look_again = time.monotonic() + _LIVENESS_S
        if questions.open:
            rest(time.monotonic() - looked)
    return Answers(replies, questions.missing)


def rest(took_s: float) -> None:
    """Sleep between two looks: longer where a look takes long, so that looking never keeps the SuperLink busy."""
    time.sleep(max(_POLL_S, min(_LONGEST_REST_S, 3 * took_s)))


def _batches(contents: Mapping[int, RecordDict]) -> Iterator[dict[int, RecordDict]]:
    """A first model is megabytes and goes alone; a thousand heads go a hundred at a time."""
    batch: dict[int, RecordDict] = {}
    weight = 0
    for node, content in contents.items():
        size = _size_bytes(content)
        if batch and (len(batch) == _BATCH_MESSAGES or weight + size > _BATCH_BYTES):
            yield batch
            batch, weight = {}, 0
        batch[node] = content
        weight += size
    if batch:
        yield batch


def _size_bytes(content: RecordDict) -> int:
    arrays = sum(len(array.data) for record in content.array_records.values() for array in record.values())
    values = sum(
        len(value)
        for record in content.config_records.values()
        for value in record.values()
        if isinstance(value, bytes)
    )
    return arrays + values


def limit_pulls() -> None:
    """In this process: have Flower wait seconds, not two hours, for a reply that was announced and never sent.

    A camera that dies between the two would hold up everybody's round. All replies of one pull share the patience,
    so that many such cameras cost no more than one. Leans on a name inside flwr 1.41.0, which is pinned.
    """
    pull_objects, pull_messages = vars(http_grid)["pull_objects"], http_grid.HttpGrid.pull_messages
    shared = {"ends": 0.0}

    def patient_objects(object_ids: list[str], pull: Callable[[str], bytes] | None = None, **more: Any) -> Any:
        left_s = max(0.0, shared["ends"] - time.monotonic())
        return pull_objects(object_ids, pull or more["pull_object_fn"], max_time=left_s)

    def patient_messages(grid: http_grid.HttpGrid, message_ids: Any) -> Any:
        shared["ends"] = time.monotonic() + _PATIENCE_S
        return pull_messages(grid, message_ids)

    vars(http_grid)["pull_objects"] = patient_objects
    setattr(http_grid.HttpGrid, "pull_messages", patient_messages)  # noqa: B010  # a type checker forbids the plain form
