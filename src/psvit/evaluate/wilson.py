"""The Wilson score interval of a proportion (E. B. Wilson, 1927)."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054
"""The 97.5 % point of the normal distribution: a two-sided interval of 95 %."""


def wilson(correct: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """The interval, within [0, 1], for `correct` successes in `n` trials; (0, 1) for n = 0.

    p = correct / n
    centre = (p + z^2 / 2n) / (1 + z^2 / n)
    half = z / (1 + z^2 / n) * sqrt(p (1 - p) / n + z^2 / 4n^2)
    """
    if n == 0:
        return 0.0, 1.0
    p = correct / n
    shrink = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At the ends the two terms cancel exactly; rounding must not step over.
    low = 0.0 if correct == 0 else max(0.0, centre - half)
    high = 1.0 if correct == n else min(1.0, centre + half)
    return low, high
