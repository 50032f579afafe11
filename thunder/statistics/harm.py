"""How often a proposal may do harm: the exact upper bound of Clopper and Pearson on a share that was counted."""

from __future__ import annotations

import math

import numpy as np

LEVEL = 0.95


def upper_bound(worse: int, of: int, level: float = LEVEL) -> float:
    """The largest share at which `worse` or fewer of `of` still come with probability 1 - level (one-sided).

    With none worse it is 1 - (1 - level)**(1 / of); with nothing counted nothing is known, and it is 1.
    Raises ValueError where the counts or the level are none.
    """
    if not 0 <= worse <= of or not 0 < level < 1:
        raise ValueError(f"{worse} of {of} at level {level}")
    if worse == of:
        return 1.0
    if worse == 0:
        return -math.expm1(math.log1p(-level) / of)
    counts = np.arange(1, worse + 1)
    # log of the binomial coefficients (of over 0) to (of over worse)
    coefficients = np.concatenate([[0.0], np.cumsum(np.log((of - counts + 1) / counts))])
    low, high = worse / of, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if _at_most(coefficients, of, middle) > 1 - level:
            low = middle
        else:
            high = middle
    return high


def _at_most(coefficients: np.ndarray, of: int, share: float) -> float:
    """Probability of at most len(coefficients) - 1 of `of`, each with probability `share`."""
    numbers = np.arange(len(coefficients))
    logs = coefficients + numbers * math.log(share) + (of - numbers) * math.log1p(-share)
    largest = logs.max()
    return math.exp(largest) * float(np.exp(logs - largest).sum())
