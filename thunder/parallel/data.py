"""Which rows a step trains on: decided by the seed alone, the same for any number of ranks; and each rank's share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Row = TypeVar("Row")


@dataclass(frozen=True)
class Step:
    """One optimizer update: its number (from 1), its epoch (from 0) and the indices of its rows over all ranks."""

    number: int
    epoch: int
    rows: tuple[int, ...]


def epoch_order(rows: int, seed: int, epoch: int) -> np.ndarray:
    """[rows] the order of one epoch; a function of (rows, seed, epoch), so that resuming needs no saved state."""
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(rows)


POOL = 50  # batches whose rows are sorted together: enough for little padding, few enough for other batches each epoch


def bucketed_order(lengths: Sequence[int], global_batch: int, seed: int, epoch: int) -> np.ndarray:
    """[rows] the order of one epoch in which each batch has rows of like length, and batches come in any order."""
    order, sizes = epoch_order(len(lengths), seed, epoch), np.asarray(lengths)
    pools = [order[start : start + POOL * global_batch] for start in range(0, len(order), POOL * global_batch)]
    order = np.concatenate([pool[np.argsort(sizes[pool], kind="stable")] for pool in pools])
    whole = len(order) // global_batch * global_batch
    batches = order[:whole].reshape(-1, global_batch)
    shuffled = batches[epoch_order(len(batches), seed, epoch)] if whole else batches
    return np.concatenate([shuffled.reshape(-1), order[whole:]])


def steps(
    rows: int, global_batch: int, seed: int, *, after: int = 0, until: int, lengths: Sequence[int] | None = None
) -> Iterator[Step]:
    """Steps `after + 1` to `until`. Every row comes once an epoch; its last batch may be short, none is dropped.

    lengths: of each row, where rows of like length shall go together.
    """
    per_epoch = -(-rows // global_batch)
    order, ordered_epoch = np.empty(0, np.int64), -1
    for number in range(after + 1, until + 1):
        epoch, place = divmod(number - 1, per_epoch)
        if epoch != ordered_epoch:
            ordered_epoch = epoch
            by_length = lengths is not None
            order = bucketed_order(lengths, global_batch, seed, epoch) if by_length else epoch_order(rows, seed, epoch)
        chosen = order[place * global_batch : (place + 1) * global_batch]
        yield Step(number, epoch, tuple(int(row) for row in chosen))


def share(rows: Sequence[Row], rank: int, size: int, speeds: Sequence[float] = ()) -> Sequence[Row]:
    """The rows of one rank: every size-th, so that shares differ by one row at the most; or by the ranks' speeds.

    speeds: rows a second of each rank, the same on every rank; none for an even split.
    """
    if not speeds:
        return rows[rank::size]
    counts = row_counts(len(rows), speeds)
    start = sum(counts[:rank])
    return rows[start : start + counts[rank]]


def row_counts(rows: int, speeds: Sequence[float]) -> tuple[int, ...]:
    """How many rows each rank takes so that the last one ends as early as whole rows allow; one at least, if it can.

    A rank without rows would show no speed, and could never get any again.
    """
    counts = [int(rows >= len(speeds))] * len(speeds)
    for _ in range(rows - sum(counts)):
        first = min(range(len(speeds)), key=lambda rank: ((counts[rank] + 1) / speeds[rank], rank))
        counts[first] += 1
    return tuple(counts)


def micro_batches(rows: Sequence[Row], batch_size: int) -> Iterator[Sequence[Row]]:
    """A rank's share of a step, cut into what goes through the model at once."""
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]
