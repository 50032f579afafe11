"""Work that ranks share: a failure of one is an error of all, and none waits for it."""

from __future__ import annotations

import pytest
from ring_scripts import PREAMBLE, outputs

from thunder.errors import Interrupted
from thunder.parallel.gathered_work import WorkFailed, gather_work
from thunder.parallel.world import World


def test_one_rank_alone():
    assert gather_work(World(), lambda: [1, "ߊ"]) == [[1, "ߊ"]]
    with pytest.raises(WorkFailed, match="^ZeroDivisionError: "):
        gather_work(World(), lambda: 1 / 0)


def test_being_asked_to_stop_is_no_failure():
    def stop():
        raise Interrupted("in the test")

    with pytest.raises(Interrupted):
        gather_work(World(), stop)


@pytest.mark.expensive
def test_a_failed_rank_is_named_on_every_rank(run_ranks):
    script = (
        PREAMBLE
        + """
from thunder.parallel.gathered_work import WorkFailed, gather_work
print(json.dumps(gather_work(ring, lambda: ring.rank)))
try:
    gather_work(ring, lambda: 1 // ring.rank)
except WorkFailed as error:
    print(json.dumps(error.message))
"""
    )
    answers = outputs(run_ranks(2, script))
    assert len(answers) == 2 or len(answers) == 4
    assert all("rank 0: ZeroDivisionError" in str(answer) or answer == [0, 1] for answer in answers), answers
