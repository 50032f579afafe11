"""The fast activations equal float64 to the last digits of float32; other modules and dtypes stay unchanged."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn
from mlx_lm.models import gemma3_text, gemma4_text

from thunder.lora.engine import fast_math


def samples(reach: float) -> np.ndarray:
    """[N] float32 numbers, small ones too."""
    near = np.geomspace(1e-30, reach, 20001)
    return np.concatenate([-near[::-1], [0.0], near]).astype(np.float32)


def test_exp_is_right_to_the_last_digits():
    x = samples(80.0)
    expected = np.exp(x.astype(np.float64))
    assert np.abs(np.array(fast_math.exp(mx.array(x)), np.float64) / expected - 1).max() < 2e-7


def test_tanh_is_right_to_the_last_digits_and_saturates():
    x = samples(1e30)
    got, expected = np.array(fast_math.tanh(mx.array(x)), np.float64), np.tanh(x.astype(np.float64))
    assert np.abs(got - expected).max() < 5e-7
    small = np.abs(x) > 1e-20
    assert np.abs(got[small] / expected[small] - 1).max() < 5e-7
    assert np.isnan(np.array(fast_math.tanh(mx.array([np.nan]))))


def test_the_gated_activation_and_its_gradient():
    mx.random.seed(0)
    gate, x, weight = (3 * mx.random.normal((50, 40)) for _ in range(3))

    def loss_and_gradients(function):
        return mx.value_and_grad(lambda g, y: (function(g, y) * weight).sum(), argnums=(0, 1))(gate, x)

    loss, gradients = loss_and_gradients(fast_math.gated_gelu)
    expected, expected_gradients = loss_and_gradients(lambda g, y: nn.gelu_approx(g) * y)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for computed, reference in zip(gradients, expected_gradients, strict=True):
        scale = np.abs(np.array(reference)).max()
        np.testing.assert_allclose(np.array(computed), np.array(reference), atol=3e-7 * scale)


@pytest.mark.parametrize("kind", [gemma3_text.MLP, gemma4_text.MLP])
def test_an_mlp_keeps_its_kind_and_its_answers(kind, monkeypatch):
    if kind is gemma4_text.MLP:
        mlp = kind(gemma4_text.ModelArgs(hidden_size=32, intermediate_size=64))
    else:
        mlp = kind(32, 64)
    x = mx.random.normal((2, 5, 32))
    before = np.array(mlp(x))
    names = dict(mlp.named_modules()).keys()
    monkeypatch.setattr(fast_math, "use_fast_math", lambda: False)
    assert fast_math.patch_activations(mlp) == 0 and type(mlp) is kind
    monkeypatch.setattr(fast_math, "use_fast_math", lambda: True)
    assert fast_math.patch_activations(mlp) == 1 and isinstance(mlp, kind) and dict(mlp.named_modules()).keys() == names
    np.testing.assert_allclose(np.array(mlp(x)), before, atol=1e-6)
    assert fast_math.patch_activations(mlp) == 0, "once is enough"
    mlp.set_dtype(mx.float64)
    mx.set_default_device(mx.cpu)
    np.testing.assert_array_equal(
        np.array(mlp(x.astype(mx.float64))), np.array(kind.__call__(mlp, x.astype(mx.float64)))
    )
