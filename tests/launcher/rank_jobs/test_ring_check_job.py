"""The check of the ring: a sum over all ranks."""

from __future__ import annotations

import pytest
from rank_setups import lone_rank_setup

from thunder.launcher.rank_jobs.ring_check_job import check_ring

setup = pytest.fixture(lone_rank_setup)


def test_a_ring_of_one_sums_right(setup):
    alone = setup()
    check_ring(alone)
    (_, phase), (kind, fields) = alone.record.events
    assert phase["name"] == "summing" and kind == "smoke"
    assert fields["right"] is True and fields["ranks"] == 1 and fields["seconds"] >= 0
