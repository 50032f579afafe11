"""Partitions of frames and of utterances: stable, boundary, uncertain, novelty, by quantiles of the training set.

They come from frozen features and a fixed codebook, so they are the same for every mode.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thunder.acoustic.trajectory.scalars import NOVELTY, PRESSURE, UNCERTAINTY

# the partitions of a frame that the quantiles tell apart; rows of other recognizers can also be in `recovery`
FRAME_PARTITIONS = ("stable", "boundary", "uncertain", "novelty")
STABLE, BOUNDARY, UNCERTAIN, NOVEL = range(4)  # places in FRAME_PARTITIONS
QUANTILES = {NOVELTY: 0.9, UNCERTAINTY: 0.8, PRESSURE: 0.8}


def partition_thresholds(scalars: np.ndarray) -> np.ndarray:
    """Thresholds [3] from scalars [N, 7]: novelty, uncertainty and |transition pressure| of a frame above them."""
    return np.array(
        [np.quantile(_magnitude(scalars, scalar), share) for scalar, share in QUANTILES.items()], np.float32
    )


def partition_frames(scalars: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Indices [N] into FRAME_PARTITIONS, scalars [N, 7]: the first of novelty, uncertain, boundary; else stable."""
    novel, uncertain, boundary = (
        _magnitude(scalars, scalar) > limit for scalar, limit in zip(QUANTILES, limits, strict=True)
    )
    return np.select([novel, uncertain, boundary], [NOVEL, UNCERTAIN, BOUNDARY], STABLE)


def utterance_summary(scalars: np.ndarray) -> np.ndarray:
    """Scalars [7] of an utterance [T, 7]: means over frames, for pressure the mean absolute value."""
    means = scalars.mean(0)
    means[PRESSURE] = np.abs(scalars[:, PRESSURE]).mean()
    return means


def utterance_summaries(utterances: Sequence[np.ndarray]) -> np.ndarray:
    """Summaries [N, 7] of several utterances."""
    return np.stack([utterance_summary(scalars) for scalars in utterances])


def _magnitude(scalars: np.ndarray, scalar: int) -> np.ndarray:
    return np.abs(scalars[:, scalar]) if scalar == PRESSURE else scalars[:, scalar]
