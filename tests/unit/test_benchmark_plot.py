"""The plot of growth."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

from tests.benchmarks.plot import Curve, growth_svg


def test_linear_growth_is_a_straight_line_and_the_file_is_svg() -> None:
    counts = [10, 100, 1000]
    text = growth_svg("A < B", "frames", counts, [Curve("s", [1, 10, 100]), Curve("MB", [5, 5, 5])])
    ET.fromstring(text)  # noqa: S314  # ours
    assert "A &lt; B" in text
    lines = [re.findall(r"([\d.]+),([\d.]+)", line) for line in re.findall(r'points="([^"]+)"', text)]
    (linear, flat) = [[(float(across), float(down)) for across, down in line] for line in lines]
    rises = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(linear)]
    assert abs(rises[0] - rises[1]) < 0.01
    assert rises[0] < 0
    assert len({down for _, down in flat}) == 1
