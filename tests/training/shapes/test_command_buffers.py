"""Commands of a layer's matrices: the products are those of MLX's own graph, the bytes are counted by hand."""

from __future__ import annotations

from dataclasses import replace

import mlx.core as mx
import pytest
from costed_models import GEMMA4, multiply_adds_of
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx import nn
from mlx_lm.tuner.lora import LoRALinear

from thunder.training.shapes.command_buffers import FLOAT32, CommandBuilder, TrainingShape
from thunder.training.shapes.model_size import model_size_from_config

SIZE = model_size_from_config(GEMMA4)


def lora_layer(wide_in, wide_out, rank):
    layer = LoRALinear.from_base(nn.Linear(wide_in, wide_out, bias=False), r=rank)
    layer.freeze()
    layer.unfreeze(keys=["lora_a", "lora_b"])
    return layer


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(2, 9), st.integers(2, 12), st.integers(2, 12), st.integers(2, 5))
def test_a_layer_with_lora_has_the_products_of_mlx_lms(batch, length, wide_in, wide_out, rank):
    builder = CommandBuilder(SIZE, TrainingShape(batch, 1, length, rank))
    layer, x = lora_layer(wide_in, wide_out, rank), mx.zeros((batch, length, wide_in))
    forward = sum(each.multiply_adds for each in builder.linear("q", builder.all, wide_in, wide_out, trained=True))
    assert forward == multiply_adds_of(layer, x)
    plain = sum(each.multiply_adds for each in builder.linear("q", builder.all, wide_in, wide_out, trained=False))
    assert plain == multiply_adds_of(layer.linear, x)

    weights = layer.trainable_parameters()

    def loss(weights, x):
        layer.update(weights)
        return (layer(x) ** 2).sum()

    def of_weights(a, b, x):
        return list(mx.grad(loss)({"lora_a": a, "lora_b": b}, x).values())

    def of_weights_and_input(a, b, x):
        gradients, by_input = mx.grad(loss, argnums=(0, 1))({"lora_a": a, "lora_b": b}, x)
        return [*gradients.values(), by_input]

    arrays = weights["lora_a"], weights["lora_b"], x
    own = builder.lora_gradient("q", builder.all, wide_in, wide_out, through=False).multiply_adds
    assert forward + own == multiply_adds_of(of_weights, *arrays)
    both = builder.lora_gradient("q", builder.all, wide_in, wide_out, through=True).multiply_adds
    both += builder.through("q, backward", builder.all, wide_in, wide_out).multiply_adds
    assert forward + both == multiply_adds_of(of_weights_and_input, *arrays)


def test_the_bytes_of_a_matrix_by_hand():
    builder = CommandBuilder(replace(SIZE, bits=0, activation=2), TrainingShape(1, 1, 10))
    command = builder.matrix("q", 10, 64, 128)
    assert (command.kind, command.bytes, command.weights) == ("matrix", 2 * (64 * 128 + 10 * 64 + 10 * 128), 64 * 128)
    four_bits = CommandBuilder(replace(SIZE, bits=4, group=64, activation=2), TrainingShape(1, 1, 10))
    command = four_bits.matrix("q", 10, 64, 128)
    # half a byte a weight, and a scale and a bias of two bytes for each 64 of them
    assert command.kind == "quantised"
    assert command.bytes == pytest.approx(64 * 128 / 2 + 64 * 128 / 64 * 4 + 2 * 10 * (64 + 128))
    matrix, lora = builder.linear("q", 10, 64, 128, trained=True)
    assert matrix.kept == 10 * 128 * 2 and lora.kept == 10 * (8 + 128) * FLOAT32


def test_layers_above_the_last_keys_run_at_supervised_positions_only():
    """Of six layers that share in threes, the third is the last that makes keys."""
    shape = TrainingShape(2, 4, 7, path="supervised", supervised_share=0.3)
    builder = CommandBuilder(SIZE, shape)
    assert shape.supervised == 3, "2.1 rounded up"
    assert [builder.positions(number) for number in range(6)] == [14, 14, 6, 6, 6, 6]
    plain = CommandBuilder(SIZE, replace(shape, path="plain"))
    assert {plain.positions(number) for number in range(6)} == {14}
    assert str(shape) == "batch 2, 4 LoRA layers, 7 tokens"
