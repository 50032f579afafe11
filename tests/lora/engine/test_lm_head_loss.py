"""The fused output layer has the loss and gradient of mlx's own cross entropy."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn

from thunder.lora.engine.lm_head_loss import LMHeadLoss


def projection(kind: str) -> nn.Module:
    mx.random.seed(2)
    layer = nn.Linear(32, 96, bias=False) if kind.startswith("linear") else nn.Embedding(96, 32)
    return layer.to_quantized(group_size=32, bits=4) if kind.endswith("4-bit") else layer


@pytest.mark.parametrize("chunk_size", [1, 5, 64])
@pytest.mark.parametrize("softcap", [None, 30.0, 5.0, 200.0])
@pytest.mark.parametrize("kind", ["linear", "embedding", "linear 4-bit", "embedding 4-bit"])
def test_the_fused_head_equals_cross_entropy(kind, softcap, chunk_size):
    layer = projection(kind)
    project = layer if kind.startswith("linear") else layer.as_linear
    hidden = mx.random.normal((13, 32)) * 20
    targets, weights = mx.random.randint(0, 96, (13,)), mx.array([1.0, 0.0, 2.0] * 4 + [1.0])

    def reference_loss(h):
        logits = project(h) if softcap is None else mx.tanh(project(h) / softcap) * softcap
        return (nn.losses.cross_entropy(logits, targets) * weights).sum()

    head = LMHeadLoss(layer, softcap, chunk_size)
    expected, expected_gradient = mx.value_and_grad(reference_loss)(hidden)
    loss, gradient = mx.value_and_grad(lambda h: head.loss(h, targets, weights))(hidden)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    scale = mx.abs(expected_gradient).max().item()
    np.testing.assert_allclose(np.array(gradient), np.array(expected_gradient), atol=2e-6 * scale)
    assert head.loss(hidden, targets, weights, differentiable=False).item() == pytest.approx(expected.item(), rel=1e-5)
