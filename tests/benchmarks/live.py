"""What the whole live loop costs beyond the model: time per decision against a bare invoke, memory, CPU, start-up.

The loop is the camera process that a Pi runs, its camera a folder that brings frames faster than the model takes them,
its page open in one viewer. The bare invoke is LiteRT on the very same backbone in a process of its own. They run by
turns of less than a second, the other one stopped meanwhile, so that a machine's changing pace hits both alike. Beside
them, Edge Impulse's SDK as its own example drives it (a list through shared memory, its own resize), on the same .eim.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import numpy as np

from server.config import Precision
from tests.benchmarks import rig

_FASTER = 1.3  # than the model: so much quicker does the camera bring frames

_SETTLE_S = 0.3  # after it was stopped

_BARE = """
import json, sys, time
from pathlib import Path
import numpy as np
from appliance import litert
interpreter = litert.load(Path(sys.argv[1]).read_bytes(), threads=int(sys.argv[2]))
picture = np.random.default_rng(0).integers(0, 256, (1, 160, 160, 3)).astype(np.float32)
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
for line in sys.stdin:
    for _ in range(20):
        interpreter.invoke()
    times, ends = [], time.perf_counter() + float(line)
    while time.perf_counter() < ends:
        began = time.perf_counter()
        interpreter.invoke()
        times.append((time.perf_counter() - began) * 1000)
    print(json.dumps(times), flush=True)
"""

_NAIVE = """
import json, sys, time, types
sys.modules["pyaudio"] = types.ModuleType("pyaudio")
import cv2
import numpy as np
from edge_impulse_linux.image import ImageImpulseRunner
runner = ImageImpulseRunner(sys.argv[1])
runner.init()
picture = cv2.cvtColor(cv2.imread(sys.argv[2]), cv2.COLOR_BGR2RGB)
times, ends = [], time.perf_counter() + float(sys.argv[3])
while time.perf_counter() < ends:
    began = time.perf_counter()
    features, _ = runner.get_features_from_image_auto_studio_settings(picture)
    runner.classify(features)
    times.append((time.perf_counter() - began) * 1000)
