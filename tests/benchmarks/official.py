"""The official Node runner and Sitecam side by side, on the very same .eim: what each costs, and what each does.

Both watch pictures of 640 x 480 at the runner's own pace (its fake camera shows one picture again and again; ours is a
folder of them at the same rate). Both start with the .eim at hand, and somebody who has logged in to ours before waits
for the page. CPU and memory count the whole tree of processes, the .eim's among them. Latency is of one JPEG on its way
to its scores; see :mod:`tests.benchmarks.official_latency`. What a row says of a feature was tried in this run, not
read.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from websockets.exceptions import ConnectionClosed

from appliance.by_hand import ask
from appliance.errors import SitecamError
from server.demo.pages import Visitor
from tests.benchmarks import rig
from tests.benchmarks.official_latency import Latency, one_turn
from tests.benchmarks.swap import swap_to
from tests.fakes.waiting import wait_until
from tests.official.node import NodeRunner, NoNodeError, fake_camera, install, running

_HEAL_S = 30.0  # so long may a killed model take to come back


@dataclass(frozen=True)
class _Start:
    """Seconds from the start to the page's first answer, and to the first result on it."""

    page_s: float
    result_s: float


@dataclass(frozen=True)
class _Pace:
    """What a second of watching costs: decisions, CPU ms per decision (all, without the .eim), and memory, MB."""

    rate_fps: float
    cpu_ms: float
    cpu_beside_ms: float
    memory_mb: float


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m tests.benchmarks official``."""
    parser.add_argument("--backbone", type=Path, help="a .tflite part or a Keras weights file (.h5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn (%(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="both by turns, so often (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Run both by turns and print the table."""
    try:
        command = install()
    except NoNodeError as error:
        raise SitecamError(f"The official runner can't be had: {error}") from error
    print(rig.machine_text())
    with tempfile.TemporaryDirectory(prefix="sitecam-benchmark-") as name:
        folder = Path(name)
        graph = rig.backbone(options.backbone, "float32")
        first = rig.make_site(folder / "first", graph, rate_fps=10)
        with rig.Camera(first) as camera:
            camera.wait_for_decisions(1)  # it assembles the .eim
        eim = folder / "impulse.eim"
        shutil.copy(first.shelf().impulse_path(1), eim)
        picture = first.config.parent / "pictures" / "0.jpg"
        theirs_start, ours_start, theirs, ours = [], [], [], []
        latencies: list[Latency] = []
        rate_fps = _rate(command, eim, picture, folder)
        site = rig.make_site(folder / "site", graph, rate_fps=rate_fps)
        with rig.Camera(site) as camera:
            camera.wait_for_decisions(1)
            watcher = site.visitor()
        for turn in range(options.turns):
            began = time.monotonic()
            with running(command, eim, _made(folder / f"node-{turn}"), fake_camera(picture)) as runner:
                theirs_start.append(_their_start(runner, began))
                theirs.append(_their_pace(runner, options.seconds))
            began = time.monotonic()
            with rig.Camera(site) as camera:
                ours_start.append(_our_start(site, watcher, began))
                ours.append(_our_pace(camera, options.seconds))
            latencies.append(one_turn(command, eim, picture, options.seconds / 2))
        starts = theirs_start, ours_start
        rows = [
            _latency_row(latencies),
            ("start to the page's first answer, s", *(_middle(one.page_s for one in each) for each in starts)),
            ("start to the first result on the page, s", *(_middle(one.result_s for one in each) for each in starts)),
            ("decisions a second", *(_middle(one.rate_fps for one in each) for each in (theirs, ours))),
            ("CPU per decision, all processes, ms", *(_middle(one.cpu_ms for one in each) for each in (theirs, ours))),
            ("of that beside the .eim, ms", *(_middle(one.cpu_beside_ms for one in each) for each in (theirs, ours))),
            ("memory, all processes, MB (PSS)", *(_middle(one.memory_mb for one in each) for each in (theirs, ours))),
            *_behaviour(command, eim, picture, folder, graph, rate_fps),
        ]
    print(f"\n| {options.turns} turns, medians | edge-impulse-linux-runner 1.25.2 | Sitecam |\n|---|---|---|")
    for what, runner_says, sitecam_says in rows:
        print(f"| {what} | {runner_says} | {sitecam_says} |")
    return 0


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _middle(values: Iterator[float]) -> str:
    middle = statistics.median(values)
    return f"{middle:.2f}" if middle < 10 else f"{middle:.0f}"


def _latency_row(turns: list[Latency]) -> tuple[str, str, str]:
    bare = _middle(one.bare_ms for one in turns)
    theirs = _middle(one.node_ms - one.bare_ms for one in turns)
    ours = _middle(one.sitecam_ms - one.bare_ms for one in turns)
    return f"latency from a JPEG to its scores beyond the .eim's own {bare} ms, ms", theirs, ours


# The runner's side


def _rate(command: Path, eim: Path, picture: Path, folder: Path) -> float:
    with running(command, eim, _made(folder / "rate"), fake_camera(picture)) as runner:
        runner.get("/")
        return round(_their_pace(runner, 5).rate_fps, 1)


def _their_start(runner: NodeRunner, began: float) -> _Start:
    runner.get("/")
    page = time.monotonic() - began
    _first(runner)
    return _Start(page, time.monotonic() - began)


def _first(runner: NodeRunner) -> None:
    next(message for message in runner.messages() if message["type"] == "classification")


