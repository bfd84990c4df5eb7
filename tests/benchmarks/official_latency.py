"""From one JPEG to its scores, on one .eim: asked barely, through the official Node library, and through Sitecam.

Three clients, each with an .eim process of its own, take turns. The bare one writes the same features into the shared
memory once and only asks and reads; what another client takes beyond that is what it adds.
"""

from __future__ import annotations

import json
import mmap
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from appliance.eim.features import pack
from appliance.eim.runner import start_impulse
from appliance.errors import SitecamError
from appliance.vision import prepare, read_picture
from tests.benchmarks import rig
from tests.fakes.waiting import wait_until

_WARM = 20  # answers before the clock counts

# What its camera loop does with a JPEG: resize, pack, classify (build/library/classifier/image-classifier.js).
_NODE = """
const { LinuxImpulseRunner, ImageClassifier } = require(process.argv[1]);
const picture = require('fs').readFileSync(process.argv[3]);
(async () => {
    const runner = new LinuxImpulseRunner(process.argv[2]);
    const model = await runner.init();
    const step = async () => {
        const { features } = await ImageClassifier.resizeImage(model, picture);
        await runner.classify(features);
    };
    for (let count = 0; count < WARM; count++) await step();
    const times = [], ends = performance.now() + 1000 * Number(process.argv[4]);
    for (let began = performance.now(); began < ends; began = performance.now()) {
        await step();
        times.push(performance.now() - began);
    }
    await runner.stop();
    console.log(JSON.stringify(times));
    process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
""".replace("WARM", str(_WARM))


@dataclass(frozen=True)
class Latency:
    """Medians of one turn, milliseconds: the bare .eim, the official Node library, Sitecam."""

    bare_ms: float
    node_ms: float
    sitecam_ms: float


def one_turn(command: Path, eim: Path, picture: Path, seconds: float) -> Latency:
    """Let all three take a turn of so many seconds.

    Args:
        command: ``edge-impulse-linux-runner`` as it was installed; the library lies beside it.
        eim: The model.
        picture: A JPEG of any size.
        seconds: Of each client.

    Raises:
        SitecamError: Node's library ended with an error.
    """
    return Latency(
        statistics.median(_bare(eim, picture, seconds)),
        statistics.median(_node(command, eim, picture, seconds)),
        statistics.median(_sitecam(eim, picture, seconds)),
    )


def _timed(step: Callable[[], object], seconds: float) -> list[float]:
    for _ in range(_WARM):
        step()
    times, ends = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < ends:
        step()
        times.append((time.perf_counter() - began) * 1000)
    return times


def _bare(eim: Path, picture: Path, seconds: float) -> list[float]:
    with tempfile.TemporaryDirectory(prefix="sitecam-benchmark-") as folder:
        path = Path(folder) / "eim.sock"
        process = subprocess.Popen([eim, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(path.exists, 30)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                shared = _asked(connection, {"hello": 1, "id": 1})["features_shm"]
                features = pack(prepare(read_picture(picture), rig.SPEC))
                memory = Path("/dev/shm") / shared["name"].lstrip("/")  # noqa: S108  # where the system keeps it
                with memory.open("r+b") as file, mmap.mmap(file.fileno(), shared["size_bytes"]) as mapped:
                    mapped[: features.nbytes] = features.astype(np.float32).tobytes()
                    question = {"classify_shm": {"elements": features.size}, "id": 2}
                    return _timed(lambda: _asked(connection, question), seconds)
        finally:
            process.terminate()
            process.wait(20)


def _asked(connection: socket.socket, question: dict[str, object]) -> dict[str, Any]:
    connection.sendall(json.dumps(question).encode())
    held = b""
    while not held.endswith(b"\0"):
        chunk = connection.recv(1 << 20)
        if not chunk:
            raise SitecamError("The .eim ended while it was asked")
        held += chunk
    answer = json.loads(held.rstrip(b"\0"))
    if not answer["success"]:
        raise SitecamError(f"The .eim refused a question: {answer['error']}")
    return dict(answer)


def _node(command: Path, eim: Path, picture: Path, seconds: float) -> list[float]:
    library = command.parent.parent / "edge-impulse-linux"
    ran = ["node", "-e", _NODE, str(library), str(eim), str(picture), str(seconds)]
    done = subprocess.run(ran, capture_output=True, text=True, timeout=60 + seconds, check=False)
    if done.returncode:
        raise SitecamError(f"Node's library ended with an error: {done.stderr.strip()[-500:]}")
    return [float(each) for each in json.loads(done.stdout.splitlines()[-1])]


def _sitecam(eim: Path, picture: Path, seconds: float) -> list[float]:
    with start_impulse(eim, start_deadline_s=60) as impulse:
        return _timed(lambda: impulse.classify(prepare(read_picture(picture), impulse.info.input)), seconds)
