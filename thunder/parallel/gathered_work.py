"""Let every rank do its part, then gather the parts; where one fails, all ranks hear of it and none waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thunder.errors import Interrupted, RunFailed
from thunder.parallel import collectives
from thunder.parallel.world import World


class WorkFailed(RunFailed):
    """A rank could not do its part of the work; raised on every rank."""


def gather_work(world: World, work: Callable[[], Any]) -> list[Any]:
    """Each rank's result of `work`, a JSON value, in the order of ranks, on every rank. All ranks call it together.

    Raises WorkFailed on every rank, with each failed rank's error, where `work` raised on any; Interrupted passes.
    """
    result, fault = None, ""
    try:
        result = work()
    except Interrupted:
        raise
    except Exception as error:  # whatever a model's or a file's code raises: the other ranks wait for this one
        fault = f"{type(error).__name__}: {error}"
    faults = collectives.gather_json(world, fault)
    if any(faults):
        named = [f"rank {rank}: {text}" if world.size > 1 else text for rank, text in enumerate(faults) if text]
        raise WorkFailed("; ".join(named))
    return collectives.gather_json(world, result)
