"""A stand-in for Edge Impulse's own .eim: its protocol, none of its models, and every fault on request.

Run as a program by the files that eim_shaped.py and eim_faults.py write; it imports the standard library only, so
that it starts in milliseconds. Usage: eim_program.py SHAPE FAULT TOKEN SOCKET

SHAPE ``ours:VERSION:LABELS`` claims to be a version of our own, without the fast lane. FAULT ``NAME@FRAME`` strikes
from that frame on.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CRASH_FRAME = 3  # faults that come "later" come with this frame
SLOW_S = 0.15
_MOST_MEMORY_BYTES = 512 * 2**20  # a test whose limit doesn't hold fails; it doesn't take the machine along
_ORPHAN_S = 5.0  # a version of our own doesn't wait for ever for somebody to talk to it


class Program:
    """One run."""

    def __init__(self, shape: str, fault: str, token: str) -> None:
        self.shape, _, self.claims = shape.partition(":")
        self.fault, _, at = fault.partition("@")
        self.strikes_at = int(at or (CRASH_FRAME if self.fault.endswith("later") else 1))
        self.token = token
        shape = self.shape
        self.labels = ["bright", "dark"] if shape == "grey" else ["blue", "green", "red"]
        if shape == "ours":
            self.labels = self.claims.split(":")[1].split(",")
        self.side = 240 if shape == "large" else 32
        self.pixels = self.side * self.side
        self.frames = 0
        self.greeted = False
        self.memory: mmap.mmap | None = None
        self.segment: Path | None = None

    def tidy(self, *_: object) -> None:
        if self.segment:
            self.segment.unlink(missing_ok=True)

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(body.get("id"), int):
            return {"success": False, "error": "Missing 'id' field in message"}
        try:
            return {"id": body["id"], "success": True} | self.reply(body)
        except ValueError as error:
            return {"id": body["id"], "success": False, "error": str(error)}

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        if isinstance(body.get("hello"), int):
            if self.greeted:
                raise ValueError("Invalid message 'hello', already initialized")
            self.greeted = True
            return self.hello()
        if not self.greeted:
            raise ValueError("Invalid message, should initialize first")
        if isinstance(body.get("classify"), list):
            numbers = body["classify"]
            if not all(isinstance(number, (int, float)) for number in numbers):
                raise ValueError("Failed to parse classify array, should contain all numbers")
            if len(numbers) != self.pixels:
                raise ValueError(
                    f"Invalid number of features in 'classify', expected {self.pixels} but got {len(numbers)}"
                )
            return self.classify(numbers)
        if isinstance(body.get("classify_shm"), dict) and self.memory:
            elements = body["classify_shm"].get("elements")
            if elements != self.pixels:
                raise ValueError(
                    f"Invalid value for 'classify_data_shm.elements', expected {self.pixels}, but got {elements}"
                )
            return self.classify(memoryview(self.memory).cast("f").tolist())
        if isinstance(body.get("set_threshold"), dict):
            return {}
        raise ValueError("Failed to handle message")

    def hello(self) -> dict[str, Any]:
        sound = self.shape == "sound"
        model: dict[str, Any] = {
            "axis_count": 1,
            "frequency": 16000 if sound else 0,
            "has_anomaly": 0,
            "image_channel_count": 0 if sound else 1 if self.shape == "grey" else 3,
            "image_input_frames": 0 if sound else 1,
            "image_input_height": 0 if sound else self.side,
            "image_input_width": 0 if sound else self.side,
            "input_features_count": 16000 if sound else self.pixels,
            "interval_ms": 0.0625 if sound else 1,
            "label_count": len(self.labels),
            "labels": self.labels,
            "model_type": "constrained_object_detection" if self.shape == "objects" else "classification",
            "sensor": 1 if sound else 3,
            "slice_size": self.pixels // 4,
            "use_continuous_mode": sound,
        }
        project: dict[str, Any] = {"id": 4, "owner": "somebody", "name": "colours", "deploy_version": 7}
        if self.shape == "ours":
            project |= {"name": "test fleet", "deploy_version": int(self.claims.split(":")[0])}
        if self.shape == "old":  # as before 2024
            return {"project": project, "model_parameters": model}
        model |= {
            "has_object_tracking": False,
            "image_resize_mode": "fit-shortest" if self.shape == "ours" else "fit-longest",
            "inferencing_engine": 4,
            "thresholds": [],
        }
        project |= {"impulse_id": 1, "impulse_name": "Impulse #1"}
        reply = {
            "project": project,
            "model_parameters": model,
            "inferencing_engine": {"engine_type": 4, "properties": []},
        }
        if self.shape in ("json", "large"):
            return reply | {"features_shm_error": "shm_open failed"}
        return reply | {"features_shm": self.share()}

    def share(self) -> dict[str, Any]:
        self.segment = Path("/dev/shm") / f"shm-{self.token}{secrets.token_hex(4)}"  # noqa: S108
        size = {"memory-too-small": 100}.get(self.fault, self.pixels * 4)
        with self.segment.open("xb+") as file:
            file.truncate(size)
            self.memory = mmap.mmap(file.fileno(), size)
        offer: dict[str, Any] = {
            "name": f"/{self.segment.name}",
            "size_bytes": self.pixels * 4,
            "type": "float32",
            "elements": self.pixels,
        }
        lies: dict[str, dict[str, Any]] = {
            "memory-elsewhere": {"name": "/../../etc/passwd"},
            "memory-missing": {"name": f"/shm-{self.token}-nowhere"},
            "memory-of-another-size": {"elements": self.pixels + 1},
        }
        return offer | lies.get(self.fault, {})

    def classify(self, numbers: Sequence[float]) -> dict[str, Any]:
        self.frames += 1
        ours: dict[str, Any] = dict.fromkeys(self.labels, 0.1) | {"hardhat": 0.8}
        scores = ours if self.shape == "ours" else self.colours(numbers)
        if self.frames >= self.strikes_at:
            self.spoil(scores)
        timing = dict.fromkeys(("dsp", "classification", "anomaly", "json", "stdin", "msg_handler"), 1)
        return {"result": {"classification": scores}, "timing": timing}

    def colours(self, numbers: Sequence[float]) -> dict[str, Any]:
        pixels = [int(number) for number in numbers]
        red, green, blue = (sum(pixel >> shift & 255 for pixel in pixels) for shift in (16, 8, 0))
        if self.shape == "grey":
            if not red == green == blue:
                raise ValueError("This was not a grey picture")
            bright = red / (255 * self.pixels)
            return {"bright": bright, "dark": 1 - bright}
        total = red + green + blue or 1
        return {"blue": blue / total, "green": green / total, "red": 1 - (blue + green) / total}

    def spoil(self, scores: dict[str, Any]) -> None:
        first = self.labels[0]
        if self.fault == "score-not-a-number":
            scores[first] = float("nan")
        elif self.fault == "score-null":
            scores[first] = None
        elif self.fault == "score-out-of-range":
            scores[first] = 2.5
        elif self.fault == "score-missing":
            del scores[first]
        elif self.fault == "refuses":
            raise ValueError("Classifying failed, error code was -23")


def send(program: Program, client: socket.socket, reply: dict[str, Any]) -> None:
    """Send one reply, or do what the fault asks instead. Most faults spare the reply to hello."""
    strikes = program.fault.endswith("hello") or program.frames >= program.strikes_at
    fault = program.fault if strikes else ""
    data = encoded(reply)
    FAULTS.get(fault, answer_well)(client, data)


def encoded(reply: Any) -> bytes:
    return json.dumps(reply).encode() + b"\n\0"


def answer_well(client: socket.socket, data: bytes) -> None:
    client.sendall(data)


def changed(**values: Any) -> Callable[[socket.socket, bytes], None]:
    """A fault that answers with other values; None takes one away."""

    def answer(client: socket.socket, data: bytes) -> None:
        reply = json.loads(data[:-1]) | values
        client.sendall(encoded({key: value for key, value in reply.items() if value is not None}))

    return answer


def instead(rubbish: bytes) -> Callable[[socket.socket, bytes], None]:
    return lambda client, _: client.sendall(rubbish)


def sleep(_client: socket.socket, _data: bytes) -> None:
    time.sleep(600)


def sleep_deaf(_client: socket.socket, _data: bytes) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)


def sleep_with_a_child(_client: socket.socket, _data: bytes) -> None:
    print(f"child {subprocess.Popen(['/bin/sleep', '600']).pid}", flush=True)
    time.sleep(600)


def close_early(client: socket.socket, data: bytes) -> None:
    client.sendall(data[:20])
    client.shutdown(socket.SHUT_RDWR)
    time.sleep(600)


def exit_early(client: socket.socket, data: bytes) -> None:
    client.sendall(data[:20])
    print("Segmentation fault in block 3", flush=True)
    os._exit(7)


def be_killed(_client: socket.socket, _data: bytes) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def answer_slowly(client: socket.socket, data: bytes) -> None:
    time.sleep(SLOW_S)
    client.sendall(data)


def eat_memory(client: socket.socket, data: bytes) -> None:
    eaten: list[bytearray] = []
    while len(eaten) * 2**23 < _MOST_MEMORY_BYTES:
        eaten.append(bytearray(2**23))
    client.sendall(data)


def send_without_end(client: socket.socket, _data: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            client.sendall(b" " * 65536)


def trickle(client: socket.socket, _data: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            client.sendall(b" ")
            time.sleep(0.02)


def send_single_bytes(client: socket.socket, data: bytes) -> None:
    for byte in data:
        client.sendall(bytes([byte]))


def chatter(client: socket.socket, data: bytes) -> None:
    os.write(1, b"a line of no interest\n" * 50_000)  # a megabyte: more than any pipe takes in unread
    client.sendall(data)


FAULTS: dict[str, Callable[[socket.socket, bytes], None]] = {
    "silent": sleep,
    "silent-at-hello": sleep,
    "silent-and-deaf": sleep_deaf,
    "silent-with-a-child": sleep_with_a_child,
    "trickles": trickle,
    "endless": send_without_end,
    "exits-mid-reply": exit_early,
    "closes-mid-reply": close_early,
    "killed-later": be_killed,
    "rubbish": instead(b'{"id": 2, "success": tru \n\0'),
    "not-an-object": instead(b"[1, 2]\n\0"),
    "other-id": changed(id=999),
    "no-id": changed(id=None),
    "neither-success-nor-failure": changed(success=None),
    "result-not-an-object": changed(result="none"),
    "two-replies": lambda client, data: client.sendall(data + data),
    "answers-slowly": answer_slowly,
    "eats-memory": eat_memory,
    "single-bytes": send_single_bytes,
    "chatty": chatter,
}


def called(listener: socket.socket) -> bool:
    """Wait for a client; False where whoever started us has gone."""
    parent, ends = os.getppid(), time.monotonic() + _ORPHAN_S
    while parent != 1 and os.getppid() == parent and time.monotonic() < ends:
        if select.select([listener], [], [], 0.1)[0]:
            return True
    return False


def serve(program: Program, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108  as the original
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(10)
        if program.shape == "ours" and not called(listener):
            return
        client, _ = listener.accept()
    waiting = ""
    decoder = json.JSONDecoder()
    while chunk := client.recv(65536):
        waiting += chunk.decode()
        while "{" in waiting:
            waiting = waiting[waiting.index("{") :]
            try:
                body, end = decoder.raw_decode(waiting)
            except json.JSONDecodeError:
                break
            waiting = waiting[end:]
            send(program, client, program.answer(body))
            if program.fault == "reads-no-more":
                time.sleep(600)


def main() -> None:
    shape, fault, token, path = sys.argv[1:5]
    if fault.startswith("exits-at-once"):
        print("cannot load the model: out of luck", flush=True)
        sys.exit(3)
    if fault.startswith("no-socket"):
        time.sleep(600)
    program = Program(shape, fault, token)

    def end(number: int, _frame: object) -> None:
        program.tidy()
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        serve(program, path)
    finally:
        program.tidy()


if __name__ == "__main__":
    main()
