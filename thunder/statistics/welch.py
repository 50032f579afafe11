"""Welch's t-test: how often chance alone makes two means differ as much as they do."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def welch_p_value(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Two-sided p value of Welch's t-test of unequal variances; None where a side has fewer than two values.

    Where neither side varies it is 1 for equal means and 0 for others. Source: Welch, Biometrika 34 (1947), with the
    degrees of freedom of Satterthwaite.
    """
    if len(a) < 2 or len(b) < 2:
        return None
    # the module `statistics` sums exactly: equal values have variance 0, which scipy's own moments round
    means, deviations = [statistics.fmean(side) for side in (a, b)], [statistics.stdev(side) for side in (a, b)]
    if not any(deviations):
        return 1.0 if a[0] == b[0] else 0.0  # equal values may have unequal rounded means
    from scipy import stats  # slow to import

    test = stats.ttest_ind_from_stats(means[0], deviations[0], len(a), means[1], deviations[1], len(b), equal_var=False)
    return float(test.pvalue)
