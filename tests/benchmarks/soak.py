"""Very many frames through the whole camera process, as fast as it goes: does memory, or anything else, grow?

The slope is a straight line's through the camera's and the .eim's resident memory over the second half of the frames,
given per million frames: a camera at 10 fps sees a million in 28 hours.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import rig


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m tests.benchmarks soak``."""
    parser.add_argument("--backbone", type=Path, help="a .tflite part or a Keras weights file (.h5)")
    parser.add_argument("--frames", type=int, default=200_000, help="decisions to make (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there too")


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    print(rig.machine_text())
    with tempfile.TemporaryDirectory(prefix="sitecam-benchmark-") as name:
        graph = rig.backbone(options.backbone, "float32")
        site = rig.make_site(Path(name) / "site", graph, rate_fps=400)
        with rig.Camera(site) as camera:
            camera.wait_for_decisions(1)
            with rig.viewer(site):
                figures = _measure(camera, options.frames)
    print(
        f"{figures['decisions']} decisions in {figures['seconds']:.0f} s ({figures['decisions_per_s']:.0f}/s),"
        f" {figures['failed_answers']} failed"
    )
    for what in ("camera", "impulse"):
        each = figures[what]
        print(
            f"{what:<8} RSS {each['rss_mb'][0]:.1f} MB at a tenth, {each['rss_mb'][-1]:.1f} MB at the end;"
            f" slope {each['slope_mb_per_million']:+.2f} MB per million frames; descriptors {each['descriptors']},"
            f" threads {each['threads']}"
        )
    if options.json:
        options.json.write_text(json.dumps({"machine": rig.machine(), **figures}, indent=1) + "\n")
        print(f"written: {options.json}")
    return 0


def _measure(camera: rig.Camera, frames: int) -> dict[str, Any]:
    camera.wait_for_decisions(200)
    [impulse] = rig.children_of(camera.pid)
    pids = {"camera": camera.pid, "impulse": impulse}
    began, points, said = time.monotonic(), [], 0
    counts = {name: [(rig.descriptors(pid), rig.threads_of(pid))] for name, pid in pids.items()}
    while (done := camera.ask("state")["decisions"]) < frames:
        points.append((done, *(rig.rss_mb(pid) for pid in pids.values())))
        if done >= said + frames // 10:
            said = done
            print(f"  {done} decisions, RSS MB {points[-1][1]:.1f} and {points[-1][2]:.1f}", flush=True)
        time.sleep(2)
    seconds, state = time.monotonic() - began, camera.ask("state")
    table = np.array(points)
    second_half = table[table[:, 0] > frames / 2]
    at = np.linspace(len(table) // 10, len(table) - 1, 10).astype(int)
    figures: dict[str, Any] = {
        "decisions": state["decisions"],
        "failed_answers": state["failed_answers"],
        "seconds": seconds,
        "decisions_per_s": state["decisions"] / seconds,
    }
    for column, (name, pid) in enumerate(pids.items(), start=1):
        slope = float(np.polyfit(second_half[:, 0], second_half[:, column], 1)[0]) if len(second_half) > 2 else 0.0
        before, after = counts[name][0], (rig.descriptors(pid), rig.threads_of(pid))
        figures[name] = {
            "rss_mb": [round(float(value), 1) for value in table[at, column]],
            "slope_mb_per_million": slope * 1e6,
            "descriptors": f"{before[0]} -> {after[0]}",
            "threads": f"{before[1]} -> {after[1]}",
        }
    return figures
