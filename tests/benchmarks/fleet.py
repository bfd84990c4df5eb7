"""A large fleet's night on one real server: how time, CPU and memory grow, and what the reply checks are worth.

One SuperLink with TLS, registered keys and its database, one night by the very call that ``sitecam-server round``
makes, and 10, 100, 1,000 light nodes (tests/benchmarks/light_nodes.py says what they are and why not Flower's
simulation). Labels are skewed; a tenth of the cameras goes silent when asked to train in round 2; a tenth is hostile:
updates flipped and ten times too large, NaN, 10^9 examples, random heads. Every head that a camera sends is kept
aside by the camera, not by the server, so that plain FedAvg can be tried on the very same replies.

Keys are registered by one process that speaks Flower's Control API, as ``flwr supernode register`` does with a
process per key; the cameras go into the fleet's roster as enrolment writes them.

``--real 2,5,10``: after that, so many real camera nights (sitecam-night with its SuperNode) on tiny parts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.cli.cli_client_interceptor import CliClientHttpInterceptor
from flwr.proto.control_pb2 import RegisterNodeRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from appliance.errors import SitecamError
from appliance.models.head import Head
from appliance.store.features import FeatureCache
from appliance.store.frames import FrameStore
from appliance.store.importing import import_folders
from appliance.store.recipe import recipe_name
from server import fleet_init
from server.backbone import Backbone
from server.config import ServerSettings, load
from server.night import hold_night
from server.paths import ServerPaths
from server.roster import Roster
from server.superlink import SuperLink
from tests.benchmarks import fleet_tables, light_nodes, rig
from tests.benchmarks.light_cameras import (
    FEATURES,
    HOSTILE,
    LABELS,
    Part,
    cast,
    drawn,
    plain_average,
    read_kept,
)
from tests.benchmarks.watch import Peak, Watch, cpu_s_of
from tests.fakes import parts
from tests.fakes.processes import family
from tests.fakes.site import draw_folders
from tests.night.running import TinySite, free_port
from trainer.head import Examples, evaluate

_TEST_FRAMES = 300
_ROUND = re.compile(r"^Round (\d+) of \d+")
_SETTINGS = """\
state_dir = "server"
[fleet]
name = "large fleet"
labels = ["head", "hardhat", "nobody"]
[superlink]
port = {port}
[night]
rounds = {rounds}
quorum = {quorum}
quorum_deadline_s = {deadline}
round_deadline_s = {deadline}
verdict_deadline_s = {deadline}
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m tests.benchmarks fleet``."""
    parser.add_argument("--cameras", type=_numbers, default=(10, 100, 1000), help="how many, e.g. 10,100,1000")
    parser.add_argument("--rounds", type=int, default=3, help="of each night (%(default)s)")
    parser.add_argument("--hostile", type=float, default=0.1, help="share of them (%(default)s)")
    parser.add_argument("--leaving", type=float, default=0.1, help="share that goes silent in round 2 (%(default)s)")
    parser.add_argument("--deadline", type=float, default=300, help="of every step, seconds (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="that drive the light nodes (%(default)s)")
    parser.add_argument("--threads", type=int, default=32, help="of each of them (%(default)s)")
    parser.add_argument("--real", type=_numbers, default=(), help="then: so many real SuperNodes, e.g. 2,5,10,20")
    parser.add_argument("--json", type=Path, help="write the figures there too")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if int(part))


def run(options: argparse.Namespace) -> int:
    """Measure and print.

    Raises:
        SitecamError: A night could not be held.
    """
    print(rig.machine_text(), flush=True)
    figures: dict[str, Any] = {"machine": rig.machine(), "nights": [], "real": []}
    for cameras in options.cameras:
        with tempfile.TemporaryDirectory(prefix="sitecam-benchmark-") as name:
            figures["nights"].append(_night(Path(name), cameras, options))
        print(fleet_tables.table(figures["nights"][-1:]), flush=True)
    if len(figures["nights"]) > 1:
        print(fleet_tables.table(figures["nights"]))
        print(fleet_tables.growth(figures["nights"]))
    for cameras in options.real:
        with tempfile.TemporaryDirectory(prefix="sitecam-benchmark-") as name:
            figures["real"].append(_real(Path(name), cameras))
        print(fleet_tables.real_table(figures["real"]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        print(f"written: {options.json}")
    return 0


# A night of light nodes


def _night(root: Path, cameras: int, options: argparse.Namespace) -> dict[str, Any]:
    config = root / "sitecam-server.toml"
    text = _SETTINGS.format(
        port=free_port(), rounds=options.rounds, quorum=max(2, cameras // 2), deadline=options.deadline
    )
    config.write_text(text, encoding="utf-8")
    settings = load(config)
    paths = ServerPaths(settings.state_dir)
    _make_server(settings, root)
    known = _server_examples(settings)
    playing = cast(cameras, hostile=options.hostile, leaving=options.leaving)
    kept = root / "kept"
    kept.mkdir()
    with SuperLink(settings, config) as superlink:
        began = time.monotonic()
        keys = _enrol(settings, superlink, playing)
        registered_s = time.monotonic() - began
        _say(f"{cameras} cameras enrolled in {registered_s:.0f} s")
        plans = _plans(root, settings, superlink, playing, keys, kept, options)
        with _nodes(plans) as nodes:
            _say(f"{cameras} cameras are there")
            marks, night, seconds = _hold(settings, superlink)
            nodes_cpu_s = cpu_s_of(nodes)
    first = Head.untrained(FEATURES, len(LABELS), 0, seed=1)
    return {
        "cameras": cameras,
        "outcome": night.outcome,
        "message": night.message,
        "registering_s": registered_s,
        "seconds": dict(night.figures.get("seconds", {})) | {"night": seconds},
        "rounds": marks,
        "nodes_cpu_s": nodes_cpu_s,
        "before": evaluate(first, known).accuracy,
        "defended": [each.get("accuracy") for each in night.figures.get("rounds", [])],
        "left_out": [by_reason(each.get("left_out", {})) for each in night.figures.get("rounds", [])],
        "undefended": undefended(kept, known),
        "state_mb": sum(file.stat().st_size for file in paths.root.rglob("*") if file.is_file()) / 2**20,
    }


def _make_server(settings: ServerSettings, root: Path) -> None:
    """A fleet whose backbone nobody looks at, and the server's own frames with features in its cache."""

    def resolve(*_: object) -> Backbone:
        return Backbone(b"no picture is looked at here", "benchmark")

    with patch.object(fleet_init, "resolve", resolve):
        manifest = fleet_init.make_fleet(settings, cache=rig.CACHE, say=_say)
    store_root = ServerPaths(settings.state_dir).store
    pictures = draw_folders(root / "pictures", labels=LABELS, seed=1, train=0, test=_TEST_FRAMES // len(LABELS))
    with FrameStore(store_root) as store, FeatureCache(store_root) as cache:
        import_folders(store, pictures, labels=LABELS, by="benchmark", split="test")
        frames = store.frames(split="test")
        labels = np.array([LABELS.index(frame.label or "") for frame in frames])
        features = drawn(labels, seed=0)[:, np.newaxis]
        cache.put_many(recipe_name(manifest, 1), {frame.id: rows for frame, rows in zip(frames, features, strict=True)})


def _server_examples(settings: ServerSettings) -> Examples:
    """What the server tests on, drawn again."""
    store_root = ServerPaths(settings.state_dir).store
    with FrameStore(store_root) as store:
        labels = np.array([LABELS.index(frame.label or "") for frame in store.frames(split="test")], np.int64)
    return Examples(drawn(labels, seed=0)[:, np.newaxis], labels)


def _enrol(settings: ServerSettings, superlink: SuperLink, playing: Sequence[Part]) -> list[str]:
    """A key for each camera, known to SuperLink and fleet; the private ones, PEM."""
    paths = ServerPaths(settings.state_dir)
    superlink.prepare()
    client = ControlHttpClient.from_server_address(
        superlink.address,
        insecure=False,
        root_certificates=paths.ca_certificate.read_bytes(),
        interceptors=[CliClientHttpInterceptor(), RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
    )
    roster = Roster(paths.registry)
    keys = []
    for part in playing:
        key = ec.generate_private_key(ec.SECP384R1())
        public = key.public_key()
        answer = client.RegisterNode(RegisterNodeRequest(public_key=public_key_to_bytes(public), name=part.name))
        line = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
        roster.enrol(answer.node_id, part.name, line)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        keys.append(private.decode())
    client.close()
    return keys


def _plans(
    root: Path,
    settings: ServerSettings,
    superlink: SuperLink,
    playing: Sequence[Part],
    keys: Sequence[str],
    kept: Path,
    options: argparse.Namespace,
) -> list[Path]:
    """One file for each process that drives light nodes."""
    paths = ServerPaths(settings.state_dir)
    folder = root / "plans"
    folder.mkdir()
    shutil.copytree(paths.models, folder / "models")  # the cameras stay at this version while the server goes on
    entries = [{"part": asdict(part), "key": key} for part, key in zip(playing, keys, strict=True)]
    plans = []
    for number in range(min(options.processes, len(entries))):
        plan = {
            "models": str(folder / "models"),
            "signing": str(paths.signing_public),
            "kept": str(kept),
            "authority": str(paths.ca_certificate),
            "address": superlink.address,
            "threads": options.threads,
            "nodes": entries[number :: options.processes],
        }
        plans.append(folder / f"plan-{number}.json")
        plans[-1].write_text(json.dumps(plan), encoding="utf-8")
    return plans


@contextmanager
def _nodes(plans: Sequence[Path]) -> Iterator[list[int]]:
    """The light nodes' processes, from all nodes being active to their end; their ids."""
    with contextlib.ExitStack() as stack:
        processes = []
        for plan in plans:
            process = subprocess.Popen(
                [sys.executable, "-m", light_nodes.__name__, str(plan)],
                cwd=rig.ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.callback(_end, process)
            processes.append(process)
        for process in processes:
            assert process.stdout
            if process.stdout.readline().strip() != "ready":
                raise SitecamError("The light nodes did not start")
        yield [process.pid for process in processes]


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.close()
    try:
        said = process.stdout.read().strip()
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
    if said:
        _say(f"light nodes: {said}")


def _hold(settings: ServerSettings, superlink: SuperLink) -> tuple[list[dict[str, Any]], Any, float]:
    """The night; for each of its rounds seconds, and the server's CPU seconds and memory."""
    root = next(pid for pid in rig.children_of(os.getpid()) if _is_superlink(pid))
    marks: list[dict[str, Any]] = []
    with Watch([root], _kind, every_s=0.25) as watch:
        began = last = time.monotonic()
        used = cpu_s_of(family(root))

        def say(text: str) -> None:
            nonlocal last, used
            if _ROUND.match(text):
                peak, now, cpu = watch.take(), time.monotonic(), cpu_s_of(family(root))
                marks.append({"seconds": now - last, "cpu_s": cpu - used, **_memory(peak)})
                last, used = now, cpu
            if "camera-" not in text:  # at a thousand of them one reads the sums only
                _say(f"  {text[:200]}")
            if "is here" in text:  # the first round begins after the last of them
                last, used = time.monotonic(), cpu_s_of(family(root))

        night = hold_night(settings, superlink, say, name="benchmark")
        _say(f"  {night.outcome}: {night.message[:300]}")
        return marks, night, time.monotonic() - began


def _is_superlink(pid: int) -> bool:
    line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return "superlink" in line


def _kind(_: int, command: str) -> str:
    if "serverapp" in command:
        return "ServerApp"
    if "superexec" in command:
        return "executor"
    return "SuperLink"


def _memory(peak: Peak) -> dict[str, float]:
    return {"pss_mb": peak.pss_mb, **{f"{kind} MB": value for kind, value in peak.parts_mb.items()}}


def by_reason(left_out: dict[str, str]) -> dict[str, int]:
    """How many cameras a round went on without, by reason; numbers in a reason don't tell reasons apart."""
    counts: dict[str, int] = {}
    for why in left_out.values():
        short = re.sub(r"\d[\d.,]*(e[+-]?\d+)?", "#", why)[:70]
        counts[short] = counts.get(short, 0) + 1
    return counts


def undefended(kept: Path, known: Examples) -> dict[str, list[float | None]]:
    """Accuracy of plain FedAvg's head after each round, by which replies it took; None where it is no head."""
    replies = read_kept(kept)
    rounds = sorted({number for _, number, _, _ in replies})
    found: dict[str, list[float | None]] = {}
    kinds = [kind for kind in HOSTILE if any(part.hostile == kind for part, *_ in replies)]
    for name, wanted in {"honest alone": (), "all": HOSTILE, **{f"with {kind}": (kind,) for kind in kinds}}.items():
        row: list[float | None] = []
        for number in rounds:
            heads = [
                (examples, arrays)
                for part, when, examples, arrays in replies
                if when == number and (not part.hostile or part.hostile in wanted)
            ]
            head = plain_average(heads)
            row.append(None if head is None else evaluate(head, known).accuracy)
        found[name] = row
    return found


# Real SuperNodes


def _real(root: Path, cameras: int) -> dict[str, Any]:
    """So many whole camera nights on tiny parts; no live loop, so nobody tries the new version."""
    with TinySite(root, parts.tiny_backbone(), cameras=cameras) as site:
        site.write_rules(quorum=cameras, rounds=2, verdict_deadline_s=5, quorum_deadline_s=240)
        for camera in site.cameras:
            with camera.config.open("a", encoding="utf-8") as file:
                file.write("[night]\nswap_deadline_s = 1.0\n")
            site.start_night(camera)
        pids = [site.night_pid(camera) for camera in site.cameras]
        with Watch(
            pids, lambda _, command: "SuperNode" if "supernode" in command else "the rest", every_s=0.5
        ) as watch:
            began = time.monotonic()
            held = site.finish_round(site.start_round())
            seconds = time.monotonic() - began
        for camera in site.cameras:
            site.finish_night(camera)
        peak = watch.peak
    return {
        "cameras": cameras,
        "outcome": held.outcome,
        "seconds": seconds,
        "figures": held.figures.get("seconds", {}),
        "pss_mb": peak.pss_mb,
        "pss_each_mb": peak.pss_mb / cameras,
        "cpu_each_s": peak.cpu_s / cameras,
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
