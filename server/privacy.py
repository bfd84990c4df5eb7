"""What noise is worth: epsilon of the global head, camera by camera.

The promise is about a whole camera, not about a frame: whoever sees all global heads can hardly tell whether this
camera's frames had part in them, or its update was zero ("zero-out" neighbours: Kairouz et al., arXiv 2103.00039,
section 2). Every camera takes part in every round, so nothing is gained by sampling. A round is a Gaussian mechanism:
each update is clipped to norm C, all weigh the same, and their sum gets noise of standard deviation z * C.

Renyi differential privacy (Mironov, arXiv 1702.07476): one round is (a, a / (2 z^2))-RDP (its corollary 3), T rounds
are (a, T a / (2 z^2))-RDP (proposition 1). That becomes (epsilon, delta) by Balle et al. (arXiv 1905.09982,
theorem 21; also Canonne, Kamath, Steinke, arXiv 2004.00010, proposition 12):

    epsilon = rho a + log((a - 1) / a) - (log delta + log a) / (a - 1),    rho = T / (2 z^2)

for every a > 1, so the smallest one counts. What it doesn't cover: how many frames cameras have, their loss and their
test results, which they report without noise; how many replies were used; and the floating-point arithmetic of noise.
"""

from __future__ import annotations

import math

_LARGEST_ORDER = 1e6


def epsilon(noise_multiplier: float, rounds: int, delta: float) -> float:
    """Epsilon at ``delta`` after so many rounds.

    Args:
        noise_multiplier: z: the noise's standard deviation as a multiple of the clipping norm.
        rounds: Global heads that noise was added to, since the fleet began.
        delta: The probability that epsilon doesn't hold, between 0 and 1.

    Returns:
        At least 0; infinite without noise.
    """
    if rounds == 0:
        return 0.0
    if noise_multiplier == 0:
        return math.inf
    rho = rounds / (2 * noise_multiplier**2)

    def bound(log_order: float) -> float:
        """For the order 1 + exp(log_order)."""
        above = math.exp(log_order)
        order = 1 + above
        return rho * order + math.log(above / order) - math.log(delta * order) / above

    # Convex enough: a coarse walk over the orders finds the valley, thirds find its floor.
    grid = [math.log(1e-6) + step * (math.log(_LARGEST_ORDER) - math.log(1e-6)) / 400 for step in range(401)]
    best = min(range(len(grid)), key=lambda index: bound(grid[index]))
    low, high = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
    for _ in range(100):
        third = (high - low) / 3
        if bound(low + third) < bound(high - third):
            high -= third
        else:
            low += third
    return max(0.0, bound((low + high) / 2))
