"""What the benchmarks stand on: an enrolled camera with a full-size model, run as the process that a Pi runs."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from appliance.eim.runner import start_impulse
from appliance.errors import SitecamError
from appliance.models.head import Head
from appliance.models.manifest import Manifest, Part
from appliance.models.shelf import Shelf
from appliance.models.signing import load_signing_key, new_signing_key
from appliance.paths import CameraPaths
from appliance.ports import free_port
from appliance.vision import InputSpec, encode_jpeg
from server.backbone import resolve
from server.config import Precision
from server.demo.pages import Visitor, visitor
from server.demo.site import DemoCamera
from tests.fakes.enrolled import join

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".sitecam" / "cache"
LABELS = ("head", "hardhat", "nobody")
FEATURES = 1280
SPEC = InputSpec(160, 160, "fit-shortest")
_NAME = "benchmark"


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")),
        platform.processor() or "unknown",
    )
    return {
        "cpu": cpu,
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def machine_text() -> str:
    """The same for people."""
    m = machine()
    cpu = f"{m['architecture']}, {m['cores']} cores ({m['cpu']})"
    return f"{cpu}, Python {m['python']}, load {m['load_1min']} at the start"


def backbone(path: Path | None, precision: Precision) -> bytes:
    """The full-size backbone: a .tflite as it is, else as a server makes it.

    The representative pictures of an int8 one are noise here: speed doesn't depend on what the weights say.
    """
    if path is not None and path.suffix == ".tflite" and precision == "float32":
        return path.read_bytes()
    weights = path if path is not None and path.suffix != ".tflite" else None
    pictures = np.stack(list(_scenes(64, 160, 160))) if precision == "int8" else None
    return resolve(weights, CACHE, lambda text: print(text, flush=True), pictures).graph


class Fleet:
    """Signs versions of a full-size model.

    Args:
        root: Where its key goes.
        graph: The backbone part.
    """

    def __init__(self, root: Path, graph: bytes) -> None:
        self._key_path = root / "signing.key"
        self.public_key = new_signing_key(self._key_path)
        self.graph = graph

    def version(self, number: int) -> tuple[bytes, bytes, dict[str, bytes]]:
        """(manifest, signature, parts by SHA-256) of a version with a head of its own."""
        head = Head.untrained(FEATURES, len(LABELS), 0, seed=number).to_bytes()
        contents = {"backbone": self.graph, "head": head, "trainer": b"not needed by day"}
        manifest = Manifest(
            fleet=_NAME,
            version=number,
            parent=number - 1 or None,
            labels=LABELS,
            input=SPEC,
            hidden_units=0,
            feature_count=FEATURES,
            parts={role: Part.of(data) for role, data in contents.items()},
            metrics={},
            night=None,
            created_utc=datetime.now(UTC).replace(microsecond=0),
        )
        text = manifest.to_bytes()
        signature = load_signing_key(self._key_path).sign(text)
        return text, signature, {Part.of(data).sha256: data for data in contents.values()}


@dataclass(frozen=True)
class Site:
    """An enrolled camera.

    Attributes:
        config: Its sitecam.toml.
        paths: Its state folder.
        fleet: Signs its models.
        port: Of its page.
    """

    config: Path
    paths: CameraPaths
    fleet: Fleet
    port: int

    def shelf(self) -> Shelf:
        """Its models, as the night process sees them."""
        return Shelf(self.paths.models, self.fleet.public_key)

    def visitor(self) -> Visitor:
        """Somebody who is logged in to its page, which must be up."""
        page = f"https://127.0.0.1:{self.port}/"
        found = visitor(DemoCamera(_NAME, self.config, self.paths.root, self.config.parent / "pictures", page))
        if found.state() is None:
            raise SitecamError("The camera's page doesn't answer")
        return found


def make_site(root: Path, graph: bytes, *, rate_fps: float, threads: int = 1, soak_decisions: int = 150) -> Site:
    """An enrolled camera that replays eight pictures of 640 x 480."""
    root.mkdir(parents=True)
    fleet = Fleet(root, graph)
    paths = join(root, fleet, name=_NAME)
    (root / "pictures").mkdir()
    for number, pixels in enumerate(_scenes(8, 480, 640)):
        (root / "pictures" / f"{number}.jpg").write_bytes(encode_jpeg(pixels))
    port = free_port("127.0.0.1", 0, means="The page can't be shown", do="Try again")
    config = root / "sitecam.toml"
    config.write_text(
        f'state_dir = "state"\n[camera]\nname = "{_NAME}"\nsource = "folder"\npath = "pictures"\n'
        f"rate_fps = {rate_fps}\n[model]\nthreads = {threads}\nsoak_decisions = {soak_decisions}\n"
        f"[page]\nport = {port}\n",
        encoding="utf-8",
    )
    return Site(config, paths, fleet, port)


def _scenes(count: int, height: int, width: int) -> Iterator[np.ndarray]:
    """Blobs of light and colour with a sensor's noise: as costly to encode as a real picture."""
    for number in range(count):
        generator = np.random.default_rng(number)
        coarse = generator.integers(20, 235, (height // 40, width // 40, 3))
        pixels = coarse.repeat(40, axis=0).repeat(40, axis=1) + generator.normal(0, 6, (height, width, 3))
        yield np.clip(pixels, 0, 255).astype(np.uint8)


class Camera:
    """A camera process under test; see :mod:`tests.benchmarks.camera_process`."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.camera_process", site.config],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, what: str) -> dict[str, Any]:
        """``state``, ``mark`` or ``pace``."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SitecamError(f"The camera process ended with status {self._process.wait()}")
        return dict(json.loads(line))

    def wait_for_decisions(self, count: int = 1, *, timeout_s: float = 60) -> float:
        """Wait for so many decisions since its start; return the seconds from start to then."""
        ends = time.monotonic() + timeout_s
        while time.monotonic() < ends:
            if self.ask("state")["decisions"] >= count:
                return time.monotonic() - self._began
            time.sleep(0.005)
        raise SitecamError(f"The camera made no {count} decisions within {timeout_s:.0f} s")

    def gaps_during(self, seconds: float) -> tuple[np.ndarray, dict[str, Any]]:
        """Times between decisions over so many seconds, ms, and the rest of the loop's pace."""
        self.ask("mark")
        time.sleep(seconds)
        pace = self.ask("pace")
        return np.array(pace.pop("gaps_ms")), pace

    def stop(self) -> None:
        """Ask it to end, and wait."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def viewer(site: Site) -> Iterator[None]:
    """Somebody who has the page open: the picture's stream and the live state, read as they come."""
    stopping = threading.Event()
    visitor = site.visitor()

    def watch(path: str) -> None:
        with visitor.browser() as browser, browser.stream("GET", path, timeout=30) as answer:
            answer.raise_for_status()
            for _ in answer.iter_raw():
                if stopping.is_set():
                    return

    threads = [threading.Thread(target=watch, args=(path,), daemon=True) for path in ("stream.mjpg", "api/live")]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join(5)


def start_times_s(eim: Path, repeats: int) -> list[float]:
    """Seconds from the start of an ``.eim`` to its checked answer to hello."""
    times = []
    for _ in range(repeats):
        began = time.monotonic()
        impulse = start_impulse(eim, start_deadline_s=60)
        times.append(time.monotonic() - began)
        impulse.close()
    return times


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Processes that take no time while something else is measured."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


# What /proc knows of a process


def rss_mb(pid: int) -> float:
    """Resident memory, MB; shared pages count."""
    return _status_kb(pid, "VmRSS") / 1024


def peak_rss_mb(pid: int) -> float:
    """The most it ever had resident, MB."""
    return _status_kb(pid, "VmHWM") / 1024


def pss_mb(pid: int) -> float:
    """Memory, MB, shared pages divided among those who share them."""
    lines = _lines(Path(f"/proc/{pid}/smaps_rollup"))
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def cpu_s(pid: int) -> float:
    """CPU time used so far, user and system, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> int:
    """Open file descriptors."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads_of(pid: int) -> int:
    """Threads."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def children_of(pid: int) -> list[int]:
    """Processes that it started and that are still there, zombies too."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            if fields[1:2] == [str(pid)]:
                found.append(int(folder.name))
    return found


def _status_kb(pid: int, name: str) -> int:
    return next(int(line.split()[1]) for line in _lines(Path(f"/proc/{pid}/status")) if line.startswith(f"{name}:"))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
