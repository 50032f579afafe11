"""Validate: the loss over the whole validation set, its standard error, and the same for some training rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import mlx.core as mx

from thunder.parallel import collectives
from thunder.parallel.world import World
from thunder.training.task import Batch, CountsBatches, Task


def validate(
    task: Task,
    world: World,
    stop_requested: Callable[[], bool],
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float] | None:
    """Loss over the whole validation set, sharded over ranks and weighted by tokens; the same numbers on every rank.

    `valid_se` is the standard error of `valid_loss`. A task with a `probe` has `probe_loss` and `probe_se` beside it:
    some rows that are trained on, scored in the same way, which distinguishes a leak from underfitting.
    None, on every rank, where any rank was asked to stop on the way. on_batch: called with (done, total) batches of
    this rank; total is 0 where the task does not count them.
    """
    sums = {group: Sums() for group in (*task.groups, _PROBE)}
    stopped = 0.0
    task.model.eval()
    total = task.validation_batches(world.rank, world.size) if isinstance(task, CountsBatches) else 0
    for done, (group, batch) in enumerate(_scored(task, world), start=1):
        if stop_requested():
            stopped = 1.0
            break
        loss_sum = task.loss(task.model, *batch.arrays)
        mx.eval(loss_sum)
        sums[group].add(loss_sum.item(), batch.tokens)
        on_batch(done, total)
    task.model.train()
    *flat, stops = collectives.sum_numbers(
        world, [*(number for each in sums.values() for number in each.flat), stopped]
    )
    if stops:
        return None
    width = len(Sums().flat)
    whole = {group: Sums(flat[width * i : width * (i + 1)]) for i, group in enumerate(sums)}
    values = task.validation_metrics({group: (whole[group].loss, whole[group].tokens) for group in task.groups})
    if whole[_PROBE].tokens:
        values["probe_loss"] = whole[_PROBE].loss / whole[_PROBE].tokens
    errors = {"valid_se": whole[task.groups[0]].error, "probe_se": whole[_PROBE].error}
    return values | {name: error for name, error in errors.items() if error is not None}


_PROBE = "probe"


def _scored(task: Task, world: World) -> Iterator[tuple[str, Batch]]:
    yield from task.validation(world.rank, world.size)
    probe = getattr(task, "probe", None)
    yield from ((_PROBE, batch) for batch in (probe(world.rank, world.size) if probe else ()))


class Sums:
    """Sums over batches, and the standard error of their mean loss."""

    def __init__(self, flat: list[float] | None = None) -> None:
        self.flat = flat or [0.0] * 6  # batches, loss, tokens, loss squared, loss by tokens, tokens squared

    def add(self, loss: float, tokens: int) -> None:
        """Count a batch: its loss summed over its tokens."""
        new = (1.0, loss, tokens, loss * loss, loss * tokens, tokens * tokens)
        self.flat = [old + more for old, more in zip(self.flat, new, strict=True)]

    @property
    def loss(self) -> float:
        """The loss, summed."""
        return self.flat[1]

    @property
    def tokens(self) -> float:
        """The supervised tokens."""
        return self.flat[2]

    @property
    def error(self) -> float | None:
        """Standard error of the mean loss per token, a ratio of sums over batches; None of fewer than two batches.

        Source: the linearised variance of a ratio estimator (Cochran, Sampling Techniques, 3rd ed., section 2.11).
        """
        batches, loss, tokens, squared, crossed, sizes = self.flat
        if batches < 2 or not tokens:
            return None
        mean = loss / tokens
        spread = max(0.0, squared - 2 * mean * crossed + mean * mean * sizes)
        return math.sqrt(spread * batches / (batches - 1)) / tokens
