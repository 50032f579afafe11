"""Where the supervised positions of rows lie, and the few sizes that batches of them are padded to. Needs no MLX."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from thunder.lora.tokenized_rows import Example

SIZES = 6
STEP = 4  # positions: no size in between is looked at


@dataclass(frozen=True)
class Span:
    """A row's inputs are ids[:-1], position t predicts ids[t + 1]; supervised are start <= t < inputs."""

    inputs: int
    start: int

    @property
    def count(self) -> int:
        """Supervised positions."""
        return self.inputs - self.start


def of(example: Example) -> Span:
    """The span of an example."""
    return Span(len(example.ids) - 1, max(example.offset, 1) - 1)


def up(number: int, step: int) -> int:
    """The least multiple of `step` that is not below a number."""
    return -(-number // step) * step


def best_sizes(counts: Iterable[int], most: int = SIZES, step: int = STEP) -> list[int]:
    """At most so many sizes, multiples of `step`, that pad these counts by the least in all, and fit the largest."""
    tally = Counter(up(max(1, count), step) for count in counts)
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


class Sizes:
    """Pairs (main, other) of padded lengths; a batch gets the smallest pair that holds all of its rows.

    The main length is the one that costs most, supervised positions or all of them; the other follows it: in each pair
    it is the largest that any row up to that size has, so that there are no more pairs than sizes.
    """

    def __init__(self, lengths: Sequence[tuple[int, int]], most: int = SIZES, step: int = STEP) -> None:
        """lengths: (main, other) of every row there is."""
        self.main = best_sizes((main for main, _ in lengths), most, step)
        self.other = [max(up(o, step) for m, o in lengths if m <= size) for size in self.main]

    def of(self, lengths: Iterable[tuple[int, int]]) -> tuple[int, int]:
        """The pair for a batch of rows."""
        place = bisect_left(self.main, max(main for main, _ in lengths))
        return self.main[place], self.other[place]
