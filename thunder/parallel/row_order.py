"""The rows of each step (decided by the seed alone, for any number of ranks) and each rank's share of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Row = TypeVar("Row")
# rows are shuffled within groups of similar length: one 64th of the rows, and at least 4
MIN_GROUP, LENGTH_GROUPS = 4, 64


@dataclass(frozen=True)
class StepPlan:
    """One optimizer update: its number (from 1), its epoch (from 0) and the indices of its rows over all ranks."""

    number: int
    epoch: int
    rows: tuple[int, ...]


def epoch_order(rows: int, seed: int, epoch: int) -> np.ndarray:
    """[rows] the order of one epoch: a function of (rows, seed, epoch), so that resuming needs no saved state."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(rows)


def plan_steps(
    rows: int,
    global_batch: int,
    seed: int,
    *,
    after: int = 0,
    until: int,
    lengths: Sequence[int] | None = None,
) -> Iterator[StepPlan]:
    """Steps `after + 1` to `until`. Every row comes once an epoch; one batch may be short, none is dropped.

    lengths: [rows] cost of each row. With it, rows of similar length come in one step, and a row has the same place in
    its step in every epoch, so that a rank (which has every size-th place) always gets the same rows.
    """
    per_epoch = -(-rows // global_batch)
    chosen, ordered_epoch = list[tuple[int, ...]](), -1
    for number in range(after + 1, until + 1):
        epoch, place = divmod(number - 1, per_epoch)
        if epoch != ordered_epoch:
            ordered_epoch = epoch
            if lengths is None:
                order = epoch_order(rows, seed, epoch).tolist()
                chosen = [tuple(order[start : start + global_batch]) for start in range(0, rows, global_batch)]
            else:
                chosen = similar_length_batches(lengths, global_batch, seed, epoch)
        yield StepPlan(number, epoch, chosen[place])


def similar_length_batches(lengths: Sequence[int], global_batch: int, seed: int, epoch: int) -> list[tuple[int, ...]]:
    """The batches of one epoch, in order, each of rows of similar length; a function of its arguments alone.

    Rows are sorted by length and dealt to the places of the batches. Each place's rows are shuffled within groups of
    neighbors, then the batches are shuffled. The rows left over, the longest, make the short batch.
    """
    draw = np.random.Generator(np.random.PCG64([seed, epoch]))
    order = np.argsort(np.asarray(lengths), kind="stable")
    whole = len(order) // global_batch
    table = order[: whole * global_batch].reshape(whole, global_batch)
    near = max(MIN_GROUP, whole // LENGTH_GROUPS)
    for start in range(0, whole, near):
        table[start : start + near] = draw.permuted(table[start : start + near], axis=0)
    batches = [tuple(batch) for batch in table.tolist()]
    if rest := tuple(order[whole * global_batch :].tolist()):
        batches.append(rest)
    return [batches[place] for place in draw.permutation(len(batches))]


def rank_share(rows: Sequence[Row], rank: int, size: int, speeds: Sequence[float] = ()) -> Sequence[Row]:
    """The rows of one rank: every size-th, so that shares differ by at most one row; or in proportion to the speeds.

    speeds: rows a second of each rank, the same values on every rank; empty for an even split.
    """
    if not speeds:
        return rows[rank::size]
    counts = row_counts(len(rows), speeds)
    start = sum(counts[:rank])
    return rows[start : start + counts[rank]]


def row_counts(rows: int, speeds: Sequence[float]) -> tuple[int, ...]:
    """Rows of each rank, so that the slowest rank ends as early as whole rows allow; at least one each, if possible.

    A rank without rows would show no speed, and could never get rows again.
    """
    counts = [int(rows >= len(speeds))] * len(speeds)
    for _ in range(rows - sum(counts)):
        first = min(range(len(speeds)), key=lambda rank: ((counts[rank] + 1) / speeds[rank], rank))
        counts[first] += 1
    return tuple(counts)


def evenly_spaced(rows: Sequence[Row], count: int) -> list[Row]:
    """`count` of the rows at even distances, or all if there are fewer."""
    count = min(count, len(rows))
    return [rows[number * len(rows) // count] for number in range(count)]


def micro_batches(rows: Sequence[Row], batch_size: int) -> Iterator[Sequence[Row]]:
    """A rank's share of a step, in pieces of the rows that go through the model at once."""
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]
