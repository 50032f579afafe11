"""What the jobs of a rank have in common: their results, and how a stop ends them."""

from __future__ import annotations

import pytest
from rank_setups import lone_rank_setup

from thunder.errors import Interrupted
from thunder.training.state import TrainState

setup = pytest.fixture(lone_rank_setup)


def test_results_are_written_unless_the_user_asked_to_stop(setup):
    done = setup()
    done.finish({"steps": 3}, TrainState(step=3))
    assert done.record.results == {"steps": 3}
    stopped = setup(stop=True)
    with pytest.raises(Interrupted, match="at step 3, with a checkpoint") as caught:
        stopped.finish({"steps": 3}, TrainState(step=3))
    assert caught.value.fix == "./launch.sh resume 20260101-run" and stopped.record.results is None
    with pytest.raises(Interrupted, match="before step 1; no checkpoint was written"):
        stopped.finish({}, TrainState())


def test_a_stop_in_the_test_says_how_to_go_on(setup):
    going_on, stopped = setup(), setup(stop=True)
    going_on.on_test_row(1, 4)
    with pytest.raises(Interrupted, match="in the test, after training"):
        stopped.on_test_row(2, 4)
    assert [going_on.record.events, stopped.record.events] == [
        [("test", {"done": 1, "total": 4})],
        [("test", {"done": 2, "total": 4})],
    ]
