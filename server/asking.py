"""Asks cameras something and waits no longer than a deadline: Flower's own helpers wait for ever, or for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

_POLL_S = 0.5
_LIVENESS_S = 5.0


@dataclass(frozen=True)
class Answers:
    """What came back.

    Attributes:
        replies: By node id, in the order of their arrival.
        missing: Node id -> why there is none, in a sentence.
    """

    replies: Mapping[int, Message]
    missing: Mapping[int, str]


def ask(
    grid: Grid,
    contents: Mapping[int, RecordDict],
    message_type: str,
    *,
    group: str,
    deadline_s: float,
    on_reply: Callable[[int, Message], None] | None = None,
) -> Answers:
    """Send each node its content and collect replies until all are in, their nodes are gone, or time is up.

    Args:
        grid: Flower's.
        contents: By node id.
        message_type: Flower's, e.g. "train" or "query.status".
        group: Shown in the nodes' logs, e.g. the round.
        deadline_s: From now.
        on_reply: Called as soon as a reply is in.
    """
    asked, missing = _send(grid, contents, message_type, group, deadline_s)
    replies: dict[int, Message] = {}
    ends = time.monotonic() + deadline_s
    look_again = time.monotonic() + _LIVENESS_S
    while asked and time.monotonic() < ends:
        for reply in grid.pull_messages(list(asked)):
            node = asked.pop(reply.metadata.reply_to_message_id, None)
            if node is not None:
                replies[node] = reply
                if on_reply:
                    on_reply(node, reply)
        if asked and time.monotonic() > look_again:
            online = set(grid.get_node_ids())
            gone = {identity: node for identity, node in asked.items() if node not in online}
            missing |= dict.fromkeys(gone.values(), "it went offline")
            asked = {identity: node for identity, node in asked.items() if identity not in gone}
            look_again = time.monotonic() + _LIVENESS_S
        if asked:
            time.sleep(_POLL_S)
    missing |= dict.fromkeys(asked.values(), f"no answer within {deadline_s:.0f} s")
    return Answers(replies, missing)


def _send(
    grid: Grid, contents: Mapping[int, RecordDict], message_type: str, group: str, deadline_s: float
) -> tuple[dict[str, int], dict[int, str]]:
    """Push one by one: a first model is megabytes. Returns nodes by message id, and why some were not asked."""
    asked: dict[str, int] = {}
    missing: dict[int, str] = {}
    for node, content in contents.items():
        message = Message(content, node, message_type, ttl=deadline_s, group_id=group)
        identity = next(iter(grid.push_messages([message])), None)
        if identity:
            asked[identity] = node
        else:
            missing[node] = "the question could not be sent"
    return asked, missing
