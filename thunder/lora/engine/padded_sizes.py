"""The supervised span of a row, and the few sizes that batches of rows are padded to. Needs no MLX."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from thunder.lora.tokenized_rows import Example

MAX_SIZES = 6
STEP = 4  # positions: sizes are multiples of this


@dataclass(frozen=True)
class SupervisedSpan:
    """A row's inputs are ids[:-1]; position t predicts ids[t + 1]; positions start <= t < inputs are supervised."""

    inputs: int
    start: int

    @property
    def count(self) -> int:
        """Number of supervised positions."""
        return self.inputs - self.start


def supervised_span(example: Example) -> SupervisedSpan:
    """The supervised span of an example."""
    return SupervisedSpan(len(example.ids) - 1, max(example.offset, 1) - 1)


def round_up(number: int, step: int) -> int:
    """The least multiple of `step` that is not below a number."""
    return -(-number // step) * step


def best_padded_sizes(counts: Iterable[int], most: int = MAX_SIZES, step: int = STEP) -> list[int]:
    """At most `most` sizes, multiples of `step`, with the least total padding of these counts; the largest one fits."""
    tally = Counter(round_up(max(1, count), step) for count in counts)
    values = sorted(tally)
    rows = [0, *accumulate(tally[value] for value in values)]
    # best[j]: the least padded total of values[:j] with the sizes used so far, and the sizes
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())] + [(float("inf"), ())] * len(values)
    for _ in range(most):
        best = [
            min(
                [best[j]]
                + [(best[i][0] + values[j - 1] * (rows[j] - rows[i]), (*best[i][1], values[j - 1])) for i in range(j)]
            )
            for j in range(len(values) + 1)
        ]
    return list(best[-1][1])


class PaddedSizes:
    """Pairs (main, other) of padded lengths; a batch gets the smallest pair that holds all of its rows.

    The main length is the one that costs most: supervised positions, or all positions. The other length of a pair is
    the largest that any row up to the pair's main length has, so that there are as many pairs as main sizes.
    """

    def __init__(self, lengths: Sequence[tuple[int, int]], most: int = MAX_SIZES, step: int = STEP) -> None:
        """lengths: (main, other) of every row of the run."""
        self.main = best_padded_sizes((main for main, _ in lengths), most, step)
        self.other = [max(round_up(o, step) for m, o in lengths if m <= size) for size in self.main]

    def size_for_batch(self, lengths: Iterable[tuple[int, int]]) -> tuple[int, int]:
        """The pair for a batch of rows."""
        place = bisect_left(self.main, max(main for main, _ in lengths))
        return self.main[place], self.other[place]
