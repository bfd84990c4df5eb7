"""The figures of ``benchmarks fleet`` for people, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.benchmarks.night_tables import slope


def table(nights: Sequence[dict[str, Any]]) -> str:
    """The figures for people, as Markdown."""
    columns = (
        "cameras",
        "round",
        "seconds",
        "server CPU s",
        "server memory, MB (PSS)",
        "left out",
        "ours",
        "plain FedAvg",
    )
    lines = ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for night in nights:
        everyone = night["undefended"]["all"]
        for index, mark in enumerate(night["rounds"]):
            cells = (
                *(night["cameras"], index + 1, f"{mark['seconds']:.1f}", f"{mark['cpu_s']:.1f}"),
                *(f"{mark['pss_mb']:.0f}", sum(night["left_out"][index].values()) if night["left_out"] else "?"),
                *(_share(night["defended"], index), _share(everyone, index)),
            )
            lines.append(f"| {' | '.join(map(str, cells))} |")
    for night in nights:
        seconds = ", ".join(f"{part} {value:.0f}" for part, value in night["seconds"].items())
        shares = ", ".join(f"{name} {_share(row, -1)}" for name, row in night["undefended"].items())
        cpu = f"the light nodes' own CPU {night['nodes_cpu_s']:.0f} s; server's disk {night['state_mb']:.1f} MB"
        lines += ["", f"{night['cameras']} cameras: {night['outcome']}; seconds: {seconds}; {cpu}."]
        lines.append(f"Untrained {night['before']:.1%}; plain FedAvg in the last round: {shares}.")
        lines += [f"Left out of round {number}: {why}" for number, why in enumerate(night["left_out"], start=1)]
    return "\n".join(lines)


def growth(nights: Sequence[dict[str, Any]]) -> str:
    """How the first round, in which nobody goes silent, grows with the number of cameras."""
    counts = [night["cameras"] for night in nights if night["rounds"]]
    rows = [night["rounds"][0] for night in nights if night["rounds"]]
    if len(counts) < 2:
        return ""
    slopes = ", ".join(
        f"{name} {slope(counts, [max(row[key], 1e-3) for row in rows]):.2f}"
        for key, name in (("seconds", "seconds"), ("cpu_s", "CPU"), ("pss_mb", "memory"))
    )
    return f"\nSlope of log cost of round 1 against log cameras: {slopes}; 1 is linear"


def real_table(rows: Sequence[dict[str, Any]]) -> str:
    """Real SuperNodes, as Markdown."""
    columns = ("real nights", "outcome", "seconds, all", "seconds, 2 rounds", "memory each, MB (PSS)", "CPU s each")
    lines = ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        rounds = f"{row['figures'].get('rounds', 0):.0f}"
        costs = f"{row['pss_each_mb']:.0f} | {row['cpu_each_s']:.1f}"
        lines.append(f"| {row['cameras']} | {row['outcome']} | {row['seconds']:.0f} | {rounds} | {costs} |")
    return "\n".join(lines)


def _share(row: Sequence[float | None], index: int) -> str:
    """Of a round; "no head" where there was a round and its mean is none."""
    try:
        value = row[index]
    except IndexError:
        return "-"
    return "no head" if value is None else f"{value:.1%}"
