"""Epsilon: never less than the truth, close to it, and growing with what is given away."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

from server.privacy import epsilon

DELTA = 1e-5


def exact(noise_multiplier: float, rounds: int, delta: float) -> float:
    """The Gaussian mechanism's true epsilon (Balle and Wang, arXiv 1805.06530, theorem 8), by bisection; rounds
    compose to one with noise_multiplier / sqrt(rounds) (Dong, Roth, Su, arXiv 1905.02383, corollary 3.3)."""
    mu, cdf = math.sqrt(rounds) / noise_multiplier, NormalDist().cdf
    low, high = 0.0, 400.0
    for _ in range(200):
        middle = (low + high) / 2
        found = cdf(mu / 2 - middle / mu) - math.exp(middle) * cdf(-mu / 2 - middle / mu)
        low, high = (middle, high) if found > delta else (low, middle)
    return high


@pytest.mark.parametrize(("noise_multiplier", "rounds"), [(1, 1), (1, 3), (2, 90), (5, 30), (10, 1), (0.5, 1)])
def test_it_is_above_the_exact_value_and_not_far(noise_multiplier: float, rounds: int) -> None:
    ours, truth = epsilon(noise_multiplier, rounds, DELTA), exact(noise_multiplier, rounds, DELTA)
    assert truth < ours < 1.15 * truth


def test_it_is_the_best_of_all_orders() -> None:
    def bound(order: float) -> float:
        rho = 3 / (2 * 1.5**2)
        return rho * order + math.log((order - 1) / order) - (math.log(DELTA) + math.log(order)) / (order - 1)

    orders = [1 + number / 1000 for number in range(1, 100_000)]
    assert epsilon(1.5, 3, DELTA) == pytest.approx(min(map(bound, orders)), abs=1e-5)


def test_it_is_below_mironovs_own_conversion_whose_optimum_has_a_closed_form() -> None:
    # epsilon(a) = rho a + log(1 / delta) / (a - 1) is least at a = 1 + sqrt(log(1 / delta) / rho)
    rho, log = 3 / (2 * 1.5**2), math.log(1 / DELTA)
    assert epsilon(1.5, 3, DELTA) < rho + 2 * math.sqrt(rho * log)


def test_only_rounds_over_noise_squared_counts() -> None:
    assert epsilon(2, 12, DELTA) == pytest.approx(epsilon(1, 3, DELTA))


def test_more_rounds_cost_more_and_more_noise_costs_less() -> None:
    assert epsilon(1, 1, DELTA) < epsilon(1, 2, DELTA) < epsilon(1, 90, DELTA)
    assert epsilon(0.1, 3, DELTA) > epsilon(1, 3, DELTA) > epsilon(10, 3, DELTA) > epsilon(1000, 3, DELTA) >= 0


def test_a_smaller_delta_costs_more() -> None:
    assert epsilon(1, 3, 1e-9) > epsilon(1, 3, 1e-5) > epsilon(1, 3, 1e-2)


def test_nothing_published_costs_nothing_and_nothing_added_protects_nothing() -> None:
    assert epsilon(1, 0, DELTA) == 0
    assert epsilon(0, 3, DELTA) == math.inf


@pytest.mark.parametrize("noise_multiplier", [1e-9, 1e-3, 1e4, 1e9])
def test_it_is_a_number_for_any_noise(noise_multiplier: float) -> None:
    assert epsilon(noise_multiplier, 1, DELTA) >= 0
