"""What the jobs of a rank have in common: the table of jobs, the check of the ring, and how a stop ends them."""

from __future__ import annotations

import importlib

import pytest

from thunder.errors import Interrupted
from thunder.launcher.rank_jobs.rank_process import JOBS
from thunder.launcher.rank_jobs.rank_setup import RankSetup
from thunder.launcher.rank_jobs.ring_check_job import check_ring
from thunder.parallel.world import World
from thunder.training.loop_settings import RuntimeOverrides
from thunder.training.state import TrainState
from thunder.training.training_events import CallbackList


class Record:
    """Keeps what a job reports."""

    def __init__(self) -> None:
        self.events, self.results = [], None

    def event(self, kind, **fields):
        self.events.append((kind, fields))

    def phase(self, name, **fields):
        self.event("phase", name=name, **fields)

    def finish(self, results):
        self.results = results


@pytest.fixture
def setup(tmp_path):
    """Makes the setup of one rank alone, which is asked to stop or not."""

    def make(stop=False):
        folder = tmp_path / "20260101-run"
        return RankSetup(folder, Record(), World(), lambda: stop, RuntimeOverrides(), CallbackList([]))

    return make


@pytest.mark.parametrize("name", JOBS)
def test_every_job_is_a_function_with_a_docstring(name):
    module, function = JOBS[name]
    assert getattr(importlib.import_module(module), function).__doc__


def test_a_ring_of_one_sums_right(setup):
    alone = setup()
    check_ring(alone)
    (_, phase), (kind, fields) = alone.record.events
    assert phase["name"] == "summing" and kind == "smoke"
    assert fields["right"] is True and fields["ranks"] == 1 and fields["seconds"] >= 0


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
