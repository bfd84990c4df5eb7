"""What every .eim owes its client: ours and those shaped like Edge Impulse's, through the runner and by hand."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.eim.cell import Cell, cell_state
from appliance.eim.runner import Impulse, start_impulse
from appliance.errors import ImpulseExitedError
from appliance.frame import Pixels
from appliance.vision import InputSpec
from tests.fakes.eim_shaped import SHAPES, write_shaped
from tests.fakes.eim_traces import Traces, runs, segments_of

PIXELS = 32 * 32
GRID = np.linspace(0, 255, PIXELS * 3).astype(np.uint8).reshape(32, 32, 3)
BRIGHT: Pixels = np.full((32, 32, 3), 240, np.uint8)


@pytest.fixture(scope="module", params=["ours", *SHAPES])
def eim(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("contract") / f"{request.param}.eim"
    if request.param == "ours":
        shutil.copy(request.getfixturevalue("tiny_eim"), path)
        return path
    return write_shaped(path, request.param)


@pytest.fixture(scope="module", params=["plainly", "in a cell"])
def running(request: pytest.FixtureRequest, eim: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Impulse]:
    cell = Cell((tmp_path_factory.getbasetemp(),)) if request.param == "in a cell" else None
    if cell and not cell_state().works:
        pytest.skip(cell_state().why)
    with start_impulse(eim, start_deadline_s=60, reply_deadline_s=60, memory_bytes=2**30, cell=cell) as impulse:
        yield impulse


# --- through the runner ---


def test_it_says_what_it_is(running: Impulse, eim: Path) -> None:
    expected = {
        "ours": ("test fleet", 1, ("head", "hardhat", "nobody"), "fit-shortest", True),
        "shared-memory": ("colours", 7, ("blue", "green", "red"), "fit-longest", True),
        "json": ("colours", 7, ("blue", "green", "red"), "fit-longest", False),
        "old": ("colours", 7, ("blue", "green", "red"), "squash", False),
        "grey": ("colours", 7, ("bright", "dark"), "fit-longest", True),
    }
    info = running.info
    mode = info.input.resize_mode
    assert expected[eim.stem] == (info.name, info.version, info.labels, mode, info.has_shared_memory)
    assert info.input == InputSpec(32, 32, mode)


def test_scores_are_a_probability_per_label_in_the_order_of_the_labels(running: Impulse) -> None:
    answer = running.classify(GRID)
    assert tuple(answer.scores) == running.info.labels
    assert sum(answer.scores.values()) == pytest.approx(1)
    assert all(0 <= score <= 1 for score in answer.scores.values())
    assert answer.elapsed_ms > 0


def test_the_same_picture_gets_the_same_answer_and_another_one_another(running: Impulse) -> None:
    first = running.classify(GRID).scores
    assert running.classify(GRID // 3 + np.array([60, 0, 20], np.uint8)).scores != first
    assert running.classify(GRID).scores == first


def test_as_many_pictures_as_it_takes_may_be_under_way(running: Impulse) -> None:
    pictures = [np.full((32, 32, 3), shade, np.uint8) for shade in (20, 90, 200, 250)]
    alone = [running.classify(picture).scores for picture in pictures]
    for picture in pictures[: running.depth]:
        running.submit(picture)
    with pytest.raises(ValueError, match="already"):
        running.submit(GRID)
    with pytest.raises(ValueError, match="already"):
        running.classify(GRID)
    together = []
    for picture in pictures[running.depth :]:
        together.append(running.collect().scores)
        running.submit(picture)
    together += [running.collect().scores for _ in range(running.depth)]
    assert together == alone
    with pytest.raises(ValueError, match="not asked"):
        running.collect()


def test_ours_tells_what_the_backbone_made_of_a_picture(running: Impulse, eim: Path) -> None:
    features = [running.classify(picture).features for picture in (GRID, BRIGHT, GRID)]
    if eim.stem != "ours":
        assert features == [None] * 3
        return
    first, second, third = features
    assert first is not None
    assert second is not None
    assert first.dtype == np.float32
    assert first.shape == (8,)
    assert first.tolist() == (third if third is None else third.tolist()) != second.tolist()


def test_many_pictures_in_a_row_are_answered(running: Impulse) -> None:
    for shade in range(100):
        running.classify(np.full((32, 32, 3), shade, np.uint8))


def test_several_threads_each_get_the_answer_to_their_own_picture(running: Impulse) -> None:
    pictures = [np.roll(GRID, 7 * turn, axis=(0, 2)) for turn in range(8)]
    alone = [running.classify(picture).scores for picture in pictures]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda picture: running.classify(picture).scores, pictures * 5))
    assert together == alone * 5


@pytest.mark.parametrize("picture", [GRID[:31], GRID[..., :1], GRID.astype(np.float32), GRID[..., 0]])
def test_a_picture_of_another_kind_is_refused_and_the_next_one_answered(running: Impulse, picture: Any) -> None:
    with pytest.raises(ValueError, match="takes uint8"):
        running.classify(picture)
    running.classify(GRID)


def test_closing_leaves_no_process_memory_or_descriptor(eim: Path) -> None:
    before = Traces.now()
    impulse = start_impulse(eim, start_deadline_s=60)
    pid = impulse.pid
    impulse.classify(GRID)
    segments = segments_of(pid)
    assert len(segments) == impulse.info.has_shared_memory + impulse.info.has_lane
    impulse.close()
    impulse.close()
    assert impulse.pid == 0
    assert not runs(pid)
    assert not any(segment.exists() for segment in segments)
    assert not Traces.now().beyond(before)
    with pytest.raises(ImpulseExitedError, match=r"is closed.*asked to stop"):
        impulse.classify(GRID)


def test_a_killed_one_leaves_no_memory(eim: Path) -> None:
    with start_impulse(eim, start_deadline_s=60) as impulse:
        segments = segments_of(impulse.pid)
        os.kill(impulse.pid, signal.SIGKILL)
        with pytest.raises(ImpulseExitedError):
            impulse.classify(GRID)
        assert not any(segment.exists() for segment in segments)


def test_it_outlives_the_thread_that_started_it(eim: Path) -> None:
    with ThreadPoolExecutor(1) as thread:
        impulse = thread.submit(start_impulse, eim, start_deadline_s=60).result()
    with impulse:
        time.sleep(0.05)  # the thread is gone; a signal about that would have come by now
        impulse.classify(GRID)


# --- by hand: the protocol itself ---


class Client:
    """A client that sends what it is told, byte for byte."""

    def __init__(self, eim: Path, path: Path) -> None:
        self.process = subprocess.Popen(
            [eim, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.replies = b""
        while True:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                self.socket.connect(str(path))
                return
            assert self.process.poll() is None
            time.sleep(0.01)

    def send(self, *bodies: dict[str, Any]) -> None:
        self.socket.sendall(b"".join(json.dumps(body).encode() for body in bodies))

    def receive(self) -> dict[str, Any]:
        while b"\0" not in self.replies:
            chunk = self.socket.recv(65536)
            assert chunk
            self.replies += chunk
        reply, _, self.replies = self.replies.partition(b"\0")
        assert reply.endswith(b"\n")
        body: dict[str, Any] = json.loads(reply)
        return body

    def ask(self, **body: Any) -> dict[str, Any]:
        self.send(body)
        return self.receive()

    def end(self) -> int:
        self.socket.close()
        return self.process.wait(60)


@pytest.fixture
def client(eim: Path, tmp_path: Path) -> Iterator[Client]:
    client = Client(eim, tmp_path / "s")
    yield client
    client.end()


def numbers(picture: Pixels) -> list[int]:
    wide = picture.astype(int)
    packed: list[int] = ((wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]).ravel().tolist()
    return packed


def test_it_ends_well_when_its_client_has_gone(client: Client) -> None:
    client.ask(hello=1, id=1)
    segments = segments_of(client.process.pid)
    assert client.end() == 0
    assert not any(segment.exists() for segment in segments)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_its_memory(client: Client, number: signal.Signals) -> None:
    client.ask(hello=1, id=1)
    segments = segments_of(client.process.pid)
    client.process.send_signal(number)
    assert client.process.wait(60) != 0
    assert not any(segment.exists() for segment in segments)


def test_several_messages_in_one_piece_are_all_answered_in_order(client: Client) -> None:
    picture = numbers(BRIGHT)
    client.send({"hello": 1, "id": 5}, {"classify": picture, "id": 6}, {"classify": picture, "id": 8})
    assert [client.receive()["id"] for _ in range(3)] == [5, 6, 8]


def test_a_message_in_several_pieces_is_answered_once(client: Client) -> None:
    client.ask(hello=1, id=1)
    whole = json.dumps({"classify": numbers(BRIGHT), "id": 2}).encode()
    for start in range(0, len(whole), 1000):
        client.socket.sendall(whole[start : start + 1000])
        time.sleep(0.001)
    assert client.receive()["id"] == 2
    assert client.ask(classify=[], id=3)["id"] == 3


def test_newlines_between_messages_are_no_messages(client: Client) -> None:
    client.socket.sendall(b'\n{"hello": 1, "id": 1}\n\n{"classify": [], "id": 2}\n')
    assert [client.receive()["id"] for _ in range(2)] == [1, 2]


def test_json_and_shared_memory_get_the_same_answer(client: Client) -> None:
    hello = client.ask(hello=1, id=1)
    by_json = client.ask(classify=numbers(BRIGHT), id=2)
    assert set(by_json["timing"]) >= {"dsp", "classification", "anomaly", "json", "stdin", "msg_handler"}
    assert all(type(value) is int for value in by_json["timing"].values())
    if "features_shm" not in hello:
        pytest.skip("this one offers no shared memory")
    offer = hello["features_shm"]
    assert (offer["type"], offer["elements"], offer["size_bytes"]) == ("float32", PIXELS, PIXELS * 4)
    [path] = [path for path in segments_of(client.process.pid) if f"/{path.name}" == offer["name"]]
    shared = np.memmap(path, np.float32)
    shared[:] = numbers(BRIGHT)
    by_memory = client.ask(classify_shm={"elements": PIXELS}, id=3)
    assert by_memory["result"] == by_json["result"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"hello": 1}, "Invalid message 'hello', already initialized"),
        ({"classify": [0] * 10}, f"Invalid number of features in 'classify', expected {PIXELS} but got 10"),
        ({"classify": ["0"] * PIXELS}, "Failed to parse classify array, should contain all numbers"),
        ({"classify": [[]] * PIXELS}, "Failed to parse classify array, should contain all numbers"),
        ({"nonsense": 1}, "Failed to handle message"),
    ],
)
def test_a_wrong_request_is_refused_in_edge_impulses_words_and_the_next_answered(
    client: Client, body: dict[str, Any], error: str
) -> None:
    client.ask(hello=1, id=1)
    assert client.ask(**body, id=2) == {"id": 2, "success": False, "error": error}
    assert client.ask(classify=numbers(BRIGHT), id=3)["success"]


def test_a_wrong_number_of_shared_elements_is_refused(client: Client) -> None:
    if "features_shm" not in client.ask(hello=1, id=1):
        pytest.skip("this one offers no shared memory")
    reply = client.ask(classify_shm={"elements": 5}, id=2)
    assert reply["error"] == f"Invalid value for 'classify_data_shm.elements', expected {PIXELS}, but got 5"


def test_nothing_is_answered_before_hello(client: Client) -> None:
    reply = client.ask(classify=[], id=1)
    assert reply == {"id": 1, "success": False, "error": "Invalid message, should initialize first"}


def test_a_message_without_an_id_is_refused_without_an_id(client: Client) -> None:
    assert client.ask(hello=1) == {"success": False, "error": "Missing 'id' field in message"}


def test_a_threshold_is_accepted(client: Client) -> None:
    client.ask(hello=1, id=1)
    assert client.ask(set_threshold={"id": 42, "min_score": 0.5}, id=2) == {"id": 2, "success": True}


def test_two_copies_of_one_eim_run_side_by_side(eim: Path, running: Impulse) -> None:
    with start_impulse(eim, start_deadline_s=60) as second:
        barrier = threading.Barrier(2)

        def ask(impulse: Impulse) -> object:
            barrier.wait(60)
            return [impulse.classify(GRID).scores for _ in range(20)]

        with ThreadPoolExecutor(2) as threads:
            first_answers, second_answers = threads.map(ask, (running, second))
    assert first_answers == second_answers
