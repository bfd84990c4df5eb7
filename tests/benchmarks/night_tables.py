"""The figures of ``benchmarks night`` for people, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.benchmarks.plot import Curve, growth_svg

KINDS = ("SuperNode", "night and executor", "task", "wire")


def slope(counts: Sequence[float], costs: Sequence[float]) -> float:
    """Of the line through the logarithms of both: 1 is linear, 2 quadratic."""
    return float(np.polyfit(np.log(counts), np.log(costs), 1)[0])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def ratios(figures: dict[str, Any]) -> dict[str, dict[str, float]]:
    """By client: CPU seconds per round of both sides, and how many times less ours takes."""
    found = {}
    for name, ours in figures["work"].items():
        theirs = _mean(figures["tutorial"]["fit"][name]) + _mean(figures["tutorial"]["evaluate"][name])
        training = _mean([c["cpu_s"] for c in ours["fit"]]) + _mean([c["cpu_s"] for c in ours["evaluate"]])
        look = ours["features_cold"]["cpu_s"]
        found[name] = {
            "tutorial_cpu_s": theirs,
            "ours_cpu_s": training,
            "ratio": theirs / training,
            "look_cpu_s": look,
            "look_per_frame_s": look / (ours["train_frames"] + ours["test_frames"]),
            "first_night_ratio": theirs * figures["rounds"] / (look + training * figures["rounds"]),
        }
    return found


def table(figures: dict[str, Any]) -> str:
    """The figures for people, as Markdown."""
    theirs, rounds = figures["tutorial"], figures["rounds"]
    lines = [
        "",
        f"{rounds} rounds; the night's outcome: {figures['outcome']}",
        "",
        "| CPU s per round | tutorial, fit + evaluate | ours, features cached | times less | aim |",
        "|---|---|---|---|---|",
    ]
    for name, row in ratios(figures).items():
        sizes = figures["work"][name]
        lines.append(
            f"| {name}, {sizes['train_frames']} + {sizes['test_frames']} frames | {row['tutorial_cpu_s']:.1f} |"
            f" {row['ours_cpu_s']:.2f} | {row['ratio']:.0f} | 100 |"
        )
    lines.append("")
    for name, row in ratios(figures).items():
        lines.append(
            f"{name}: a new frame costs {row['look_per_frame_s'] * 1000:.0f} ms of CPU once, all variants. A first"
            f" night with every frame new: {row['look_cpu_s']:.1f} s of that, then {rounds} rounds; the tutorial's"
            f" {rounds} rounds take {row['first_night_ratio']:.0f} times as long."
        )
    columns = ("all", "alone on the machine", *KINDS, "CPU s, all processes", "aim")
    lines += ["", f"| peak memory of the night, MB (PSS) | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, peak in figures["memory"].items():
        parts = [f"{peak['parts_mb'].get(kind, 0):.0f}" for kind in KINDS]
        lines.append(
            f"| {name} | {peak['pss_mb']:.0f} | {peak['alone_mb']:.0f} | {' | '.join(parts)} | {peak['cpu_s']:.1f}"
            f" | 300 |"
        )
    peaks = ", ".join(f"{value:.0f}" for value in theirs["peak_rss_mb"].values())
    bare, head = theirs["bytes"], figures["head_bytes"]
    lines += [
        "",
        f"The tutorial's client process: {peaks} MB (RSS), without its Flower processes.",
        "",
        "| bytes per round | up | down | times less up | down | aim |",
        "|---|---|---|---|---|---|",
        f"| tutorial, weights alone | {bare:,} | {bare:,} | | | |",
        f"| ours, weights alone | {head:,} | {head:,} | {bare / head:.0f} | {bare / head:.0f} | 500 |",
    ]
    for name, wire in figures["wire_bytes_per_round"].items():
        lines.append(
            f"| ours, all of {name}'s wire / rounds | {wire['up']:,} | {wire['down']:,} |"
            f" {bare / wire['up']:.0f} | {bare / wire['down']:.0f} | |"
        )
    lines += ["", "| accuracy on the test frames of | frames | tutorial | ours |", "|---|---|---|---|"]
    for name, row in figures["accuracy"].items():
        worse = "" if row["ours"] >= row["tutorial"] else " LOWER"
        lines.append(f"| {name} | {row['frames']} | {row['tutorial']:.1%} | {row['ours']:.1%}{worse} |")
    return "\n".join(lines)


def frames_table(rows: Sequence[dict[str, Any]]) -> str:
    """Cost by number of frames, as Markdown, with the slopes."""
    lines = [
        "",
        "| cached frames | read, CPU s | train, CPU s | per frame, ms | memory above start, MB | accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        read, train = row["read"]["cpu_s"], row["train"]["cpu_s"]
        lines.append(
            f"| {row['frames']:,} | {read:.2f} | {train:.2f} | {1000 * (read + train) / row['frames']:.2f} |"
            f" {row['memory_mb']:.0f} | {row['accuracy']:.1%} |"
        )
    if len(rows) > 1:
        counts = [row["frames"] for row in rows]
        time_slope = slope(counts, [row["read"]["cpu_s"] + row["train"]["cpu_s"] for row in rows])
        memory_slope = slope(counts, [max(row["memory_mb"], 0.1) for row in rows])
        lines.append(
            f"Slope of log cost against log frames: time {time_slope:.2f}, memory {memory_slope:.2f}; 1 is linear"
        )
    return "\n".join(lines)


def frames_plot(rows: Sequence[dict[str, Any]]) -> str:
    """The same as SVG."""
    counts = [row["frames"] for row in rows]
    seconds = [row["read"]["cpu_s"] + row["train"]["cpu_s"] for row in rows]
    memory = [max(row["memory_mb"], 0.1) for row in rows]
    curves = [
        Curve(f"CPU, s: slope {slope(counts, seconds):.2f}", seconds),
        Curve(f"memory above start, MB: slope {slope(counts, memory):.2f}", memory),
    ]
    return growth_svg("What a night's training costs (1 is linear)", "labelled frames", counts, curves)
