"""Many model swaps under load: frames lost, the longest gap between decisions, and what is left behind.

Every version is put on the shelf and offered as the night does it; the camera process, its page open in one viewer,
takes it through every state. The last version stays; nothing else may.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from appliance.errors import SitecamError
from appliance.models.verdict import Verdict, read_verdict
from tests.benchmarks import rig


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m tests.benchmarks swap``."""
    parser.add_argument("--backbone", type=Path, help="a .tflite part or a Keras weights file (.h5)")
    parser.add_argument("--swaps", type=int, default=200, help="how many (%(default)s)")
    parser.add_argument("--fps", type=float, default=30, help="frames per second of the camera (%(default)s)")
    parser.add_argument("--soak", type=int, default=30, help="live decisions that a version must make (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there too")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 1 where a frame was lost, a swap failed, or something was left behind."""
    print(rig.machine_text())
    with tempfile.TemporaryDirectory(prefix="sitecam-benchmark-") as name:
        graph = rig.backbone(options.backbone, "float32")
        site = rig.make_site(Path(name) / "site", graph, rate_fps=options.fps, soak_decisions=options.soak)
        with rig.Camera(site) as camera:
            camera.wait_for_decisions(1)
            with rig.viewer(site):
                figures = _measure(camera, options)
    left = figures["left_behind"]
    gaps = (
        f"gaps between decisions, ms: steady p99 {figures['steady_p99_ms']:.1f}, p99 in swaps"
        f" {figures['swap_p99_ms']:.1f}; longest of a swap: median {figures['median_longest_gap_ms']:.1f},"
        f" longest {figures['longest_gap_ms']:.1f}"
    )
    lines = [
        f"{options.swaps} swaps at {options.fps:g} fps in {figures['seconds']:.0f} s, {figures['accepted']} accepted",
        f"frames lost to swaps: {figures['frames_lost']}; decisions meanwhile: {figures['decisions']}",
        gaps,
        f"longest gap / steady p99: {figures['gap_ratio']:.2f} (median swap {figures['median_gap_ratio']:.2f})",
        f"left behind: {', '.join(f'{what} {value:+g}' for what, value in left.items())}",
        f"camera RSS MB every tenth of the way: {figures['rss_mb']}",
    ]
    print("\n".join(lines))
    if options.json:
        options.json.write_text(json.dumps({"machine": rig.machine(), **figures}, indent=1) + "\n")
        print(f"written: {options.json}")
    lasting = any(
        left[what] > 0 for what in ("processes", "descriptors", "threads", "shared memory", "assembled .eim", "folders")
    )
    return int(figures["accepted"] < options.swaps or figures["frames_lost"] > 0 or lasting)


def _measure(camera: rig.Camera, options: argparse.Namespace) -> dict[str, Any]:
    site = camera.site
    camera.wait_for_decisions(100)
    for version in (2, 3):  # the first imports what it needs; with the second, three .eim files lie there for good
        swap_to(site, version)
    steady, _ = camera.gaps_during(20)
    before = _traces(camera.pid, site.paths.models)
    started, verdicts, rss = time.monotonic(), [], [round(rig.rss_mb(camera.pid), 1)]
    camera.ask("mark")
    for number in range(options.swaps):
        verdicts.append(swap_to(site, number + 4))
        if (number + 1) % max(1, options.swaps // 10) == 0:
            rss.append(round(rig.rss_mb(camera.pid), 1))
            print(f"  {number + 1} swaps, RSS {rss[-1]} MB", flush=True)
    seconds = time.monotonic() - started
    pace = camera.ask("pace")
    time.sleep(3)
    after = _traces(camera.pid, site.paths.models)
    gaps = np.array(pace["gaps_ms"])
    longest = [verdict.swap.longest_gap_ms for verdict in verdicts if verdict.swap]
    steady_p99 = float(np.percentile(steady, 99))
    return {
        "seconds": seconds,
        "accepted": sum(verdict.accepted for verdict in verdicts),
        "refusals": [verdict.reason for verdict in verdicts if not verdict.accepted],
        "frames_lost": sum(verdict.swap.frames_lost for verdict in verdicts if verdict.swap),
        "frames_dropped_in_all": pace["dropped"],
        "decisions": pace["decisions"],
        "steady_p99_ms": steady_p99,
        "swap_p99_ms": float(np.percentile(gaps, 99)),
        "longest_gap_ms": max(longest),
        "median_longest_gap_ms": float(np.median(longest)),
        "gap_ratio": max(longest) / steady_p99,
        "median_gap_ratio": float(np.median(longest)) / steady_p99,
        "left_behind": {what: after[what] - before[what] for what in after},
        "rss_mb": rss,
    }


def swap_to(site: rig.Site, version: int) -> Verdict:
    """Have the running camera try the fleet's version of that number; what it says of it."""
    shelf = site.shelf()
    shelf.accept(*site.fleet.version(version))
    shelf.offer(version)
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        verdict = read_verdict(shelf.root, version)
        if verdict is not None and shelf.offered is None:
            return verdict
        time.sleep(0.02)
    raise SitecamError(f"There was no verdict on version {version} within 120 s")


def _traces(pid: int, models: Path) -> dict[str, float]:
    return {
        "processes": len(rig.children_of(pid)),
        "descriptors": rig.descriptors(pid),
        "threads": rig.threads_of(pid),
        "shared memory": len(list(Path("/dev/shm").glob("sitecam-*"))),  # noqa: S108
        "assembled .eim": len(list(models.glob("versions/*/impulse.eim"))),
        "folders": len(list(Path(tempfile.gettempdir()).glob("sitecam-*"))),
        "RSS MB": round(rig.rss_mb(pid), 1),
    }
