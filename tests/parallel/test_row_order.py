"""Which rows are whose: every row once, whatever the split, and no split ends earlier."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.parallel import row_order

SPEEDS = st.lists(st.floats(0.1, 100), min_size=1, max_size=4)


@settings(max_examples=100)
@given(st.integers(0, 60), st.one_of(SPEEDS, st.integers(1, 6).map(lambda size: [0.0] * size)))
def test_every_row_is_somebodys_once(count, speeds):
    """Speeds of 0 stand for an even split over so many ranks."""
    size, said = len(speeds), () if not any(speeds) else tuple(speeds)
    rows = list(range(100, 100 + count))
    shares = [row_order.rank_share(rows, rank, size, said) for rank in range(size)]
    assert sorted(itertools.chain.from_iterable(shares)) == rows
    if not said:
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    elif count >= size:
        assert all(shares), "a rank without rows would show no speed"


@settings(max_examples=60)
@given(st.integers(1, 9), st.lists(st.floats(0.1, 10), min_size=2, max_size=3))
def test_no_other_split_ends_earlier(rows, speeds):
    def ends(counts):
        return max(count / speed for count, speed in zip(counts, speeds, strict=True))

    least = 1 if rows >= len(speeds) else 0
    every = (c for c in itertools.product(range(least, rows + 1), repeat=len(speeds)) if sum(c) == rows)
    assert ends(row_order.row_counts(rows, speeds)) == pytest.approx(min(map(ends, every)))


def test_equal_speeds_are_the_even_counts_and_twice_the_speed_twice_the_rows():
    assert row_order.row_counts(7, (3.0, 3.0)) == (4, 3)
    assert row_order.row_counts(12, (1.0, 2.0)) == (4, 8)
    assert row_order.row_counts(1, (1.0, 2.0)) == (0, 1)
    assert row_order.row_counts(9, (1.0, 1000.0)) == (1, 8)
