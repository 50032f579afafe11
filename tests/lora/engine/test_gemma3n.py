"""Gemma 3n's engine equals mlx_lm's model as it generates, and mlx_lm's own step where no layer shares."""

from __future__ import annotations

import json

import mlx.core as mx
import numpy as np
import pytest
from conftest import TINY_GEMMA3N, random_gemma3n
from engine_oracle import (
    VOCABULARY,
    distance,
    engine_loss_and_gradient,
    mlx_lm_loss_and_gradient,
    quantized,
    random_example,
    row_shapes,
    trainable,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten
from mlx_lm.models import gemma3n
from mlx_lm.tuner.trainer import grad_checkpoint
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import dequantize_model

from thunder.errors import ModelError
from thunder.lora import adapters
from thunder.lora.engine import fast_math
from thunder.lora.engine.engine_choice import make_engine
from thunder.lora.engine.frozen_prefix_engine import FrozenPrefixEngine
from thunder.lora.engine.full_model_engine import full_logits
from thunder.lora.engine.gemma3n import SplitGemma3n
from thunder.lora.lora_settings import LoraSettings

LAYERS = TINY_GEMMA3N["num_hidden_layers"]


def fresh(shared=3, **changes):
    return random_gemma3n(
        **{"vocab_size": VOCABULARY, "vocab_size_per_layer_input": 90, "num_kv_shared_layers": shared} | changes
    )


def generating(network, ids):
    """mlx_lm's logits with its caches, empty at first."""
    return network(ids, cache=network.make_cache())


class Float64Mlx:
    """mlx.core with float64 for float32: mlx_lm computes AltUp in float32 whatever the model's dtype is."""

    float32 = mx.float64

    def __getattr__(self, name):
        return getattr(mx, name)


def mlx_lm_in_float64(network, examples, logits=generating):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gemma3n, "mx", Float64Mlx())
        return mlx_lm_loss_and_gradient(network, examples, logits)


def in_float64(network, layers):
    network.set_dtype(mx.float64)
    network = trainable(network, layers)
    network.set_dtype(mx.float64)
    return network


@pytest.mark.expensive
@pytest.mark.parametrize(("shared", "logits"), [(3, generating), (0, None), (1, generating)])
@settings(max_examples=10)
@given(
    layers=st.integers(1, LAYERS), shapes=row_shapes, beginning=st.sampled_from([0, 1, 17]), seed=st.integers(0, 999)
)
def test_loss_and_gradient_equal_mlx_lm_in_float64(shared, logits, layers, shapes, beginning, seed):
    """Without shared layers: mlx_lm's training step. With them: its step on the model as it generates."""
    draw = np.random.default_rng(seed)
    start = draw.integers(1, VOCABULARY, beginning).tolist()
    examples = [random_example(draw, start, *shape) for shape in shapes]
    network = in_float64(fresh(shared), layers)
    loss, gradient = mlx_lm_in_float64(network, examples, logits)
    engine = make_engine(network, layers, examples)
    assert isinstance(engine, FrozenPrefixEngine) and isinstance(engine.split, SplitGemma3n)
    engine_loss, engine_gradient = engine_loss_and_gradient(engine, examples)
    assert engine_loss == pytest.approx(loss, rel=1e-6)
    assert distance(engine_gradient, gradient) < 3e-6


@pytest.mark.parametrize(
    "changes",
    [
        {"altup_active_idx": 1, "altup_correct_scale": False},
        {"altup_coef_clip": 0.1, "altup_num_inputs": 2},
        {"altup_coef_clip": None, "activation_sparsity_pattern": [0.5] * 6, "final_logit_softcapping": None},
    ],
)
def test_other_values_of_the_config(changes):
    draw = np.random.default_rng(6)
    examples = [random_example(draw, [4, 5, 6], *shape) for shape in ((9, 7), (20, 3))]
    network = in_float64(fresh(**changes), 5)
    loss, gradient = mlx_lm_in_float64(network, examples)
    engine_loss, engine_gradient = engine_loss_and_gradient(make_engine(network, 5, examples), examples)
    assert engine_loss == pytest.approx(loss, rel=1e-6) and distance(engine_gradient, gradient) < 3e-6


def test_mlx_lms_step_without_a_cache_is_that_of_a_model_that_shares_nothing():
    """mlx_lm.lora trains that model, as does the engine for a config without shared layers; another model generates."""
    draw = np.random.default_rng(1)
    examples = [random_example(draw, [4, 5, 6], *shape) for shape in ((9, 7), (20, 3))]
    shares, alone = in_float64(fresh(3), 4), in_float64(fresh(0), 4)
    loss, gradient = mlx_lm_in_float64(shares, examples, None)
    engine_loss, engine_gradient = engine_loss_and_gradient(make_engine(alone, 4, examples), examples)
    assert engine_loss == pytest.approx(loss, rel=1e-6) and distance(engine_gradient, gradient) < 3e-6
    assert abs(loss / mlx_lm_in_float64(shares, examples)[0] - 1) > 1e-3


def test_a_whole_row_at_once_is_what_generating_it_token_by_token_gives():
    network, ids = fresh(), mx.array([np.random.default_rng(2).integers(1, VOCABULARY, 20).tolist()])
    cache = network.make_cache()
    steps = mx.concatenate([network(ids[:, place : place + 1], cache=cache) for place in range(20)], axis=1)
    np.testing.assert_allclose(np.array(full_logits(network, ids)), np.array(steps), atol=2e-4)
    assert mx.abs(network(ids) - steps).max().item() > 0.1, "mlx_lm shares without a cache now: full_logits can go"


