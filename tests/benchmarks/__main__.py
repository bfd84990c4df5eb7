"""``python -m tests.benchmarks NAME``: figures for people and notes. Tests never assert a timing; these print them."""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from appliance.errors import SitecamError
from tests.benchmarks import (
    accuracy,
    decisions,
    fleet,
    live,
    memory,
    night,
    official,
    page,
    precision,
    soak,
    strategies,
    swap,
)

BENCHMARKS = {
    "accuracy": (accuracy, "a new site, cross-validations, calibration, int8: how well it does on unseen pictures"),
    "live": (live, "what the live loop adds to a bare invoke, start-up times, memory and CPU"),
    "swap": (swap, "model swaps under load: lost frames, gaps, and what is left behind"),
    "soak": (soak, "very many frames: does anything grow?"),
    "decisions": (decisions, "false alarms on empty scenes against detections missed"),
    "night": (night, "the tutorial's recipe against ours: CPU, memory, bytes, accuracy; and 20,000 frames"),
    "memory": (memory, "one camera's day and night in 512 MB"),
    "fleet": (fleet, "10 to 1,000 cameras against one SuperLink, some silent, some hostile"),
    "strategies": (strategies, "ways to one head on even and skewed data, and the price of noise"),
    "official": (official, "the official Edge Impulse runner and Sitecam side by side, on the same .eim"),
    "page": (page, "labels per second, viewers against the loop's rate, a store of 100,000 frames"),
    "precision": (precision, "int8 against float32 backbone: size, time, accuracy"),
}


def main(arguments: list[str]) -> int:
    """Run one benchmark.

    Returns:
        0 when it ran to its end; 1 or more where it could not.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    chosen = parser.add_subparsers(required=True, metavar="NAME")
    for name, (module, what) in BENCHMARKS.items():
        one = chosen.add_parser(name, help=what, description=module.__doc__)
        module.add_options(one)
        one.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except SitecamError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
