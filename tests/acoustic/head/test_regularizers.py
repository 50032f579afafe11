"""TAR and the consistency of CR-CTC, by brute force and by closed formulas."""

import mlx.core as mx
import numpy as np
import pytest

from thunder.acoustic.head import regularizers
from thunder.acoustic.trajectory.scalars import NOVELTY, STABILITY


def logits(seed, rows=2, length=9, size=5, scale=3.0):
    return mx.random.normal((rows, length, size), key=mx.random.key(seed)) * scale


def scalars(seed=4, rows=2, length=9):
    return mx.random.uniform(shape=(rows, length, 7), key=mx.random.key(seed))


MASK = mx.array([[1.0] * 9, [1.0] * 5 + [0.0] * 4])


def softmax(x):
    p = np.exp(x - x.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def test_temporal_alignment_by_brute_force():
    x, s = logits(0), scalars()
    found = np.array(regularizers.temporal_alignment_loss(x, s, MASK))
    for row, length in enumerate((9, 5)):
        p, given = softmax(np.array(x[row], np.float64)), np.array(s[row], np.float64)
        total = weights = 0.0
        for t in range(1, length):
            m = (p[t] + p[t - 1]) / 2
            js = 0.5 * (p[t] * np.log(p[t] / m)).sum() + 0.5 * (p[t - 1] * np.log(p[t - 1] / m)).sum()
            weight = given[t, STABILITY] * (1 - given[t, NOVELTY])
            total, weights = total + weight * js, weights + weight
        assert found[row] == pytest.approx(total / weights, rel=1e-4)


def test_temporal_alignment_is_zero_where_nothing_moves_or_nothing_is_stable():
    still = mx.repeat(logits(0, length=1), 9, axis=1)
    np.testing.assert_allclose(np.array(regularizers.temporal_alignment_loss(still, scalars(), MASK)), 0, atol=1e-6)
    assert regularizers.temporal_alignment_loss(logits(0), mx.zeros((2, 9, 7)), MASK).tolist() == [0, 0]
    only = mx.array([[1.0] + [0.0] * 8] * 2)
    assert regularizers.temporal_alignment_loss(logits(0), scalars(), only).tolist() == [0, 0]


def test_the_weights_have_no_gradient_and_the_posteriors_a_finite_one():
    gradient = mx.grad(lambda s: regularizers.temporal_alignment_loss(logits(0), s, MASK).sum())(scalars())
    assert float(mx.abs(gradient).max()) == 0
    sharp = mx.grad(lambda x: regularizers.temporal_alignment_loss(x, scalars(), MASK).sum())(logits(0, scale=200.0))
    assert bool(mx.isfinite(sharp).all())
    assert (
        float(
            mx.abs(mx.grad(lambda x: regularizers.temporal_alignment_loss(x, scalars(), MASK).sum())(logits(0))).max()
        )
        > 0
    )


def test_consistency_by_brute_force_and_its_gradient_in_closed_form():
    one, two = logits(1), logits(2)
    p, q = (softmax(np.array(each, np.float64)) for each in (one, two))
    mask = np.array(MASK, np.float64)
    wanted = 0.5 * (((q * np.log(q / p)) + (p * np.log(p / q))).sum(-1) * mask).sum(1)
    np.testing.assert_allclose(np.array(regularizers.consistency_loss(one, two, MASK)), wanted, rtol=1e-4)
    # d KL(q || softmax x) / d x = softmax x - q, and the other direction hands this side no gradient
    gradient = mx.grad(lambda x: regularizers.consistency_loss(x, two, MASK).sum())(one)
    np.testing.assert_allclose(np.array(gradient), 0.5 * (p - q) * mask[..., None], atol=1e-5)
    assert regularizers.consistency_loss(one, one, MASK).tolist() == pytest.approx([0, 0], abs=1e-5)