@pytest.mark.parametrize("layers", [1, 3, 6])
def test_recomputed_activations_give_the_same_gradient(layers, monkeypatch):
    draw = np.random.default_rng(2)
    examples = [random_example(draw, [4, 5, 6], *shape) for shape in ((9, 7), (20, 3))]
    stock, network = (in_float64(fresh(), layers) for _ in range(2))
    expected = mlx_lm_in_float64(stock, examples)[1]
    block = type(network.layers[0])
    monkeypatch.setattr(block, "__call__", block.__call__)
    grad_checkpoint(network.layers[0])
    engine = make_engine(network, layers, examples, recompute=True)
    assert distance(engine_loss_and_gradient(engine, examples)[1], expected) < 3e-6


@pytest.mark.expensive
@pytest.mark.parametrize("bits", [32, 4])
@pytest.mark.parametrize("layers", [1, 3, 4, 6])
def test_in_float32_and_in_4_bits(layers, bits):
    """Random weights amplify what float32 rounds: mlx_lm's own gradient is as far from float64's as the engine's."""
    draw = np.random.default_rng(layers)
    examples = [random_example(draw, [7, 8, 9], *shape) for shape in ((9, 7), (25, 14), (3, 1), (12, 20))]
    network = fresh()
    network = trainable(quantized(network) if bits == 4 else network, layers)
    engine = make_engine(network, layers, examples)
    cases = [
        (chosen, engine_loss_and_gradient(engine, chosen), mlx_lm_loss_and_gradient(network, chosen, generating))
        for chosen in (examples[:1], examples)
    ]
    exact = dequantize_model(network)
    exact.set_dtype(mx.float64)
    exact.freeze()
    exact.unfreeze(keys=["lora_a", "lora_b"], strict=False)
    for chosen, (engine_loss, computed), (loss, gradient) in cases:
        assert engine_loss == pytest.approx(loss, rel=1e-5)
        expected = mlx_lm_in_float64(exact, chosen)[1]
        assert distance(computed, expected) < max(1e-5, 2 * distance(gradient, expected))


@pytest.mark.expensive
@pytest.mark.parametrize("layers", [2, 5])
def test_a_row_is_the_same_bytes_with_any_batch_mates(layers):
    draw = np.random.default_rng(3)
    examples = [random_example(draw, [5, 9, 2], int(p), int(a)) for p, a in draw.integers(1, 30, (30, 2))]
    engine = make_engine(trainable(fresh(), layers), layers, examples)
    in_batches = engine.prefix.compute_entries(examples)
    alone = [engine.prefix.compute_entries([each])[0] for each in examples]
    assert all(np.array_equal(a, b) for a, b in zip(in_batches, alone, strict=True))
    assert [len(entry) for entry in alone] == [engine.prefix.entry_nbytes(each) for each in examples]


@pytest.mark.parametrize("layers", [3, 6])
def test_the_fast_activations_change_the_last_digits_alone(layers, monkeypatch):
    draw = np.random.default_rng(4)
    examples = [random_example(draw, [], *shape) for shape in ((9, 7), (20, 3))]
    results = []
    for quick in (True, False):
        monkeypatch.setattr(fast_math, "use_fast_math", lambda quick=quick: quick)
        results.append(engine_loss_and_gradient(make_engine(trainable(fresh(), layers), layers, examples), examples))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    assert 0 < distance(results[0][1], results[1][1]) < 1e-4


def test_padding_and_an_embedding_of_zeros_make_no_nan():
    network = fresh()
    network.model.language_model.embed_tokens.weight[0] = 0
    draw = np.random.default_rng(5)
    examples = [random_example(draw, [0, 3], *shape) for shape in ((1, 1), (30, 20))]
    loss, gradient = engine_loss_and_gradient(make_engine(trainable(network, LAYERS), LAYERS, examples), examples)
    assert np.isfinite(loss) and all(np.isfinite(array).all() for array in gradient.values())


def test_lora_is_where_mlx_lm_puts_it_except_where_it_could_not_run():
    stock, network = fresh(), fresh()
    stock.freeze()
    linear_to_lora_layers(stock, 2, {"rank": 2, "scale": 1.0, "dropout": 0.0})
    with pytest.raises(AttributeError, match="weight"):
        stock(mx.array([[1, 2]]))
    adapters.add_lora(network, LoraSettings(num_layers=2, lora_rank=2))
    stock_names, names = ({name for name, _ in tree_flatten(each.trainable_parameters())} for each in (stock, network))
    assert stock_names - names == {name for name in stock_names if "_coefs." in name} and names < stock_names
    with pytest.raises(ModelError, match="altup.prediction_coefs"):
        adapters.add_lora(fresh(), LoraSettings(lora_keys=["self_attn.q_proj", "altup.prediction_coefs"]))
    few = fresh()
    adapters.add_lora(few, LoraSettings(num_layers=1, lora_keys=["self_attn.q_proj"]))
    assert {name.split(".")[-2] for name, _ in tree_flatten(few.trainable_parameters())} == {"q_proj"}


def test_mlx_lm_reads_the_adapter(tmp_path):
    options = LoraSettings(num_layers=2, lora_rank=2)
    network = trainable(fresh(), 2)
    adapters.save_adapter(tmp_path, network, options, 2, {})
    assert (
        "altup.modality_router" in json.loads((tmp_path / "adapter_config.json").read_text())["lora_parameters"]["keys"]
    )
    network.eval()
    ids = mx.array([[3, 1, 4, 1, 5]])
    loaded = load_adapters(fresh(), str(tmp_path))
    assert mx.array_equal(generating(loaded, ids), generating(network, ids)).item()
