"""The fused output layer against mlx's own cross entropy, and the padded sizes against brute force."""

from __future__ import annotations

from itertools import combinations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx import nn

from thunder.lora.engine.lm_head_loss import Head
from thunder.lora.engine.supervised_positions import Sizes, best_sizes, up


def projection(kind: str) -> nn.Module:
    mx.random.seed(2)
    layer = nn.Linear(32, 96, bias=False) if kind.startswith("linear") else nn.Embedding(96, 32)
    return layer.to_quantized(group_size=32, bits=4) if kind.endswith("4-bit") else layer


@pytest.mark.parametrize("at_once", [1, 5, 64])
@pytest.mark.parametrize("cap", [None, 30.0, 5.0, 200.0])
@pytest.mark.parametrize("kind", ["linear", "embedding", "linear 4-bit", "embedding 4-bit"])
def test_the_fused_head_equals_cross_entropy(kind, cap, at_once):
    layer = projection(kind)
    project = layer if kind.startswith("linear") else layer.as_linear
    hidden = mx.random.normal((13, 32)) * 20
    targets, weights = mx.random.randint(0, 96, (13,)), mx.array([1.0, 0.0, 2.0] * 4 + [1.0])

    def plainly(h):
        logits = project(h) if cap is None else mx.tanh(project(h) / cap) * cap
        return (nn.losses.cross_entropy(logits, targets) * weights).sum()

    head = Head(layer, cap, at_once)
    wanted, by_hidden = mx.value_and_grad(plainly)(hidden)
    loss, gradient = mx.value_and_grad(lambda h: head.loss(h, targets, weights))(hidden)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    scale = mx.abs(by_hidden).max().item()
    np.testing.assert_allclose(np.array(gradient), np.array(by_hidden), atol=2e-6 * scale)
    assert head.loss(hidden, targets, weights, differentiable=False).item() == pytest.approx(wanted.item(), rel=1e-5)


@settings(max_examples=60)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=12), most=st.integers(1, 4))
def test_the_sizes_pad_least(counts, most):
    sizes = best_sizes(counts, most, 4)
    candidates = sorted({up(count, 4) for count in counts})

    def padded(chosen):
        return sum(min(size for size in chosen if size >= count) for count in counts)

    choices = [
        chosen for n in range(1, most + 1) for chosen in combinations(candidates, n) if chosen[-1] == candidates[-1]
    ]
    assert len(sizes) <= most and padded(sizes) == min(map(padded, choices))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 90)), min_size=1, max_size=30), st.integers(0, 2**30))
def test_a_batch_fits_its_size_and_there_are_few(lengths, seed):
    sizes = Sizes(lengths, most=3)
    draw = np.random.default_rng(seed)
    seen = set()
    for _ in range(10):
        batch = [lengths[place] for place in draw.integers(0, len(lengths), 4)]
        main, other = sizes.of(batch)
        assert all(m <= main and o <= other for m, o in batch)
        seen.add((main, other))
    assert len(seen) <= 3
