"""Are two means apart, by Welch's test: the difference, and how often chance alone would make it so large."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

_DEPTH = 400  # of the continued fraction: far past the last digit for any number of seeds


def p_value(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Two-sided p of Welch's t-test of unequal variances; None where a side has fewer than two values.

    Source: Welch, Biometrika 34 (1947), with the degrees of freedom of Satterthwaite.
    """
    if len(a) < 2 or len(b) < 2:
        return None
    one, other = statistics.variance(a) / len(a), statistics.variance(b) / len(b)
    apart = statistics.fmean(a) - statistics.fmean(b)
    if one + other == 0:
        return 1.0 if apart == 0 else 0.0
    t = apart / math.sqrt(one + other)
    freedom = (one + other) ** 2 / (one**2 / (len(a) - 1) + other**2 / (len(b) - 1))
    return two_sided(t, freedom)


def two_sided(t: float, freedom: float) -> float:
    """Probability that Student's t of so many degrees of freedom lies as far from 0, or farther."""
    return _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function, by its continued fraction (DLMF 8.17.22) from its far end."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    value = 1.0
    for number in range(_DEPTH, 0, -1):
        m = number // 2
        top = -(a + m) * (a + b + m) if number % 2 else m * (b - m)
        bottom = (a + 2 * m) * (a + 2 * m + 1) if number % 2 else (a + 2 * m - 1) * (a + 2 * m)
        value = 1 + top * x / bottom / value
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) / a / value
