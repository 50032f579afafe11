"""How sure a difference between error rates is: a paired bootstrap over rows, with a seed."""

from __future__ import annotations

import numpy as np

_AT_ONCE = 4_000_000  # drawn row numbers in memory


def change_intervals(
    changes: np.ndarray, units: np.ndarray, *, seed: int, resamples: int, level: float = 0.95
) -> list[tuple[float, float] | None]:
    """Intervals of the change of K micro error rates, from percentiles over resampled rows.

    changes: [N, K] edits after less edits before; units: [N, K] reference units. Both rates of a resample, and all K
    changes, come from the same rows. None where there is no reference unit.
    """
    rows, kinds = units.shape
    if not rows:
        return [None] * kinds
    draw, drawn = np.random.default_rng(seed), []
    table = np.concatenate([changes, units], axis=1).astype(np.float64)  # whole numbers: their sums are exact
    at_once = max(1, _AT_ONCE // rows)
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        chosen = draw.integers(rows, size=(size, rows)) + np.arange(size)[:, None] * rows
        times = np.bincount(chosen.reshape(-1), minlength=size * rows).reshape(size, rows)
        drawn.append(times @ table)
    sums = np.concatenate(drawn)  # [resamples, 2 K]
    tail = 100 * (1 - level) / 2
    found: list[tuple[float, float] | None] = []
    for kind in range(kinds):
        # a resample of rows without any reference unit says nothing
        whole = sums[sums[:, kinds + kind] > 0]
        if not len(whole):
            found.append(None)
            continue
        low, high = np.percentile(whole[:, kind] / whole[:, kinds + kind], [tail, 100 - tail])
        found.append((float(low), float(high)))
    return found
