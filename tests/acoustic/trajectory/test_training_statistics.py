"""Statistics of the training part travel as bytes."""

import numpy as np
import pytest
import toy_speech

from thunder.acoustic.trajectory.training_statistics import TrainingStatistics


@pytest.fixture(scope="module")
def made():
    return toy_speech.task(mode="trajectory+ttt")


def test_tables_travel_as_bytes(made):
    found = TrainingStatistics.from_bytes(made.statistics.to_bytes())
    for name, array in made.statistics.arrays().items():
        np.testing.assert_array_equal(found.arrays()[name], array)
    assert made.statistics.to_bytes() == made.statistics.to_bytes()
