"""Cutting a stream into JSON messages, however it was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.eim import framing
from appliance.eim.framing import Messages
from appliance.errors import ImpulseGarbledError


def bodies(messages: Messages, *chunks: bytes) -> list[dict[str, Any] | None]:
    return [message.body for chunk in chunks for message in messages.feed(chunk)]


@pytest.mark.parametrize("between", [b"", b"\n", b"\0", b"\r\n\n\0 "])
def test_several_messages_in_one_chunk_are_told_apart(between: bytes) -> None:
    data = between.join([b'{"id": 1}', b'{"id": 2, "a": {"b": []}}', b'{"id": 3}'])
    assert bodies(Messages(), data) == [{"id": 1}, {"id": 2, "a": {"b": []}}, {"id": 3}]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_messages_in_pieces_of_any_size_are_put_together(size: int) -> None:
    sent = [{"id": 1, "a": {"b": [1.5, "}{"]}}, {"id": 2, "name": 'brace } quote " ünïcode €'}, {"id": 3}]
    data = b"\n".join(json.dumps(body, ensure_ascii=False).encode() for body in sent)
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    assert bodies(Messages(), *chunks) == sent


def test_an_unfinished_message_is_waited_for() -> None:
    messages = Messages()
    assert bodies(messages, b'{"id": 1}{"id": {}') == [{"id": 1}]
    assert bodies(messages, b"}") == [{"id": {}}]


def test_a_broken_message_is_reported_and_the_next_one_read() -> None:
    messages = Messages()
    assert bodies(messages, b'{"id": 1, oops}') == [None]
    assert bodies(messages, b'{"id": 2}') == [{"id": 2}]


def test_a_message_nested_too_deep_is_reported_as_broken() -> None:
    deep = b'{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert bodies(Messages(), deep) == [None]


def test_what_stands_outside_messages_is_ignored() -> None:
    assert bodies(Messages(), b'hello } there {"id": 1} bye', b'} {"id": 2}') == [{"id": 1}, {"id": 2}]


def test_a_message_without_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_MESSAGE_BYTES", 100)
    messages = Messages()
    messages.feed(b'{"classify": [')
    with pytest.raises(ImpulseGarbledError, match="whole message"):
        messages.feed(b"1, " * 100)


def test_a_long_message_in_small_pieces_is_not_parsed_once_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = 0
    messages = Messages()
    decode = messages._decoder.raw_decode

    def counted(text: str, start: int) -> tuple[Any, int]:
        nonlocal attempts
        attempts += 1
        return decode(text, start)

    monkeypatch.setattr(messages._decoder, "raw_decode", counted)
    data = json.dumps({"options": {}, "classify": list(range(5000)), "id": 1}).encode()
    chunks = [data[start : start + 10] for start in range(0, len(data), 10)]
    assert len(bodies(messages, *chunks)) == 1
    assert attempts == 2  # at each closing brace


def test_the_time_between_two_messages_is_nobody_s_even_after_a_newline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    messages = Messages()
    for _ in range(2):
        clock = iter(range(next(clock) + 50, 1000))  # somebody thinks for a while
        (message,) = messages.feed(b'{"id": 1}\n')
        assert message.stdin_ms == 1000  # the very next look at the clock
