"""A camera whose whole process group is killed where a test says: before or after a file of a swap is written."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from appliance import ending, swap
from appliance.canary import Canary
from appliance.capture import Capture
from appliance.decide import Decider
from appliance.eim.runner import RunningImpulse, start_impulse
from appliance.ending import resume
from appliance.live import LiveLoop
from appliance.models import signing
from appliance.models.shelf import Shelf
from appliance.models.trial import read_trial, write_trial
from appliance.models.verdict import write_verdict
from appliance.starter import Starter
from appliance.swap import Swapper, SwapRules
from tests.fakes import waiting
from tests.fakes.eim_faults import write_version
from tests.fakes.live_parts import ClickCamera

TOO_LONG_S = 60.0
wait_until = functools.partial(waiting.wait_until, within_s=TOO_LONG_S)


@dataclass(frozen=True)
class Job:
    """What a camera is to do.

    Attributes:
        root: Its folder: ``models``, and ``t`` for temporary files.
        key: The fleet's public key, PEM.
        cut: ``before`` or ``after`` and what is written then; empty lets it live.
        fault: Of every version but the first.
        real: Real .eim files, not fakes.
        hold: Stop there, and leave a file ``held``.
        watch: Let the swapper find the offer by itself, as in a camera.
        accept: Instead of running, take this version from the network: manifest, signature, parts.
    """

    root: str
    key: str
    cut: str = ""
    fault: str = "none"
    real: bool = False
    watch: bool = False
    hold: str = ""
    accept: str = ""


def serve() -> None:
    """Fork a camera for every line of standard input; say its process id, then how it ended."""
    for line in sys.stdin:
        job = Job(**json.loads(line))
        child = os.fork()
        if child == 0:
            os.setsid()
            os._exit(run(job))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def run(job: Job) -> int:
    """One life of a camera: start, decide, swap what is offered; 0 where it got to the end."""
    root = Path(job.root)
    tempfile.tempdir = str(root / "t")
    shelf = Shelf(root / "models", signing.load_public_key(job.key.encode()))
    with pulled_plugs(job.cut, job.hold, root / "held"):
        if job.accept:
            folder = Path(job.accept)
            parts = {path.name: path.read_bytes() for path in (folder / "parts").iterdir()}
            shelf.accept((folder / "manifest.json").read_bytes(), (folder / "manifest.sig").read_bytes(), parts)
            return 0
        shelf.sweep()
        resume(shelf)
        start = starts(job)
        loop = LiveLoop(Starter(shelf, start, threads=1), decide=Decider(0.6))
        capture = Capture(ClickCamera(every_s=0.004), loop.take, timeout_s=30, rate_fps=250)
        canary = Canary(root / "store", shelf, start, margin=0.05)
        swapper = Swapper(shelf, loop, start, canary, threads=1, rules=SwapRules(10, 20, 10, retry_s=1))
        loop.start()
        capture.start()
        booted = wait_until(lambda: loop.version if loop.mark()[1] > 3 else None)
        say(root, booted=booted)
        if job.watch:
            swapper.start()
            wait_until(lambda: shelf.offered is None and read_trial(shelf.root) is None)
        elif shelf.offered is not None:
            swapper.swap(shelf.offered)
        mark = loop.mark()
        wait_until(lambda: loop.pace_since(mark).decisions > 3)
        say(root, runs=loop.version)
        swapper.stop()
        capture.stop()
        loop.stop()
    return 0


def starts(job: Job) -> Callable[[Path], RunningImpulse]:
    def start(path: Path) -> RunningImpulse:
        version = int(path.parent.name)
        if job.real:
            return start_impulse(path)
        fake = Path(job.root) / f"{version}.eim"
        return start_impulse(write_version(fake, version, fault="none" if version == 1 else job.fault))

    return start


@contextlib.contextmanager
def pulled_plugs(cut: str, hold: str, held: Path) -> Iterator[None]:
    """While this lasts, the whole process group is killed where ``cut`` says, and stands still where ``hold`` says."""

    def plugged(name: Callable[..., str], real: Callable[..., object]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            pull(f"before {name(*arguments)}")
            real(*arguments)
            pull(f"after {name(*arguments)}")

        return call

    def pull(now: str) -> None:
        if now == cut:
            os.killpg(0, signal.SIGKILL)
        if now == hold:
            held.touch()
            time.sleep(TOO_LONG_S)

    with (
        patch.object(swap, "write_trial", plugged(lambda _, trial: str(trial.state), write_trial)),
        patch.object(ending, "write_verdict", plugged(lambda *_: "verdict", write_verdict)),
        patch.object(Shelf, "_point", plugged(lambda _, name, __: name, Shelf._point)),
        patch.object(Shelf, "_put_version", plugged(lambda *_: "version", Shelf._put_version)),
        patch.object(Shelf, "withdraw_offer", plugged(lambda _: "withdrawal", Shelf.withdraw_offer)),
    ):
        yield


def say(root: Path, **said: object) -> None:
    path = root / "said.json"
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | said))
