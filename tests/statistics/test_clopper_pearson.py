"""The exact bound on harm: closed forms, published values, and sums of binomial probabilities in fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.statistics.clopper_pearson import share_upper_bound


def at_most(worse: int, of: int, share: Fraction) -> Fraction:
    """P(X <= worse) of a binomial, exactly."""
    return sum(comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(worse + 1))


@pytest.mark.parametrize("of, bound", [(1, 0.95), (2, 0.7764), (8, 0.3123), (59, 0.0495), (299, 0.00997)])
def test_none_worse_has_a_closed_form(of, bound):
    assert share_upper_bound(0, of) == pytest.approx(1 - 0.05 ** (1 / of), rel=1e-12)
    assert share_upper_bound(0, of) == pytest.approx(bound, abs=5e-5)


# one-sided 95 % limits of Clopper and Pearson as tables of acceptance sampling print them
@pytest.mark.parametrize(
    "worse, of, bound", [(1, 10, 0.3942), (2, 10, 0.5069), (5, 10, 0.7776), (9, 10, 0.9949), (1, 20, 0.2161)]
)
def test_values_of_printed_tables(worse, of, bound):
    assert share_upper_bound(worse, of) == pytest.approx(bound, abs=5e-5)


@settings(max_examples=40)
@given(st.integers(1, 40).flatmap(lambda of: st.tuples(st.integers(0, of - 1), st.just(of))))
def test_at_the_bound_so_few_have_the_probability_that_is_left(counts):
    worse, of = counts
    bound = Fraction(share_upper_bound(worse, of))
    step = Fraction(1, 10**9)
    assert at_most(worse, of, bound - step) > Fraction(1, 20) > at_most(worse, of, min(Fraction(1), bound + step))


def bisected(worse, of, level=0.95):
    """The bound by bisection over sums of binomial probabilities, as it was computed before scipy."""
    counts = np.arange(1, worse + 1)
    coefficients = np.concatenate([[0.0], np.cumsum(np.log((of - counts + 1) / counts))])
    numbers = np.arange(worse + 1)
    low, high = worse / of, 1.0
    for _ in range(200):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        logs = coefficients + numbers * math.log(middle) + (of - numbers) * math.log1p(-middle)
        if math.exp(logs.max()) * float(np.exp(logs - logs.max()).sum()) > 1 - level:
            low = middle
        else:
            high = middle
    return high


@settings(max_examples=60)
@given(
    st.integers(2, 5000).flatmap(lambda of: st.tuples(st.integers(1, of - 1), st.just(of))),
    st.sampled_from([0.5, 0.9, 0.95, 0.99]),
)
def test_the_library_agrees_with_bisection(counts, level):
    assert share_upper_bound(*counts, level) == pytest.approx(bisected(*counts, level), abs=1e-9)


def test_nothing_counted_and_all_worse():
    assert share_upper_bound(0, 0) == share_upper_bound(3, 3) == 1.0


def test_many_rows_keep_their_digits():
    # for large numbers the bound nears the Poisson limit: 4.743865 at one event, 23.097135 at fifteen
    assert share_upper_bound(1, 10**6) * 10**6 == pytest.approx(4.743865, rel=1e-5)
    assert share_upper_bound(15, 10**6) * 10**6 == pytest.approx(23.097135, rel=1e-4)
    assert 0.5 < share_upper_bound(150_000, 300_000) < 0.502


@pytest.mark.parametrize("worse, of, level", [(-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1.0)])
def test_counts_that_are_none(worse, of, level):
    with pytest.raises(ValueError):
        share_upper_bound(worse, of, level)
