"""A camera's night against the tutorial's, on the same pictures in the same run: CPU, memory, bytes, accuracy.

The pictures are imported into real stores first, which takes identical ones and scenes that lie in train and test
apart; both sides then learn from the same frames and are tested on the same frames. The tutorial's fit and evaluate
run in a process per client (tests/benchmarks/tutorial.py). Ours are measured twice: as the functions that the
ClientApp calls, in a process of their own, for CPU seconds; and as a real night (SuperLink, sitecam-night with
SuperNode, executor, task children and the wire), for memory, bytes and accuracy. Nothing of a night runs by day, so
all that these processes have in memory is above idle.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from appliance.errors import NightError, SitecamError
from appliance.ledger_reader import last_traffic
from appliance.models.head import Head
from appliance.models.manifest import Manifest
from appliance.models.shelf import Shelf
from appliance.models.signing import load_public_key
from appliance.paths import CameraPaths
from appliance.store.frames import FrameStore
from appliance.store.importing import import_folders
from server.backbone import trainer_part
from server.config import NightSettings, ServerSettings, load
from server.demo.options import parse
from server.demo.programs import Programs
from server.demo.site import DemoCamera, DemoSite, lay_out
from server.enrol import enrol_camera
from server.fleet_init import make_fleet
from server.night import hold_night
from server.paths import ServerPaths
from server.registry import NightRecord
from server.superlink import SuperLink
from tests.benchmarks import night_tables, rig, tutorial
from tests.benchmarks.watch import Peak, Watch, command_line
from tests.night.running import free_port

_DATA = rig.ROOT.parent / "shared" / "datasets" / "hardhat"
_WEIGHTS = rig.ROOT.parent / "shared" / "models" / "mobilenet_v2_1.0_160_imagenet_no_top.weights.h5"
_SIZES = (200, 500, 1_000, 2_000, 5_000, 10_000, 20_000)
_WORKER = "tests.benchmarks.night_camera"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m tests.benchmarks night``."""
    parser.add_argument("--data", type=Path, default=_DATA, help="pictures in the tutorial's layout (%(default)s)")
    parser.add_argument("--backbone", type=Path, default=_WEIGHTS, help="Keras weights file (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of both sides (%(default)s)")
    parser.add_argument("--frames", type=int, default=0, help="then: cost by number of cached frames, up to this")
    parser.add_argument("--only-frames", action="store_true", help="leave the night itself out")
    parser.add_argument("--plot", type=Path, help="draw the cost by number of frames there, as SVG")
    parser.add_argument("--json", type=Path, help="write the figures there too")


