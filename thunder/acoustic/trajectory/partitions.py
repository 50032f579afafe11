"""Partitions of frames and of utterances: stable, boundary, uncertain, novelty, by quantiles of the training set.

They come from frozen features and a fixed codebook, so they are the same for every mode.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thunder.acoustic.trajectory.scalars import NOVELTY, PRESSURE, UNCERTAINTY
from thunder.text.row_fields import PARTITIONS

STABLE, BOUNDARY, UNCERTAIN, NOVEL = range(4)  # places in PARTITIONS
QUANTILES = {NOVELTY: 0.9, UNCERTAINTY: 0.8, PRESSURE: 0.8}
assert PARTITIONS == ("stable", "boundary", "uncertain", "novelty")


def partition_thresholds(scalars: np.ndarray) -> np.ndarray:
    """[3] (novelty, uncertainty, |transition pressure|) above which a frame of [N, 7] is of that partition."""
    return np.array(
        [np.quantile(_magnitude(scalars, scalar), share) for scalar, share in QUANTILES.items()], np.float32
    )


def partition_frames(scalars: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """[N] places in PARTITIONS for [N, 7]: the first that fires of novelty, uncertain, boundary; else stable."""
    novel, uncertain, boundary = (
        _magnitude(scalars, scalar) > limit for scalar, limit in zip(QUANTILES, limits, strict=True)
    )
    return np.select([novel, uncertain, boundary], [NOVEL, UNCERTAIN, BOUNDARY], STABLE)


def utterance_summary(scalars: np.ndarray) -> np.ndarray:
    """[7] what an utterance [T, 7] is judged by: means over its frames, of pressure the mean of its size."""
    means = scalars.mean(0)
    means[PRESSURE] = np.abs(scalars[:, PRESSURE]).mean()
    return means


def utterance_summaries(utterances: Sequence[np.ndarray]) -> np.ndarray:
    """[N, 7] of several utterances."""
    return np.stack([utterance_summary(scalars) for scalars in utterances])


def _magnitude(scalars: np.ndarray, scalar: int) -> np.ndarray:
    return np.abs(scalars[:, scalar]) if scalar == PRESSURE else scalars[:, scalar]
