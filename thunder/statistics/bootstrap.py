"""Confidence intervals of the change of an error rate, by a paired bootstrap over rows with a seed."""

from __future__ import annotations

import numpy as np

_MOST_DRAWS = 4_000_000  # row numbers that are drawn at once, which bounds the memory


def change_intervals(
    changes: np.ndarray, units: np.ndarray, *, seed: int, resamples: int, level: float = 0.95
) -> list[tuple[float, float] | None]:
    """Intervals of the change of K micro error rates, from percentiles over resampled rows.

    changes: [N, K] edits after less edits before. units: [N, K] reference units. Each resample draws N rows with
    replacement, and its rates before and after of all K come from the same rows. None stands for a rate without any
    reference unit.
    """
    rows, kinds = units.shape
    if not rows:
        return [None] * kinds
    generator, parts = np.random.default_rng(seed), []
    table = np.concatenate([changes, units], axis=1).astype(np.float64)  # whole numbers: their sums are exact
    most = max(1, _MOST_DRAWS // rows)
    for start in range(0, resamples, most):
        size = min(most, resamples - start)
        drawn = generator.integers(rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        counts = np.bincount(drawn.reshape(-1), minlength=size * rows).reshape(size, rows)
        parts.append(counts @ table)
    sums = np.concatenate(parts)  # [resamples, 2 K]
    tail = 100 * (1 - level) / 2
    intervals: list[tuple[float, float] | None] = []
    for kind in range(kinds):
        # a resample without any reference unit has no rate
        usable = sums[sums[:, kinds + kind] > 0]
        if not len(usable):
            intervals.append(None)
            continue
        low, high = np.percentile(usable[:, kind] / usable[:, kinds + kind], [tail, 100 - tail])
        intervals.append((float(low), float(high)))
    return intervals
