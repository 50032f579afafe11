"""The paired bootstrap: against all resamples that there are, where there are few."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from thunder.statistics import bootstrap
from thunder.statistics.bootstrap import change_intervals


def interval(changes, units, seed=0, resamples=20_000):
    got = change_intervals(np.array(changes)[:, None], np.array(units)[:, None], seed=seed, resamples=resamples)
    assert len(got) == 1
    return got[0]


def test_against_every_resample_of_five_rows():
    changes, units = np.array([-4, 1, -2, 0, 3]), np.array([10, 4, 30, 7, 12])
    every = [changes[list(rows)].sum() / units[list(rows)].sum() for rows in product(range(5), repeat=5)]
    low, high = np.percentile(every, [2.5, 97.5])
    assert interval(changes, units) == pytest.approx((low, high), abs=0.01)


def test_rows_that_change_alike_leave_no_doubt():
    assert interval([-1] * 7, [10] * 7) == pytest.approx((-0.1, -0.1))


def test_the_seed_decides_and_pieces_do_not(monkeypatch):
    draw = np.random.default_rng(1)
    changes, units = draw.integers(-5, 3, 50), draw.integers(5, 60, 50)
    once = interval(changes, units, resamples=500)
    assert interval(changes, units, resamples=500) == once
    assert interval(changes, units, seed=1, resamples=500) != once
    monkeypatch.setattr(bootstrap, "_MOST_DRAWS", 50 * 7)
    assert interval(changes, units, resamples=500) == once


def test_units_are_resampled_together():
    changes, units = np.array([[-2, -1], [1, 0], [0, 0]]), np.array([[10, 8], [5, 5], [9, 9]])
    both = change_intervals(changes, units, seed=3, resamples=300)
    alone = [change_intervals(changes[:, [k]], units[:, [k]], seed=3, resamples=300)[0] for k in (0, 1)]
    assert both == alone


def test_without_a_reference_unit_there_is_no_rate():
    assert interval([0, 1], [0, 0]) is None
    assert change_intervals(np.zeros((0, 2), int), np.zeros((0, 2), int), seed=0, resamples=100) == [None, None]


def test_it_covers_the_truth_about_as_often_as_it_says():
    """Rows drawn from a known law, whose true change is -0.05: 95 % of intervals should hold it."""
    draw, held = np.random.default_rng(0), 0
    for seed in range(200):
        units = np.full(80, 20)
        changes = draw.choice([-4, -1, 0, 1], p=[0.2, 0.4, 0.2, 0.2], size=80)
        low, high = interval(changes, units, seed=seed, resamples=400)
        held += low <= -1.0 / 20 <= high
    assert 0.90 <= held / 200 <= 0.99
