"""Welch's test: against the density of Student's t, a result by hand, and the continued fraction used before scipy."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder.statistics.welch import welch_p_value


def two_sided(t, freedom):
    """P(|T| >= |t|) of Student's t, by the continued fraction of the incomplete beta function (DLMF 8.17.22)."""
    return incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def incomplete_beta(x, a, b, depth=400):
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)
    value = 1.0
    for number in range(depth, 0, -1):
        m = number // 2
        top = -(a + m) * (a + b + m) if number % 2 else m * (b - m)
        bottom = (a + 2 * m) * (a + 2 * m + 1) if number % 2 else (a + 2 * m - 1) * (a + 2 * m)
        value = 1 + top * x / bottom / value
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) / a / value


def continued_fraction_p_value(a, b):
    """Welch's p value as it was computed before scipy."""
    errors = [statistics.variance(side) / len(side) for side in (a, b)]
    t = (statistics.fmean(a) - statistics.fmean(b)) / math.sqrt(sum(errors))
    freedom = sum(errors) ** 2 / (errors[0] ** 2 / (len(a) - 1) + errors[1] ** 2 / (len(b) - 1))
    return two_sided(t, freedom)


def test_welch_against_an_integral():
    """The two-sided p against the density of Student's t, summed numerically."""
    for t, freedom in ((0.3, 2.0), (2.1, 3.7), (4.5, 10.0), (-1.2, 57.3), (12.0, 2.2)):
        scale = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
        x = np.linspace(-abs(t), abs(t), 200_001)
        inside = float(np.trapezoid(scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2), x))
        assert two_sided(t, freedom) == pytest.approx(1 - inside, abs=1e-8)
    assert welch_p_value([1.0], [2.0, 3.0]) is None
    assert welch_p_value([1.0, 1.0], [1.0, 1.0]) == 1.0
    # worked by hand: means 2 and 4, variances 1 and 4, three values each: t = 2 / sqrt(5/3), 50/17 degrees of freedom
    assert welch_p_value([1, 2, 3], [2, 4, 6]) == pytest.approx(two_sided(2 / math.sqrt(5 / 3), 50 / 17))


RATES = st.lists(st.floats(0.01, 1.0), min_size=2, max_size=12).filter(lambda side: statistics.stdev(side) > 1e-4)


@given(RATES, RATES)
def test_the_library_agrees_with_the_continued_fraction(a, b):
    assert welch_p_value(a, b) == pytest.approx(continued_fraction_p_value(a, b), rel=1e-9, abs=1e-9)


def test_sides_that_do_not_vary():
    assert welch_p_value([0.1] * 3, [0.1] * 4) == 1.0
    assert welch_p_value([0.1] * 3, [0.2] * 4) == 0.0
    assert welch_p_value([0.1] * 3, [0.2, 0.3, 0.4]) == pytest.approx(
        continued_fraction_p_value([0.1] * 3, [0.2, 0.3, 0.4]), abs=1e-9
    )


@pytest.mark.parametrize("module", ["thunder.statistics.welch", "thunder.statistics.clopper_pearson"])
def test_scipy_is_imported_where_it_is_used_alone(module):
    code = f"import sys, {module}; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