runner.stop()
print(json.dumps(times[5:]))
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m tests.benchmarks live``."""
    parser.add_argument("--backbone", type=Path, help="a .tflite part or a Keras weights file (.h5)")
    parser.add_argument("--seconds", type=float, default=0.6, help="of each turn (%(default)s)")
    parser.add_argument("--turns", type=int, default=40, help="bare and loop by turns, so often (%(default)s)")
    parser.add_argument("--precision", choices=["float32", "int8"], action="append", help="default: both")
    parser.add_argument("--threads", type=int, action="append", help="CPU threads of the model; default: 1 and 2")
    parser.add_argument("--json", type=Path, help="write the figures there too")


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    print(rig.machine_text())
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="sitecam-benchmark-") as name:
        for precision in options.precision or ("float32", "int8"):
            for threads in options.threads or (1, 2):
                folder = Path(name) / f"{precision}-{threads}"
                rows.append(_row(folder, options, precision, threads))
                _print(rows)
    if options.json:
        options.json.write_text(json.dumps({"machine": rig.machine(), "rows": rows}, indent=1) + "\n")
        print(f"written: {options.json}")
    return 0


def _row(folder: Path, options: argparse.Namespace, precision: Precision, threads: int) -> dict[str, Any]:
    graph = rig.backbone(options.backbone, precision)
    folder.mkdir()
    (folder / "backbone.tflite").write_bytes(graph)
    with _Bare(folder / "backbone.tflite", threads) as bare:
        rate_fps = min(1000.0, _FASTER * 1000 / float(np.median(bare.times_ms(2))))
        site = rig.make_site(folder / "site", graph, rate_fps=rate_fps, threads=threads)
        bare_ms, loop_ms, figures = _by_turns(bare, site, options.seconds, options.turns)
    eim = site.shelf().impulse_path(1)
    naive = _times(_NAIVE, eim, site.config.parent / "pictures" / "0.jpg", 10 * options.seconds)
    ratios = [float(np.median(loop) / np.median(alone)) for loop, alone in zip(loop_ms, bare_ms, strict=True)]
    spreads = [float(np.percentile(loop, 99) / np.median(loop)) for loop in loop_ms]
    all_bare, all_loop = np.concatenate(bare_ms), np.concatenate(loop_ms)
    return {
        "precision": precision,
        "threads": threads,
        "backbone_bytes": len(graph),
        "bare_ms": _figures(all_bare),
        "loop_ms": _figures(all_loop),
        "naive_sdk_ms": _figures(naive),
        "ratio": round(float(np.median(ratios)), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "naive_ratio": round(float(np.median(naive) / np.median(all_bare)), 3),
        "p99_to_median": round(float(np.median(spreads)), 2),
        "bare_p99_to_median": round(float(np.median([np.percentile(b, 99) / np.median(b) for b in bare_ms])), 2),
        "eim_to_hello_s": round(float(np.median(rig.start_times_s(eim, 5))), 3),
        **figures,
    }


def _by_turns(
    bare: _Bare, site: rig.Site, seconds: float, turns: int
) -> tuple[list[np.ndarray], list[np.ndarray], dict[str, Any]]:
    bare_ms, loop_ms, decisions, used_s = [], [], 0, np.zeros(2)
    with rig.Camera(site) as camera:
        first_s = camera.wait_for_decisions(1)
        with rig.viewer(site):
            camera.wait_for_decisions(200)
            pids = [camera.pid, *rig.children_of(camera.pid)]
            for _ in range(turns):
                with rig.stopped(pids):
                    bare_ms.append(bare.times_ms(seconds))
                time.sleep(_SETTLE_S)
                before = np.array([rig.cpu_s(pid) for pid in pids])
                gaps, pace = camera.gaps_during(seconds)
                used_s += np.array([rig.cpu_s(pid) for pid in pids]) - before
                loop_ms.append(gaps)
                decisions += pace["decisions"]
            figures = {
                "first_decision_s": round(first_s, 2),
                "decisions_per_s": round(decisions / seconds / turns, 1),
                **{
                    f"{name}_{what}": round(value, 2)
                    for name, pid, used in zip(("camera", "impulse"), pids, used_s, strict=True)
                    for what, value in (
                        ("rss_mb", rig.rss_mb(pid)),
                        ("pss_mb", rig.pss_mb(pid)),
                        ("cpu", used / seconds / turns),
                    )
                },
            }
    return bare_ms, loop_ms, figures


class _Bare:
    """A process that invokes the interpreter and does nothing else."""

    def __init__(self, graph: Path, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BARE, str(graph), str(threads)],
            cwd=rig.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def times_ms(self, seconds: float) -> np.ndarray:
        """Milliseconds of every invoke, for so many seconds."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return np.array(json.loads(self._process.stdout.readline()))


def _times(code: str, *arguments: object) -> np.ndarray:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=rig.ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return np.array(json.loads(done.stdout.splitlines()[-1]))


def _figures(times_ms: np.ndarray) -> dict[str, float]:
    return {
        "median": round(float(np.median(times_ms)), 3),
        "p99": round(float(np.percentile(times_ms, 99)), 3),
        "best": round(float(times_ms.min()), 3),
        "count": len(times_ms),
    }


def _print(rows: list[dict[str, Any]]) -> None:
    row = rows[-1]
    if len(rows) == 1:
        print("\nms per decision: median (p99)      bare invoke         whole loop    ratio     SDK, naive    ratio")
    name = f"{row['precision']}, {row['threads']} thread{'s' * (row['threads'] > 1)}"
    cells = [f"{row[key]['median']:.2f} ({row[key]['p99']:.2f})" for key in ("bare_ms", "loop_ms", "naive_sdk_ms")]
    print(
        f"{name:<28}{cells[0]:>18} {cells[1]:>18} {row['ratio']:>8.3f} {cells[2]:>16} {row['naive_ratio']:>6.2f}\n"
        f"    ratios by turn {min(row['ratios'])} to {max(row['ratios'])}; p99 / median {row['p99_to_median']}"
        f" (bare {row['bare_p99_to_median']}); {row['decisions_per_s']} decisions/s\n"
        f"    first decision {row['first_decision_s']} s after the start; .eim to hello {row['eim_to_hello_s']} s\n"
        f"    RSS (PSS) MB: camera {row['camera_rss_mb']} ({row['camera_pss_mb']}),"
        f" impulse {row['impulse_rss_mb']} ({row['impulse_pss_mb']}); CPUs: camera {row['camera_cpu']},"
        f" impulse {row['impulse_cpu']}; backbone {row['backbone_bytes'] / 1e6:.1f} MB",
        flush=True,
    )
