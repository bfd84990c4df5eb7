"""The program inside our .eim: answers Edge Impulse's Linux runner protocol with a backbone and a head.

appliance/eim/pack.py puts it into a zip file together with both parts. It imports little, because a swap runs
two of these beside the live loop: no Pillow, no OpenCV, no cryptography. Error texts are Edge Impulse's own.
"""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from appliance.eim.framing import Message, Messages
from appliance.eim.lane import SLOTS, Lane
from appliance.eim.leftovers import Leftovers, end_cleanly
from appliance.eim.model import Array, Facts, Model
from appliance.eim.pipeline import Pipeline
from appliance.errors import SitecamError
from appliance.models.head import Head

_CHUNK_BYTES = 256 * 1024
_WHITE = 0xFFFFFF
_NOT_PIXELS = f"Failed to parse classify array, should contain pixels, 0 to {_WHITE}"
_USAGE = "Requires one parameter (either: '--print-info', 'stdin' or the name of a socket)"


Done = tuple[float, float] | Exception  # milliseconds of taking the picture in, and of the model; or why there are none


class Refusal(Exception):  # noqa: N818  an answer to the client, not a fault of ours
    """A request that gets ``success: false``."""


class Impulse:
    """Answers requests, one at a time, for one client."""

    def __init__(self, facts: Facts, model: Model, leftovers: Leftovers) -> None:
        self._facts = facts
        self._model = model
        self._leftovers = leftovers
        self._pixels = facts.width * facts.height
        self._greeted = False
        self._shared: Array | None = None
        self._lane: tuple[list[npt.NDArray[np.uint8]], list[Array]] | None = None  # pictures, features

    def answer(self, message: Message, done: Done | None = None) -> dict[str, Any]:
        """The reply to one message.

        Args:
            message: The request.
            done: What became of the model's part, where that was run ahead.
        """
        begun = time.perf_counter()
        body = message.body
        if body is None:
            return {"success": False, "error": "Failed to parse message, it is not JSON"}
        if type(body.get("id")) is not int:  # exact: true is not an id
            return {"success": False, "error": "Missing 'id' field in message"}
        try:
            reply = self._reply(body, done)
        except Refusal as refusal:
            return {"id": body["id"], "success": False, "error": str(refusal)}
        if "timing" in reply:
            spent_ms = (time.perf_counter() - begun) * 1000 + (sum(done) if isinstance(done, tuple) else 0)
            others = {"json": message.json_ms, "stdin": message.stdin_ms, "msg_handler": spent_ms}
            reply["timing"] = {name: round(value) for name, value in (reply["timing"] | others).items()}
        return {"id": body["id"], "success": True} | reply

    def _reply(self, body: dict[str, Any], done: Done | None) -> dict[str, Any]:
        if type(body.get("hello")) is int:
            return self._hello(body["hello"])
        if not self._greeted:
            raise Refusal("Invalid message, should initialize first")
        if isinstance(body.get("classify_lane"), dict):
            return self._classify_lane(body["classify_lane"].get("slot"), done)
        if isinstance(body.get("classify"), list):
            return self._classify(self._numbers(body["classify"]))
        if isinstance(body.get("classify_shm"), dict):
            return self._classify(self._shared_numbers(body["classify_shm"]))
        if isinstance(body.get("set_threshold"), dict):
            if type(body["set_threshold"].get("id")) is not int:
                raise Refusal("set_threshold should have a numeric field 'id'")
            return {}  # accepted, as the protocol asks; no block here has a threshold to change
        raise Refusal("Failed to handle message")

    def _hello(self, protocol: int) -> dict[str, Any]:
        if self._greeted:
            raise Refusal("Invalid message 'hello', already initialized")
        if protocol != 1:
            raise Refusal("Invalid value for 'hello', only 1 supported")
        facts = self._facts
        reply = {
            "project": {
                "id": 1,
                "owner": facts.fleet,
                "name": facts.fleet,
                "deploy_version": facts.version,
                "impulse_id": 1,
                "impulse_name": "sitecam head",
            },
            "model_parameters": {
                "axis_count": 1,
                "frequency": 0,
                "has_anomaly": 0,
                "has_object_tracking": False,
                "has_performance_calibration": False,
                "image_channel_count": 3,
                "image_input_frames": 1,
                "image_input_height": facts.height,
                "image_input_width": facts.width,
                "image_resize_mode": facts.resize_mode,
                "inferencing_engine": 4,  # full TensorFlow Lite
                "input_features_count": self._pixels,
                "interval_ms": 1,
                "label_count": len(facts.labels),
                "labels": facts.labels,
                "model_type": "classification",
                "sensor": 3,  # a camera
                "slice_size": self._pixels // 4,
                "thresholds": [],
                "use_continuous_mode": False,
            },
            "inferencing_engine": {"engine_type": 4, "properties": []},
        }
        self._greeted = True
        return reply | self._share() | self._share_lane()

    def _share(self) -> dict[str, Any]:
        """Offer shared memory for the pixels; where there is none, clients send JSON instead."""
        size_bytes = self._pixels * np.dtype(np.float32).itemsize
        try:
            name, memory = self._leftovers.segment(size_bytes)
        except OSError as error:
            return {"features_shm_error": f"Shared memory can't be had ({error.strerror})"}
        self._shared = np.frombuffer(memory, np.float32)
        offer = {"name": name, "size_bytes": size_bytes, "type": "float32", "elements": self._pixels}
        return {"features_shm": offer}

    def _share_lane(self) -> dict[str, Any]:
        """Offer the fast lane; our own live loop does without it where there is no shared memory."""
        lane = Lane(self._facts.width, self._facts.height, self._model.feature_count)
        try:
            name, memory = self._leftovers.segment(lane.size_bytes)
        except OSError:
            return {}
        self._lane = lane.pictures(memory), lane.feature_rows(memory)
        return {"sitecam_lane": {"name": name, "size_bytes": lane.size_bytes, "features": lane.features}}

    def _numbers(self, values: list[Any]) -> Array:
        if not set(map(type, values)) <= {int, float}:
            raise Refusal("Failed to parse classify array, should contain all numbers")
        if len(values) != self._pixels:
            raise Refusal(f"Invalid number of features in 'classify', expected {self._pixels} but got {len(values)}")
        if not (min(values) >= 0 and max(values) <= _WHITE):
            raise Refusal(_NOT_PIXELS)
        return np.asarray(values, np.float32)

    def _shared_numbers(self, request: dict[str, Any]) -> Array:
        elements = request.get("elements")
        if self._shared is None:
            raise Refusal("Cannot use 'classify_data_shm', cannot find shm input tensor with ix=0")
        if type(elements) is not int:
            raise Refusal("Missing 'elements' in 'classify_data_shm'")
        if elements != self._pixels:
            raise Refusal(
                f"Invalid value for 'classify_data_shm.elements', expected {self._pixels}, but got {elements}"
            )
        return self._shared

    def _classify(self, packed: Array) -> dict[str, Any]:
        if not (packed.min() >= 0 and packed.max() <= _WHITE):  # not a number compares false
            raise Refusal(_NOT_PIXELS)
        return self._answered(lambda: self._model.scores(packed))

    def _classify_lane(self, slot: object, done: Done | None) -> dict[str, Any]:
        if self._lane is None or type(slot) is not int or not 0 <= slot < SLOTS:
            raise Refusal("Cannot use 'classify_lane', there is no such slot")
        row = self._lane[1][slot]

        def ask() -> tuple[list[float], float, float]:
            if isinstance(done, Exception):
                raise RuntimeError(str(done)) from done
            spent = done or self.run_ahead(slot)
            return self._model.head_scores(row[np.newaxis]), *spent

        return self._answered(ask)

    def slot_asked_ahead(self, message: Message) -> int | None:
        """The slot that a proper fast-lane request names; None for any other message."""
        body = message.body
        if body is None or self._lane is None or type(body.get("id")) is not int:
            return None
        request = body.get("classify_lane")
        slot = request.get("slot") if isinstance(request, dict) else None
        return slot if type(slot) is int and 0 <= slot < SLOTS else None

    def run_ahead(self, slot: int) -> tuple[float, float]:
        """The model's part of a fast-lane request; see :meth:`appliance.eim.model.Model.run`."""
        pictures, rows = self._lane or ([], [])
        return self._model.run(pictures[slot], rows[slot])

    def _answered(self, ask: Callable[[], tuple[list[float], float, float]]) -> dict[str, Any]:
        try:
            return self._classified(*ask())
        except RuntimeError as error:
            raise Refusal(f"Classifying failed, {error}") from error

    def _classified(self, scores: list[float], dsp_ms: float, classification_ms: float) -> dict[str, Any]:
        if not all(map(math.isfinite, scores)):
            raise Refusal("Classifying failed, a score is not a number")
        return {
            "result": {"classification": dict(zip(self._facts.labels, scores, strict=True))},
            "timing": {"dsp": dsp_ms, "classification": classification_ms, "anomaly": 0},
        }


