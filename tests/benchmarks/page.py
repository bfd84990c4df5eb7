"""The page under load: labels per second, live viewers against the loop's rate, and a store of 100,000 frames.

Labelling and viewers are measured on a camera process as a Pi runs it, over TLS, with somebody logged in. Viewers watch
in a process of their own, by turns with nobody watching, so that a machine's changing pace hits both alike. The large
store is made of rows without pictures, and asked in this process: what is timed is what a request waits for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from appliance.config import LabellingSettings
from appliance.labelling.queue import DayQueue
from appliance.store import review
from appliance.store.frames import FrameStore
from tests.benchmarks import large_store, rig

_LABELS = ("head", "hardhat", "nobody")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m tests.benchmarks page``."""
    parser.add_argument("--frames", type=int, default=100_000, help="in the large store (%(default)s)")
    parser.add_argument("--labels", type=int, default=300, help="frames to label through the page (%(default)s)")
    parser.add_argument("--viewers", type=int, action="append", help="default: 10 and 50")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each turn of viewers (%(default)s)")
    parser.add_argument("--turns", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures there too")


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    print(rig.machine_text())
    figures: dict[str, Any] = {"machine": rig.machine()}
    with tempfile.TemporaryDirectory(prefix="sitecam-benchmark-") as name:
        figures["store"] = _store(Path(name) / "large", options.frames)
        site = rig.make_site(Path(name) / "site", rig.backbone(None, "float32"), rate_fps=10)
        large_store.fill_small(site.paths.store, options.labels)
        with rig.Camera(site) as camera:
            camera.wait_for_decisions(10)
            figures["labelling"] = _labelling(site, options.labels)
            figures["viewers"] = [
                _viewers(site, camera, count, options.seconds, options.turns) for count in options.viewers or (10, 50)
            ]
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
        print(f"written: {options.json}")
    return 0


def _store(root: Path, frames: int) -> dict[str, Any]:
    began = time.monotonic()
    large_store.make(root, frames)
    print(f"\na store of {frames:,} frames, made in {time.monotonic() - began:.0f} s")
    began = time.perf_counter()
    with FrameStore(root) as store:
        opened_ms = (time.perf_counter() - began) * 1000
        print(f"  {'opened':<34} {opened_ms:8.1f} ms")
        zone = zoneinfo.ZoneInfo("Europe/Berlin")
        asked: dict[str, Callable[[], object]] = {
            "queue of the day, made afresh": lambda: DayQueue(store, LabellingSettings(), zone).today("Ada"),
            "review grid, 60 surest": lambda: review.disagreements(store, large_store.VERSION, 60),
            "review grid, how many": lambda: review.count_disagreements(store, large_store.VERSION),
            "frames to look through, 60": lambda: review.page(store, most=60),
            "counts per label": store.counts,
        }
        rows = {what: _times(ask) for what, ask in asked.items()}
    for what, figures in rows.items():
        print(f"  {what:<34} {figures['median_ms']:8.1f} ms, slowest {figures['slowest_ms']:.1f}")
    return {"frames": frames, "opened_ms": round(opened_ms, 1), **rows}


def _times(ask: Callable[[], object], repeats: int = 30) -> dict[str, float]:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        ask()
        times.append((time.perf_counter() - began) * 1000)
    return {"median_ms": round(float(np.median(times)), 2), "slowest_ms": round(max(times), 2)}


def _labelling(site: rig.Site, wanted: int) -> dict[str, float]:
    """One person without a pause: the next picture, then its label; the queue is asked again after each dozen."""
    pictures: list[float] = []
    labels: list[float] = []
    with site.visitor().browser() as browser:
        began = time.perf_counter()
        while len(labels) < wanted:
            queue = browser.get("api/queue").raise_for_status().json()["frames"]
            if not queue:
                break
            for frame in queue:
                asked = time.perf_counter()
                browser.get(f"api/frames/{frame['id']}/picture").raise_for_status()
                pictures.append((time.perf_counter() - asked) * 1000)
                asked = time.perf_counter()
                label = {"label": _LABELS[len(labels) % len(_LABELS)]}
                browser.post(f"api/frames/{frame['id']}/label", json=label).raise_for_status()
                labels.append((time.perf_counter() - asked) * 1000)
        took_s = time.perf_counter() - began
    figures = {
        "labels": len(labels),
        "labels_per_s": round(len(labels) / took_s, 1),
        "label_p99_ms": round(float(np.percentile(labels, 99)), 1),
        "next_picture_median_ms": round(float(np.median(pictures)), 1),
        "next_picture_p99_ms": round(float(np.percentile(pictures, 99)), 1),
    }
    print(
        f"\n{figures['labels']} labels through the page: {figures['labels_per_s']} per second (99th percentile of one:"
        f" {figures['label_p99_ms']} ms), next picture {figures['next_picture_median_ms']} ms"
        f" (99th percentile {figures['next_picture_p99_ms']} ms)"
    )
    return figures


def _viewers(site: rig.Site, camera: rig.Camera, count: int, seconds: float, turns: int) -> dict[str, Any]:
    alone, watched, pictures = [], [], 0
    for _ in range(turns):
        alone.append(_pace(camera, seconds))
        with subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.page_viewers", str(site.port), str(count)],
            cwd=rig.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as viewers:
            assert viewers.stdin
            assert viewers.stdout
            print(site.visitor().cookie, file=viewers.stdin, flush=True)
            viewers.stdout.readline()  # all of them have a picture
            watched.append(_pace(camera, seconds))
            viewers.stdin.close()
            pictures += int(viewers.stdout.readline())
    ratio = float(np.median([there[0] / here[0] for here, there in zip(alone, watched, strict=True)]))
    figures = {
        "viewers": count,
        "decisions_per_s_alone": round(float(np.median([rate for rate, _ in alone])), 2),
        "decisions_per_s_watched": round(float(np.median([rate for rate, _ in watched])), 2),
        "rate_ratio": round(ratio, 3),
        "gap_p99_ms_alone": round(float(np.median([gap for _, gap in alone])), 1),
        "gap_p99_ms_watched": round(float(np.median([gap for _, gap in watched])), 1),
        "pictures_per_viewer_and_s": round(pictures / count / seconds / turns, 1),
    }
    print(
        f"{count} viewers: {figures['decisions_per_s_watched']} decisions/s against"
        f" {figures['decisions_per_s_alone']} without (ratio {figures['rate_ratio']}), gap p99"
        f" {figures['gap_p99_ms_watched']} against {figures['gap_p99_ms_alone']} ms; each saw"
        f" {figures['pictures_per_viewer_and_s']} pictures/s"
    )
    return figures


def _pace(camera: rig.Camera, seconds: float) -> tuple[float, float]:
    gaps, pace = camera.gaps_during(seconds)
    return pace["decisions"] / seconds, float(np.percentile(gaps, 99))
