"""Draws how a cost grows: points and lines on logarithmic axes, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 40, 50
_COLOURS = ("#0b5d3b", "#9a3b00", "#1c4f8f")


@dataclass(frozen=True)
class Curve:
    """One cost.

    Attributes:
        name: With its unit and slope.
        costs: Positive, one for each count.
    """

    name: str
    costs: Sequence[float]


def growth_svg(title: str, what: str, counts: Sequence[float], curves: Sequence[Curve]) -> str:
    """A plot with both axes logarithmic: a straight line at 45 degrees is linear growth.

    Args:
        title: Above it.
        what: Is counted.
        counts: Positive, rising.
        curves: Each drawn in a colour of its own.
    """
    low, high = _decades([cost for curve in curves for cost in curve.costs])
    first, last = _decades(counts)

    def x(count: float) -> float:
        return _LEFT + (math.log10(count) - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(cost: float) -> float:
        return _HEIGHT - _BOTTOM - (math.log10(cost) - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}"',
        ' font-family="sans-serif" font-size="13">',
        f'<title>{escape(title)}</title><rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 12}" text-anchor="end">{escape(what)}</text>',
    ]
    for decade in range(low, high + 1):
        at = y(10**decade)
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10**decade:,g}</text>')
    below = _HEIGHT - _BOTTOM + 18
    parts += [f'<text x="{x(count):.1f}" y="{below}" text-anchor="middle">{count:,g}</text>' for count in counts]
    for number, curve in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(x(count), y(cost)) for count, cost in zip(counts, curve.costs, strict=True)]
        line = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across:.1f}" cy="{down:.1f}" r="4" fill="{colour}"/>' for across, down in points]
        parts.append(
            f'<text x="{_LEFT + 12}" y="{_TOP + 16 * (number + 1)}" fill="{colour}">{escape(curve.name)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _decades(values: Sequence[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)
