"""The engines have the loss and gradient of mlx_lm on the same rows, whatever computation they skip."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
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
from mlx_lm.tuner.trainer import grad_checkpoint
from split_models import KINDS, LAYERS, fresh

from thunder.lora import base_model, tokenized_rows
from thunder.lora.engine.engine_choice import make_engine
from thunder.lora.engine.frozen_prefix_engine import FrozenPrefixEngine
from thunder.lora.lora_settings import EMBEDDED_MODEL
from thunder.lora.prompts.load_prompts import load_prompt_format
from thunder.lora.tokenized_rows import Example


@pytest.mark.expensive
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12)
@given(
    layers=st.integers(1, LAYERS), shapes=row_shapes, beginning=st.sampled_from([0, 1, 17]), seed=st.integers(0, 999)
)
def test_loss_and_gradient_equal_mlx_lm_in_float64(kind, layers, shapes, beginning, seed):
    """In float64, so that rounding hides no difference; mlx_lm's cross entropy uses float32 in places."""
    draw = np.random.default_rng(seed)
    start = draw.integers(1, VOCABULARY, beginning).tolist()
    examples = [random_example(draw, start, *shape) for shape in shapes]
    network = fresh(kind)
    network.set_dtype(mx.float64)
    network = trainable(network, layers)
    network.set_dtype(mx.float64)
    loss, gradient = mlx_lm_loss_and_gradient(network, examples)
    engine = make_engine(network, layers, examples)
    assert isinstance(engine, FrozenPrefixEngine)
    engine_loss, engine_gradient = engine_loss_and_gradient(engine, examples)
    assert engine_loss == pytest.approx(loss, rel=1e-6)
    assert distance(engine_gradient, gradient) < 3e-6


@pytest.mark.parametrize("kind", ["gemma4", "gemma3"])
@pytest.mark.parametrize("layers", [1, 5])
def test_recomputed_activations_give_the_same_gradient(kind, layers, monkeypatch):
    """mlx_lm changes the class of the layers permanently; the test restores it."""
    draw = np.random.default_rng(2)
    examples = [random_example(draw, [4, 5, 6], *shape) for shape in ((9, 7), (20, 3))]
    stock, network = ((trainable(fresh(kind), layers)) for _ in range(2))
    for each in (stock, network):
        each.set_dtype(mx.float64)
    expected = mlx_lm_loss_and_gradient(stock, examples)[1]
    block = type(network.layers[0])
    monkeypatch.setattr(block, "__call__", block.__call__)
    grad_checkpoint(network.layers[0])
    engine = make_engine(network, layers, examples, recompute=True)
    assert distance(engine_loss_and_gradient(engine, examples)[1], expected) < 3e-6


def sample(count: int) -> list[Example]:
    """Rows of the sample corpus for the shipped model: they begin with the same instruction."""
    from thunder.corpora.rows import chat_rows
    from thunder.lora.lora_settings import EMBEDDED_DATA

    chosen = chat_rows.read_rows(EMBEDDED_DATA / "train.jsonl").rows[:count]
    return list(tokenized_rows.encode_rows(chosen, load_prompt_format(EMBEDDED_MODEL), 256).examples)


@pytest.mark.expensive
@pytest.mark.parametrize("bits", [32, 4])
@pytest.mark.parametrize("layers", [1, 4, 5, 8])
def test_the_shipped_model_in_float32_and_in_4_bits(layers, bits):
    def loaded():
        network = base_model.load_base_model(EMBEDDED_MODEL)
        return trainable(quantized(network) if bits == 4 else network, layers)

    network, everything = loaded(), sample(12)
    engine = make_engine(loaded(), layers, everything)  # of its own: an engine may patch a model's activations
    assert len(engine.prefix.shared_ids) > 10, "the instruction"
    for examples in (everything[:1], everything[4:8]):
        loss, gradient = mlx_lm_loss_and_gradient(network, examples)
        engine_loss, engine_gradient = engine_loss_and_gradient(engine, examples)
        assert engine_loss == pytest.approx(loss, rel=1e-5)
        assert distance(engine_gradient, gradient) < 1e-5


def test_dropout_falls_on_trained_layers_alone():
    """The frozen part of a row is the same in every step; the trained layers' output is not."""
    draw = np.random.default_rng(6)
    examples = [random_example(draw, [], 20, 10) for _ in range(3)]
    engine = make_engine(trainable(fresh("gemma4"), 3, dropout=0.3), 3, examples)
    first, second = engine.batch(examples), engine.batch(examples)
    assert all(mx.array_equal(a, b).item() for a, b in zip(first.arrays, second.arrays, strict=True))
    mx.random.seed(0)
    one, two = (engine.loss(engine.model, *first.arrays).item() for _ in range(2))
    assert abs(one - two) > 1e-3
    engine.model.eval()
    one, two = (engine.loss(engine.model, *first.arrays).item() for _ in range(2))
    assert one == two


def test_trained_parameters_keep_their_names():
    network = trainable(fresh("gemma4"), 2)
    engine = make_engine(network, 2, [random_example(np.random.default_rng(1), [], 3, 3)])
    names = dict(tree_flatten(network.trainable_parameters())).keys()
    assert dict(tree_flatten(engine.model.trainable_parameters())).keys() == names
    engine.model.load_weights([(name, mx.ones((2, 2))) for name in names if name.endswith("lora_a")], strict=False)
    assert all(a.shape == (2, 2) for n, a in tree_flatten(network.trainable_parameters()) if n.endswith("lora_a"))
