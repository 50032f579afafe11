"""The exact upper confidence bound of Clopper and Pearson on a share that was counted."""

from __future__ import annotations

import math

LEVEL = 0.95


def share_upper_bound(events: int, trials: int, level: float = LEVEL) -> float:
    """The one-sided upper bound of the share of events at a confidence level.

    It is the largest share at which `events` or fewer of `trials` still occur with probability 1 - level: with no event
    1 - (1 - level)**(1 / trials), with events alone 1, without trials 1. Source: Clopper and Pearson, Biometrika 26
    (1934), as the quantile of a beta distribution.

    Raises ValueError where the counts are not 0 <= events <= trials, or the level is not between 0 and 1.
    """
    if not 0 <= events <= trials or not 0 < level < 1:
        raise ValueError(f"{events} of {trials} at level {level}: expected 0 <= events <= trials and 0 < level < 1")
    if events == trials:
        return 1.0
    if events == 0:
        return -math.expm1(math.log1p(-level) / trials)
    from scipy import stats  # slow to import, and most callers count no event

    return float(stats.beta.ppf(level, events + 1, trials - events))
