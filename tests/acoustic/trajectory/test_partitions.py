"""Partitions of frames: the first threshold that fires, and means of utterances."""

import numpy as np
import pytest

from thunder.acoustic.trajectory import partitions, scalars


def test_partitions_are_the_first_that_fires():
    draw = np.random.default_rng(0)
    drawn = draw.random((500, 7)).astype(np.float32)
    drawn[:, scalars.PRESSURE] -= 0.5
    limit = partitions.partition_thresholds(drawn)
    found = [partitions.FRAME_PARTITIONS[place] for place in partitions.partition_frames(drawn, limit)]
    novelty, uncertain, boundary = (
        np.quantile(drawn[:, 5], 0.9), np.quantile(drawn[:, 1], 0.8), np.quantile(abs(drawn[:, 2]), 0.8)
    )  # fmt: skip
    for row, name in zip(drawn, found, strict=True):
        wanted = (
            "novelty" if row[5] > novelty
            else "uncertain" if row[1] > uncertain
            else "boundary" if abs(row[2]) > boundary
            else "stable"
        )  # fmt: skip
        assert name == wanted
    assert 0.08 < found.count("novelty") / 500 < 0.12
    assert set(found) == set(partitions.FRAME_PARTITIONS)


def test_an_utterance_is_summed_up_by_means():
    scalars = np.arange(14, dtype=np.float32).reshape(2, 7)
    scalars[0, 2], scalars[1, 2] = -0.5, 0.25
    found = partitions.utterance_summary(scalars)
    assert found[2] == pytest.approx(0.375) and found[0] == pytest.approx(3.5)
    assert partitions.utterance_summaries([scalars, scalars]).shape == (2, 7)
