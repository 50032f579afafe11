"""Gemma 3n's engine equals mlx_lm's model as it generates, and mlx_lm's own step where no layer shares."""

from __future__ import annotations

import json

import mlx.core as mx
import numpy as np
import pytest
from conftest import TINY_GEMMA3N, random_gemma3n
from engine_oracle import VOCABULARY, distance, example, ours, quantised, rows_of, theirs, trainable
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten
from mlx_lm.models import gemma3n
from mlx_lm.tuner.trainer import grad_checkpoint
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import dequantize_model

from thunder.errors import ModelError
from thunder.lora import adapters
from thunder.lora.engine import build, choice, fast_math
from thunder.lora.engine.frozen_prefix_engine import Staged
from thunder.lora.engine.full_model_engine import full_logits
from thunder.lora.engine.gemma3n import Gemma3n
from thunder.lora.lora_settings import LoraSettings

LAYERS = TINY_GEMMA3N["num_hidden_layers"]


def fresh(shared=3, **changes):
    return random_gemma3n(
        **{"vocab_size": VOCABULARY, "vocab_size_per_layer_input": 90, "num_kv_shared_layers": shared} | changes
    )


def generating(network, ids):
    """mlx_lm's logits with its caches, empty at first."""
    return network(ids, cache=network.make_cache())


class Wide:
    """mlx.core where float32 is float64: mlx_lm puts AltUp's arithmetic into float32 whatever the model has."""

    float32 = mx.float64

    def __getattr__(self, name):
        return getattr(mx, name)


def theirs_in_float64(network, examples, logits=generating):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gemma3n, "mx", Wide())
        return theirs(network, examples, logits)


def in_float64(network, layers):
    network.set_dtype(mx.float64)
    network = trainable(network, layers)
    network.set_dtype(mx.float64)
    return network


@pytest.mark.expensive
@pytest.mark.parametrize(("shared", "logits"), [(3, generating), (0, None), (1, generating)])
@settings(max_examples=10)
@given(layers=st.integers(1, LAYERS), shapes=rows_of, beginning=st.sampled_from([0, 1, 17]), seed=st.integers(0, 999))
def test_loss_and_gradient_equal_mlx_lm_in_float64(shared, logits, layers, shapes, beginning, seed):
    """Without shared layers its own training step, with them its step on the model as it generates."""
    draw = np.random.default_rng(seed)
    start = draw.integers(1, VOCABULARY, beginning).tolist()
    examples = [example(draw, start, *shape) for shape in shapes]
    network = in_float64(fresh(shared), layers)
    loss, gradient = theirs_in_float64(network, examples, logits)
    engine = build.of_model(network, layers, examples)
    assert isinstance(engine, Staged) and isinstance(engine.trunk, Gemma3n)
    my_loss, my_gradient = ours(engine, examples)
    assert my_loss == pytest.approx(loss, rel=1e-6)
    assert distance(my_gradient, gradient) < 3e-6


@pytest.mark.parametrize(
    "changes",
    [
        {"altup_active_idx": 1, "altup_correct_scale": False},
        {"altup_coef_clip": 0.1, "altup_num_inputs": 2},
        {"altup_coef_clip": None, "activation_sparsity_pattern": [0.5] * 6, "final_logit_softcapping": None},
    ],
)
def test_what_a_config_may_say_otherwise(changes):
    draw = np.random.default_rng(6)
    examples = [example(draw, [4, 5, 6], *shape) for shape in ((9, 7), (20, 3))]
    network = in_float64(fresh(**changes), 5)
    loss, gradient = theirs_in_float64(network, examples)
    my_loss, my_gradient = ours(build.of_model(network, 5, examples), examples)
    assert my_loss == pytest.approx(loss, rel=1e-6) and distance(my_gradient, gradient) < 3e-6


def test_mlx_lms_step_without_a_cache_is_that_of_a_model_that_shares_nothing():
    """What mlx_lm.lora trains: the engine does it too, for a config with no shared layers. It is not what generates."""
    draw = np.random.default_rng(1)
    examples = [example(draw, [4, 5, 6], *shape) for shape in ((9, 7), (20, 3))]
    shares, alone = in_float64(fresh(3), 4), in_float64(fresh(0), 4)
    loss, gradient = theirs_in_float64(shares, examples, None)
    my_loss, my_gradient = ours(build.of_model(alone, 4, examples), examples)
    assert my_loss == pytest.approx(loss, rel=1e-6) and distance(my_gradient, gradient) < 3e-6
    assert abs(loss / theirs_in_float64(shares, examples)[0] - 1) > 1e-3


def test_a_whole_row_at_once_is_what_generating_it_token_by_token_gives():
    network, ids = fresh(), mx.array([np.random.default_rng(2).integers(1, VOCABULARY, 20).tolist()])
    cache = network.make_cache()
    steps = mx.concatenate([network(ids[:, place : place + 1], cache=cache) for place in range(20)], axis=1)
    np.testing.assert_allclose(np.array(full_logits(network, ids)), np.array(steps), atol=2e-4)
    assert mx.abs(network(ids) - steps).max().item() > 0.1, "mlx_lm shares without a cache now: full_logits can go"


