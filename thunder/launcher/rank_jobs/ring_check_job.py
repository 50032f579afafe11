"""The rank's job of a cluster check: sum one number a rank, to see that the ring computes and how long a sum takes."""

from __future__ import annotations

import statistics
import time

from thunder.launcher.rank_jobs.rank_setup import RankSetup
from thunder.parallel import collectives

SUMS = 20


def check_ring(setup: RankSetup) -> None:
    """Sum SUMS times; report whether every sum was right and the median seconds of one."""
    world = setup.world
    setup.record.phase("summing")
    sums, seconds = [], []
    for turn in range(SUMS):
        begun = time.perf_counter()
        sums.append(collectives.sum_numbers(world, [float(world.rank + 1 + turn)])[0])
        seconds.append(time.perf_counter() - begun)
    size = world.size
    expected = [size * (size + 1) / 2 + size * turn for turn in range(SUMS)]
    setup.record.event("smoke", right=sums == expected, ranks=size, seconds=statistics.median(seconds))