def run(options: argparse.Namespace) -> int:
    """Measure and print.

    Raises:
        SitecamError: Pictures or weights are missing, or a part of the night failed.
    """
    print(rig.machine_text(), flush=True)
    figures: dict[str, Any] = {"machine": rig.machine()}
    with tempfile.TemporaryDirectory(prefix="sitecam-benchmark-") as name:
        if not options.only_frames:
            figures |= _night(Path(name), options)
            print(night_tables.table(figures))
        if options.frames:
            figures["by_frames"] = _by_frames(Path(name), options.frames)
            print(night_tables.frames_table(figures["by_frames"]))
            if options.plot:
                options.plot.write_text(night_tables.frames_plot(figures["by_frames"]), encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        print(f"written: {options.json}")
    return 0


# The night


def _night(root: Path, options: argparse.Namespace) -> dict[str, Any]:
    site, settings = _lay_out(root, options)
    with Programs(root / "logs") as programs, SuperLink(settings, site.server_config) as superlink:
        for camera in site.cameras:
            _make_camera(camera, settings, programs, superlink)
        _say("Ours: a night's work, counted in CPU seconds")
        shelf = _shelf(settings)
        works = {camera.name: _work(root, camera, settings, shelf, options.rounds) for camera in site.cameras}
        _say("Ours: a real night")
        night, peaks = _hold(site, settings, superlink)
    if "server" not in night.figures:  # whether the version is published matters not: no live loop could try it
        raise NightError(f"The night ended as {night.outcome}: {night.message}")
    _say("The tutorial's")
    theirs = _tutorial(root, site, settings, options)
    rounds = max(1, options.rounds)
    traffic = {camera.name: last_traffic(CameraPaths(camera.state).ledger) for camera in site.cameras}
    return {
        "rounds": options.rounds,
        "outcome": f"{night.outcome}: {night.message}",
        "tutorial": theirs,
        "work": works,
        "memory": {name: dataclasses.asdict(peak) for name, peak in peaks.items()},
        "wire_bytes_per_round": {
            name: {"up": up // rounds, "down": down // rounds} for name, (up, down) in traffic.items()
        },
        "head_bytes": _head_bytes(len(settings.fleet.labels)),
        "accuracy": _accuracies(site, night, theirs),
    }


def _lay_out(root: Path, options: argparse.Namespace) -> tuple[DemoSite, ServerSettings]:
    """A server and cameras as the demo makes them, with their frames imported; quick about verdicts."""
    arguments = ["--work", str(root), "--data", str(options.data), "--backbone", str(options.backbone)]
    site = lay_out(parse([*arguments, "--port", str(free_port())]))
    with site.server_config.open("a", encoding="utf-8") as file:
        file.write(f"rounds = {options.rounds}\n")
    for camera in site.cameras:
        with camera.config.open("a", encoding="utf-8") as file:
            file.write("swap_deadline_s = 1.0\n")  # no live loop runs here that could try a new version
    settings = load(site.server_config)
    make_fleet(settings, cache=rig.CACHE, say=_say)
    with FrameStore(ServerPaths(settings.state_dir).store) as store:
        import_folders(store, site.server_pictures, labels=settings.fleet.labels, by="benchmark", split="test")
    return site, settings


def _make_camera(camera: DemoCamera, settings: ServerSettings, programs: Programs, superlink: SuperLink) -> None:
    config = ("--config", str(camera.config))
    key = programs.run("appliance.cli", *config, "key")
    bundle = camera.config.with_suffix(".bundle")
    enrol_camera(settings, superlink, name=camera.name, public_key=Path(key), bundle=bundle)
    programs.run("appliance.cli", *config, "enrol", str(bundle))
    programs.run("appliance.cli", *config, "import", str(camera.pictures), "--label-from", "folders")


def _shelf(settings: ServerSettings) -> Shelf:
    paths = ServerPaths(settings.state_dir)
    return Shelf(paths.models, load_public_key(paths.signing_public.read_bytes()))


def _work(root: Path, camera: DemoCamera, settings: ServerSettings, shelf: Shelf, rounds: int) -> dict[str, Any]:
    """On a copy of the camera, so that the real night begins without cached features."""
    copy = root / "copies" / camera.name
    shutil.copytree(camera.state, copy / camera.state.name)
    config = shutil.copy(camera.config, copy / camera.config.name)
    head = copy / "head.npz"
    head.write_bytes(shelf.part(shelf.manifest(shelf.current or 1).parts["head"]))
    night = settings.night
    recipe = {"epochs": night.epochs, "rate": night.rate, "smoothing": night.smoothing, "seed": 1}
    return _ask_worker("work", config, head, json.dumps(recipe), rounds)


def _ask_worker(*arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", _WORKER, *map(str, arguments)],
        cwd=rig.ROOT,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # as sitecam-night sets it
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SitecamError(f"The benchmark's camera process failed: {done.stderr.strip()[-600:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _hold(site: DemoSite, settings: ServerSettings, superlink: SuperLink) -> tuple[NightRecord, dict[str, Peak]]:
    with contextlib.ExitStack() as stack:
        nights = {camera.name: stack.enter_context(_night_process(camera)) for camera in site.cameras}
        watches = {name: stack.enter_context(Watch([process.pid], _kind)) for name, process in nights.items()}
        night = hold_night(settings, superlink, _say, name="benchmark")
        for process in nights.values():
            process.wait(120)
    return night, {name: watch.peak for name, watch in watches.items()}


@contextmanager
def _night_process(camera: DemoCamera) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "trainer.night", "--config", str(camera.config), "--window-minutes", "30"]
    with camera.config.with_suffix(".night.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _kind(pid: int, command: str) -> str:
    """Which of a night's processes this is; task children are forks with their parent's command line."""
    if "supernode" in command:
        return "SuperNode"
    if "trainer.wire" in command:
        return "wire"
    parent = Path(f"/proc/{pid}/stat")
    try:
        parent_pid = int(parent.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return "ended"
    return "task" if "trainer.night" in command_line(parent_pid) else "night and executor"


# The tutorial


class _Client:
    """A client process of tests/benchmarks/tutorial.py."""

    def __init__(self, root: Path, camera: DemoCamera, server: Path, backbone: Path, labels: Sequence[str]) -> None:
        self._root, self._name = root, camera.name
        stores = (CameraPaths(camera.state).store, server)
        self._process = subprocess.Popen(
            [sys.executable, "-m", tutorial.__name__, *map(str, stores), str(backbone), json.dumps(list(labels)), "1"],
            cwd=rig.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(root / f"tutorial-{camera.name}.log").open("wb"),
            text=True,
        )

    def ask(self, what: str, **more: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"do": what, **more}, default=str) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SitecamError(
                f"The tutorial's client ended: {(self._root / f'tutorial-{self._name}.log').read_text()[-600:]}"
            )
        return dict(json.loads(line))

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


def _tutorial(root: Path, site: DemoSite, settings: ServerSettings, options: argparse.Namespace) -> dict[str, Any]:
    server = ServerPaths(settings.state_dir).store
    clients = {
        camera.name: _Client(root, camera, server, options.backbone, settings.fleet.labels) for camera in site.cameras
    }
    asked = root / "global.npy"
    figures: dict[str, Any] = {"fit": {name: [] for name in clients}, "evaluate": {name: [] for name in clients}}
    try:
        first, *_ = clients.values()
        figures["bytes"] = first.ask("start", to=asked)["bytes"]
        for number in range(1, options.rounds + 1):
            trained, examples = [], []
            for name, client in clients.items():
                answer = client.ask("fit", weights=asked, to=root / f"{name}.npy")
                figures["fit"][name].append(answer["cpu_s"])
                trained.append(tutorial.read(root / f"{name}.npy"))
                examples.append(answer["examples"])
                _say(f"  round {number}, {name}: fit {answer['cpu_s']:.1f} CPU s")
            tutorial.save(asked, tutorial.average(trained, examples))
            for name, client in clients.items():
                answer = client.ask("evaluate", weights=asked)
                figures["evaluate"][name].append(answer["cpu_s"])
                figures[f"test {name}"] = [answer["right"], answer["frames"]]
        figures["peak_rss_mb"] = {name: client.ask("nothing")["peak_rss_mb"] for name, client in clients.items()}
        answer = first.ask("server", weights=asked)
        figures["test server"] = [answer["right"], answer["frames"]]
    finally:
        for client in clients.values():
            client.close()
    return figures


def _accuracies(site: DemoSite, night: NightRecord, theirs: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Share named right after the last round, by test set, theirs and ours."""
    ours = {camera.name: night.figures["cameras"][camera.name]["accuracy_after"] for camera in site.cameras}
    ours["server"] = night.figures["server"]["accuracy_after"]
    found = {}
    for name, share in ours.items():
        right, frames = theirs[f"test {name}"]
        found[name] = {"frames": frames, "tutorial": right / frames, "ours": share}
    return found


# Growth


def _by_frames(root: Path, most: int) -> list[dict[str, Any]]:
    folder = root / "frames"
    folder.mkdir()
    fleet = rig.Fleet(folder, b"no backbone is asked for")
    manifest, graph = folder / "manifest.json", folder / "trainer.tflite"
    manifest.write_bytes(fleet.version(1)[0])
    labels = len(Manifest.from_bytes(manifest.read_bytes()).labels)
    graph.write_bytes(trainer_part(rig.FEATURES, labels, 0, rig.CACHE))
    night = NightSettings()
    recipe = json.dumps({"epochs": night.epochs, "rate": night.rate, "smoothing": night.smoothing, "seed": 1})
    rows = []
    for count in [size for size in _SIZES if size <= most]:
        _say(f"{count} cached frames")
        rows.append(_ask_worker("frames", folder / f"store-{count}", graph, manifest, count, recipe))
        shutil.rmtree(folder / f"store-{count}")
    return rows


def _head_bytes(labels: int) -> int:
    return sum(array.nbytes for array in Head.untrained(rig.FEATURES, labels, 0, seed=1).arrays)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
