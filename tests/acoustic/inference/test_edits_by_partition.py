"""Characters and edits by the partition of their frames."""

import numpy as np

from thunder.acoustic.inference import edits_by_partition
from thunder.text import distance


def test_a_character_is_of_the_partition_of_its_frames():
    # three frames of a, a blank, two of b: a stands in stable frames, b mostly in novel ones
    log_probs = np.log(np.full((6, 3), 0.01) + 0.97 * np.eye(3)[[1, 1, 1, 0, 2, 2]])
    scalars = np.zeros((6, 7), np.float32)
    scalars[4:, 5] = 1
    limits = np.array([0.5, 0.5, 0.5])
    assert edits_by_partition.character_partitions(log_probs, [1, 2], "ab", "NFC", scalars, limits) == [
        "stable",
        "novelty",
    ]
    assert edits_by_partition.character_partitions(log_probs, [1, 2], "á", "NFD", scalars, limits) == ["stable"]
    assert (
        edits_by_partition.character_partitions(log_probs[:1], [1, 2], "ab", "NFC", scalars, limits) == ["unknown"] * 2
    )
    found = edits_by_partition.edit_counts("xaxc", "ab", ["stable", "novelty"])
    assert sum(edits for edits, _ in found.values()) == distance.edit_distance("xaxc", "ab")
    assert found == {"stable": [1, 1], "novelty": [2, 1]}