def _their_pace(runner: NodeRunner, seconds: float) -> _Pace:
    node, (eim,) = runner.process.pid, rig.children_of(runner.process.pid)
    messages = (message for message in runner.messages() if message["type"] == "classification")
    for _ in range(5):
        next(messages)
    cpu, began, count = (rig.cpu_s(node), rig.cpu_s(eim)), time.monotonic(), 0
    while time.monotonic() < began + seconds:
        next(messages)
        count += 1
    took = time.monotonic() - began
    return _pace(count, took, rig.cpu_s(node) - cpu[0], rig.cpu_s(eim) - cpu[1], [node, eim])


def _pace(count: int, took_s: float, beside_s: float, eim_s: float, pids: list[int]) -> _Pace:
    memory_mb = sum(rig.pss_mb(pid) for pid in pids)
    return _Pace(count / took_s, (beside_s + eim_s) / count * 1000, beside_s / count * 1000, memory_mb)


# Ours


def _our_pace(camera: rig.Camera, seconds: float) -> _Pace:
    camera.wait_for_decisions(10)
    others = rig.children_of(camera.pid)
    cpu = rig.cpu_s(camera.pid), sum(map(rig.cpu_s, others))
    gaps, _ = camera.gaps_during(seconds)
    beside_s = rig.cpu_s(camera.pid) - cpu[0]
    return _pace(len(gaps), seconds, beside_s, sum(map(rig.cpu_s, others)) - cpu[1], [camera.pid, *others])


def _our_start(site: rig.Site, watcher: Visitor, began: float) -> _Start:
    while True:
        try:
            httpx.get(f"https://127.0.0.1:{site.port}/login", verify=False, timeout=5)  # noqa: S501  # its own certificate
            break
        except httpx.TransportError:
            time.sleep(0.01)
    page_s = time.monotonic() - began
    wait_until(lambda: (watcher.state() or {}).get("decision"), 60)
    return _Start(page_s, time.monotonic() - began)


# What each does


def _behaviour(
    command: Path, eim: Path, picture: Path, folder: Path, graph: bytes, rate_fps: float
) -> list[tuple[str, str, str]]:
    with running(command, eim, _made(folder / "login"), fake_camera(picture)) as runner:
        theirs = runner.get("/")
        _first(runner)
        healed = _their_model_killed(runner)
    began = time.monotonic()
    with running(command, eim, _made(folder / "again"), fake_camera(picture)) as runner:
        runner.get("/")
        _first(runner)
        swapped_s = time.monotonic() - began  # what was stopped for it is not even counted
    broken = folder / "broken.eim"
    broken.write_bytes(eim.read_bytes()[:5000])
    broken.chmod(0o755)
    with running(command, broken, _made(folder / "broken"), fake_camera(picture)) as runner:
        ended = runner.process.wait(60)
    site = rig.make_site(folder / "behaviour", graph, rate_fps=rate_fps, soak_decisions=30)
    with rig.Camera(site) as camera:
        camera.wait_for_decisions(30)
        answer = httpx.get(f"https://127.0.0.1:{site.port}/api/state", verify=False)  # noqa: S501  # as above
        verdict = swap_to(site, 2)
        gap_ms = verdict.swap.longest_gap_ms if verdict.swap else 0.0
        site.fleet.graph = b"no graph"
        refused = swap_to(site, 3)
        version = camera.ask("state")["version"]
        back = _rolled_back(site, camera)
        gap_s = _our_model_killed(camera)
    return [
        ("the page without a login", f"{theirs.status_code}, {theirs.url.scheme}", f"{answer.status_code}, https"),
        ("another model: longest time without a decision", f"{swapped_s:.1f} s (stop, start)", f"{gap_ms:.0f} ms"),
        ("a broken model", f"ends with {ended}", f"refused at {refused.state}, version {version} goes on"),
        ("back to the model before", "none", back),
        ("its .eim killed", healed, f"decides again after {gap_s:.1f} s"),
    ]


def _their_model_killed(runner: NodeRunner) -> str:
    (eim,) = rig.children_of(runner.process.pid)
    messages = runner.messages()
    next(messages)
    os.kill(eim, signal.SIGKILL)
    began, last = time.monotonic(), time.monotonic()
    try:
        for message in messages:
            if message["type"] == "classification":
                if time.monotonic() - last > 1:
                    return f"decides again after {time.monotonic() - last:.1f} s"
                last = time.monotonic()
            if time.monotonic() > began + _HEAL_S:
                break
    except (ConnectionClosed, TimeoutError):
        pass
    status = runner.process.poll()
    return f"no decision within {_HEAL_S:.0f} s" if status is None else f"ends with {status}"


def _our_model_killed(camera: rig.Camera) -> float:
    (eim,) = [pid for pid in rig.children_of(camera.pid) if b"impulse.eim" in _command(pid)]
    camera.ask("mark")
    before = camera.ask("state")["decisions"]
    os.kill(eim, signal.SIGKILL)
    camera.wait_for_decisions(before + 20)
    return float(max(camera.ask("pace")["gaps_ms"])) / 1000


def _rolled_back(site: rig.Site, camera: rig.Camera) -> str:
    camera.ask("mark")
    began = time.monotonic()
    ask(site.shelf(), "rollback", 0)
    took_s = time.monotonic() - began
    return f"`sitecam rollback`: {took_s:.1f} s, at most {max(camera.ask('pace')['gaps_ms']):.0f} ms without a decision"


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