@pytest.mark.parametrize("layers", [1, 3, 6])
def test_recomputed_activations_give_the_same_gradient(layers, monkeypatch):
    draw = np.random.default_rng(2)
    examples = [example(draw, [4, 5, 6], *shape) for shape in ((9, 7), (20, 3))]
    stock, network = (in_float64(fresh(), layers) for _ in range(2))
    wanted = theirs_in_float64(stock, examples)[1]
    block = type(network.layers[0])
    monkeypatch.setattr(block, "__call__", block.__call__)
    grad_checkpoint(network.layers[0])
    engine = build.of_model(network, layers, examples, recomputes=True)
    assert distance(ours(engine, examples)[1], wanted) < 3e-6


@pytest.mark.expensive
@pytest.mark.parametrize("bits", [32, 4])
@pytest.mark.parametrize("layers", [1, 3, 4, 6])
def test_in_float32_and_in_4_bits(layers, bits):
    """Random weights amplify what float32 rounds: mlx_lm's own gradient is as far from float64's as the engine's."""
    draw = np.random.default_rng(layers)
    examples = [example(draw, [7, 8, 9], *shape) for shape in ((9, 7), (25, 14), (3, 1), (12, 20))]
    network = fresh()
    network = trainable(quantised(network) if bits == 4 else network, layers)
    engine = build.of_model(network, layers, examples)
    cases = [(chosen, ours(engine, chosen), theirs(network, chosen, generating)) for chosen in (examples[:1], examples)]
    exact = dequantize_model(network)
    exact.set_dtype(mx.float64)
    exact.freeze()
    exact.unfreeze(keys=["lora_a", "lora_b"], strict=False)
    for chosen, (my_loss, mine), (loss, gradient) in cases:
        assert my_loss == pytest.approx(loss, rel=1e-5)
        wanted = theirs_in_float64(exact, chosen)[1]
        assert distance(mine, wanted) < max(1e-5, 2 * distance(gradient, wanted))


@pytest.mark.expensive
@pytest.mark.parametrize("layers", [2, 5])
def test_a_row_is_the_same_bytes_with_any_batch_mates(layers):
    draw = np.random.default_rng(3)
    examples = [example(draw, [5, 9, 2], int(p), int(a)) for p, a in draw.integers(1, 30, (30, 2))]
    engine = build.of_model(trainable(fresh(), layers), layers, examples)
    together = engine.prefix.compute(examples)
    alone = [engine.prefix.compute([each])[0] for each in examples]
    assert all(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))
    assert [len(entry) for entry in alone] == [engine.prefix.size(each) for each in examples]


@pytest.mark.parametrize("layers", [3, 6])
def test_the_quick_activations_change_the_last_digits_alone(layers, monkeypatch):
    draw = np.random.default_rng(4)
    examples = [example(draw, [], *shape) for shape in ((9, 7), (20, 3))]
    found = []
    for quick in (True, False):
        monkeypatch.setattr(fast_math, "wanted", lambda quick=quick: quick)
        found.append(ours(build.of_model(trainable(fresh(), layers), layers, examples), examples))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    assert 0 < distance(found[0][1], found[1][1]) < 1e-4


def test_padding_and_an_embedding_of_zeros_make_no_nan():
    network = fresh()
    network.model.language_model.embed_tokens.weight[0] = 0
    draw = np.random.default_rng(5)
    examples = [example(draw, [0, 3], *shape) for shape in ((1, 1), (30, 20))]
    loss, gradient = ours(build.of_model(trainable(network, LAYERS), LAYERS, examples), examples)
    assert np.isfinite(loss) and all(np.isfinite(array).all() for array in gradient.values())


def test_lora_lies_where_mlx_lm_would_put_it_but_for_what_it_could_not_run():
    stock, network = fresh(), fresh()
    stock.freeze()
    linear_to_lora_layers(stock, 2, {"rank": 2, "scale": 1.0, "dropout": 0.0})
    with pytest.raises(AttributeError, match="weight"):
        stock(mx.array([[1, 2]]))
    adapters.add(network, LoraSettings(num_layers=2, lora_rank=2))
    theirs_has, ours_has = (
        {name for name, _ in tree_flatten(each.trainable_parameters())} for each in (stock, network)
    )
    assert theirs_has - ours_has == {name for name in theirs_has if "_coefs." in name} and ours_has < theirs_has
    with pytest.raises(ModelError, match="altup.prediction_coefs"):
        adapters.add(fresh(), LoraSettings(lora_keys=["self_attn.q_proj", "altup.prediction_coefs"]))
    few = fresh()
    adapters.add(few, LoraSettings(num_layers=1, lora_keys=["self_attn.q_proj"]))
    assert {name.split(".")[-2] for name, _ in tree_flatten(few.trainable_parameters())} == {"q_proj"}


def test_mlx_lm_reads_the_adapter(tmp_path):
    options = LoraSettings(num_layers=2, lora_rank=2)
    network = trainable(fresh(), 2)
    adapters.save(tmp_path, network, options, 2, {})
    assert (
        "altup.modality_router" in json.loads((tmp_path / "adapter_config.json").read_text())["lora_parameters"]["keys"]
    )
    network.eval()
    ids = mx.array([[3, 1, 4, 1, 5]])
    other = load_adapters(fresh(), str(tmp_path))
    assert mx.array_equal(generating(other, ids), generating(network, ids)).item()


def test_the_plan_says_what_is_left_out():
    config = {"model_type": "gemma3n", "text_config": TINY_GEMMA3N}
    chosen = choice.choose(config, 2)
    assert chosen.name == "gemma3n"
    assert chosen.reason == (
        "head and the last 3 of 6 layers only at supervised positions; they take keys and values of earlier ones, as "
        "in generation; 4 frozen layers once for each row"
    )