def serve(impulse: Impulse, receive: Callable[[], bytes], send: Callable[[bytes], object], end: bytes) -> None:
    """Answer one client until it closes; every reply is JSON followed by ``end``.

    Raises:
        ImpulseGarbledError: Far too much came without a whole message.
    """

    def reply(body: dict[str, Any]) -> None:
        send(json.dumps(body, allow_nan=False).encode() + end)

    def finish(asked: tuple[Message, int], done: Done) -> None:
        reply(impulse.answer(asked[0], done))

    def run(asked: tuple[Message, int]) -> tuple[float, float]:
        return impulse.run_ahead(asked[1])

    messages = Messages()
    ahead: Pipeline[tuple[Message, int], tuple[float, float]] = Pipeline(run, finish)
    try:
        while chunk := receive():
            for message in messages.feed(chunk):
                slot = impulse.slot_asked_ahead(message)
                if slot is not None:
                    ahead.submit((message, slot))
                    continue
                ahead.drain()  # one model, and replies in the order of the requests
                reply(impulse.answer(message))
    except (BrokenPipeError, ConnectionResetError):
        return  # the client went while it was being answered: an end like any other
    finally:
        ahead.close()


def serve_socket(impulse: Impulse, path: Path, leftovers: Leftovers) -> None:
    """Make a Unix socket, answer the one client that comes, and return when it has gone.

    Raises:
        OSError: The socket can't be made there.
        ImpulseGarbledError: See :func:`serve`.
    """
    # Clients connect as soon as the name is there: it must not appear before the socket listens.
    hidden = leftovers.add(path.with_name(f".{os.urandom(3).hex()}"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(hidden))
        listener.listen(1)
        hidden.replace(leftovers.add(path))
        connection, _ = listener.accept()
    leftovers.remove(path)  # one client only: nobody else need find it
    with connection:
        serve(impulse, lambda: connection.recv(_CHUNK_BYTES), connection.sendall, b"\n\0")


def main(arguments: list[str], read: Callable[[str], bytes]) -> int:
    """Run the program.

    Args:
        arguments: ``--print-info``, ``stdin`` or the path of the socket to make.
        read: Gives the content of ``impulse.json``, ``backbone.tflite`` or ``head.npz``.

    Returns:
        The exit code.
    """
    if not arguments:
        print(_USAGE)
        return 1
    leftovers = Leftovers()
    end_cleanly(leftovers)
    try:
        facts = Facts(**json.loads(read("impulse.json")))
        model = Model(facts, read("backbone.tflite"), Head.from_bytes(read("head.npz")))
        impulse = Impulse(facts, model, leftovers)
        if arguments[0] == "--print-info":
            print("Sitecam impulse, protocol 1 of Edge Impulse's Linux runner")
            print(json.dumps(impulse.answer(Message({"hello": 1, "id": 1}, 0, 0)), indent=4))
        elif arguments[0] == "stdin":
            serve(impulse, lambda: os.read(0, _CHUNK_BYTES), _write_out, b"\n")
        else:
            serve_socket(impulse, Path(arguments[0]), leftovers)
    except (SitecamError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        leftovers.sweep()
    return 0


def _write_out(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
