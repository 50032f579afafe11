"""The whole model's engine: mlx_lm's loss and gradient, spans of padded rows, and gemma3n as it generates."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from conftest import random_gemma3n
from engine_oracle import (
    VOCABULARY,
    distance,
    engine_loss_and_gradient,
    mlx_lm_loss_and_gradient,
    random_example,
    trainable,
)
from split_models import fresh

from thunder.lora.engine.full_model_engine import FullModelEngine, full_logits, supervised_loss


@pytest.mark.parametrize("kind", ["gemma4", "gemma3"])
def test_loss_and_gradient_equal_mlx_lm(kind):
    draw = np.random.default_rng(1)
    examples = [random_example(draw, [4, 5, 6], *shape) for shape in ((9, 7), (20, 3), (1, 1))]
    network = trainable(fresh(kind), 3)
    engine = FullModelEngine(network)
    loss, gradient = mlx_lm_loss_and_gradient(network, examples)
    engine_loss, engine_gradient = engine_loss_and_gradient(engine, examples)
    assert engine_loss == pytest.approx(loss, rel=1e-5) and distance(engine_gradient, gradient) < 1e-5
    assert [engine.row_length(example) for example in examples] == [3 + 9 + 7 - 1, 3 + 20 + 3 - 1, 3 + 1 + 1 - 1]


def test_the_loss_is_the_sum_over_the_targets_of_each_span():
    """Against numpy's log-softmax in float64 of the same logits."""
    network, draw = fresh("gemma3"), np.random.default_rng(2)
    ids, spans = draw.integers(1, VOCABULARY, (3, 12)), [(3, 7), (1, 12), (5, 5)]
    logits = np.array(network(mx.array(ids[:, :-1])), np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -sum(logs[row, at - 1, ids[row, at]] for row, span in enumerate(spans) for at in range(*span))
    assert supervised_loss(network, mx.array(ids), mx.array(spans)).item() == pytest.approx(expected, rel=1e-5)


def test_gemma3n_runs_with_its_cache_and_others_without():
    ids = mx.array([[3, 1, 4, 1, 5, 9, 2, 6]])
    shares, plain = random_gemma3n(), fresh("gemma4")
    assert mx.array_equal(full_logits(shares, ids), shares(ids, cache=shares.make_cache())).item()
    assert mx.abs(full_logits(shares, ids) - shares(ids)).max().item() > 0.1
    assert mx.array_equal(full_logits(plain, ids), plain(ids)).item()
