"""Cuts what a client sends into messages: JSON objects with or without anything in between."""

from __future__ import annotations

import json
import time
from typing import Any, NamedTuple

from appliance.errors import ImpulseGarbledError

MAX_MESSAGE_BYTES = 32 * 1024 * 1024  # as Edge Impulse's own runner has it


class Message(NamedTuple):
    """One message from a client: its body (None: not JSON), and what receiving and parsing it took."""

    body: dict[str, Any] | None
    stdin_ms: float
    json_ms: float


class Messages:
    """Cuts a stream of bytes into JSON objects, which clients send with or without anything in between."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._decoder = json.JSONDecoder()
        self._since = 0.0

    def feed(self, chunk: bytes) -> list[Message]:
        """Take the next bytes and return the messages that are whole now.

        Raises:
            ImpulseGarbledError: MAX_MESSAGE_BYTES without a whole message.
        """
        if not self._waiting or self._waiting.isspace():  # Node ends every message with a newline
            self._since = time.perf_counter()
        self._waiting += chunk
        if len(self._waiting) > MAX_MESSAGE_BYTES:
            raise ImpulseGarbledError(f"More than {MAX_MESSAGE_BYTES} bytes came without a whole message")
        if b"}" not in chunk:
            return []  # nothing can have become whole: 250 kB in small pieces are not parsed once a piece
        end = self._waiting.rfind(b"}") + 1
        text = self._waiting[:end].decode("utf-8", "surrogateescape")
        messages: list[Message] = []
        position = 0
        while (start := text.find("{", position)) >= 0:
            begun = time.perf_counter()
            try:
                body, position = self._decoder.raw_decode(text, start)
            except json.JSONDecodeError as error:
                # Cut short, it fails at its very end or inside a string; anything else is no JSON at all.
                if error.pos == len(text) or error.msg.startswith("Unterminated string"):
                    break
                body, position = None, len(text)
            except RecursionError:
                body, position = None, len(text)
            now = time.perf_counter()
            messages.append(Message(body, (begun - self._since) * 1000, (now - begun) * 1000))
            self._since = now
        rest = text[start:].encode("utf-8", "surrogateescape") if start >= 0 else b""
        self._waiting = bytearray(rest + self._waiting[end:])
        return messages
