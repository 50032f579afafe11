"""What a step costs, against the graph that MLX makes of it, its real memory, and a brute-force cut of buffers."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import mlx.core as mx
import pytest
from conftest import TINY_GEMMA3N
from costed_models import CONFIGS, GEMMA3, GEMMA3N, GEMMA4, WITHOUT_SHARING, network_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mlx import nn
from mlx.utils import tree_flatten

from thunder.lora.engine.full_model_engine import supervised_loss
from thunder.training import step
from thunder.training.shapes.model_size import E2B_CONFIG, model_size_from_config
from thunder.training.shapes.step_cost import GpuCommand, TrainingShape, command_buffers, step_cost
from thunder.training.task import Batch

WIDE = GEMMA4 | {"hidden_size": 64, "intermediate_size": 256, "vocab_size": 3000, "vocab_size_per_layer_input": 3000}
WIDE_3N = GEMMA3N | {
    "text_config": TINY_GEMMA3N
    | {"hidden_size": 64, "intermediate_size": [256] * 6, "vocab_size": 3000, "vocab_size_per_layer_input": 3000}
}


def gradient_of(network):
    value_and_grad = nn.value_and_grad(network, lambda ids, spans: supervised_loss(network, ids, spans))

    def run(ids, spans):
        loss, gradients = value_and_grad(ids, spans)
        return [loss, *(array for _, array in tree_flatten(gradients))]

    return run


def inputs(batch, length):
    return mx.zeros((batch, length + 1), mx.int32), mx.array([[length // 2, length]] * batch)


def traced(config, shape):
    """Multiply-adds of all matrix products in the graph of a forward and backward pass."""
    total = 0

    def on_node(node):
        nonlocal total
        if node.get("type") == "primitive" and node["name"] == "Matmul":
            total += math.prod(node["outputs"][0][1]) * node["inputs"][0][1][-1]

    network = network_of(config, shape.num_layers, shape.lora_rank)
    mx.export_function(on_node, gradient_of(network), *inputs(shape.batch_size, shape.max_seq_length))
    return total


@pytest.mark.expensive
@settings(max_examples=8)
@given(st.sampled_from(CONFIGS), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3))
@example(GEMMA4, 1, 1, 1)
@example(GEMMA4, 3, 2, 2)
@example(GEMMA4, 6, 1, 1)
@example(WITHOUT_SHARING, 6, 2, 1)
@example(GEMMA3, 4, 1, 2)
@example(GEMMA3N, 1, 1, 1)
@example(GEMMA3N, 3, 2, 2)
@example(GEMMA3N, 4, 1, 1)
@example(GEMMA3N, 6, 2, 1)
def test_multiply_adds_are_those_of_the_real_graph(config, layers, batch, length):
    shape = TrainingShape(batch, min(layers, len(model_size_from_config(config).layers)), 16 * length, lora_rank=4)
    size = model_size_from_config(config)
    assert size is not None
    assert step_cost(size, shape).multiply_adds == traced(config, shape)


class Repeating:
    """As much of a task as `make_gradient` asks for."""

    def __init__(self, network):
        self.model = network

    compiled = True
    loss = staticmethod(supervised_loss)


@pytest.mark.slow  # MLX compiles the graph's fused parts with the machine's C++ compiler first
@pytest.mark.parametrize("config", [WIDE, WIDE_3N], ids=["gemma4", "gemma3n"])
@pytest.mark.parametrize(("kind", "layers", "batch"), [("float32", 1, 4), ("float32", 4, 4), ("bfloat16", 2, 1)])
def test_the_peak_is_near_the_real_one(kind, layers, batch, config):
    """The calculation shall not be far too low, nor so high that it is of no use."""
    network = network_of(config, layers, rank=8)
    network.freeze()
    if kind == "bfloat16":
        network.set_dtype(mx.bfloat16)
    network.unfreeze(keys=["lora_a", "lora_b"], strict=False)
    mx.eval(network.parameters())
    gradient, given_to = step.make_gradient(Repeating(network)), Batch(inputs(batch, 128), 1)
    gradient(given_to)
    mx.clear_cache()
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    gradient(given_to)
    size = model_size_from_config(config | {"dtype": kind})
    found = step_cost(size, TrainingShape(batch, layers, 128)).peak_bytes - size.weights * size.weight
    assert 0.75 < found / (mx.get_peak_memory() - held) < 1.6


def test_recomputing_takes_less_memory_and_more_work():
    size = model_size_from_config(E2B_CONFIG)
    plain, again = (
        step_cost(size, TrainingShape(2, 16, 512)),
        step_cost(size, TrainingShape(2, 16, 512, grad_checkpoint=True)),
    )
    assert again.peak_bytes < 0.8 * plain.peak_bytes and again.multiply_adds > plain.multiply_adds
    trained = sum(each.multiply_adds for each in plain.forward if "head" not in each.part)
    assert again.multiply_adds - plain.multiply_adds == trained


def test_the_published_products_of_e2b():
    """The design's paper count: 160 tokens, 48 of them supervised, 4 layers."""
    size = model_size_from_config(E2B_CONFIG)
    plain = step_cost(size, TrainingShape(1, 4, 160))
    assert sum(each.multiply_adds for each in plain.below + plain.forward) == pytest.approx(365e9, rel=0.03)
    assert sum(each.multiply_adds for each in plain.backward) == pytest.approx(106e9, rel=0.03)
    few = step_cost(size, TrainingShape(1, 4, 160, path="supervised", supervised_share=0.3))
    assert few.multiply_adds == pytest.approx(200e9, rel=0.06)


SHAPES = st.builds(
    TrainingShape, st.integers(1, 6), st.integers(1, 6), st.integers(8, 300), st.integers(1, 16), st.booleans(),
    st.sampled_from(["plain", "supervised"]), st.floats(0.05, 1.0),
)  # fmt: skip


@settings(max_examples=40)
@given(SHAPES, st.sampled_from(["batch_size", "num_layers", "max_seq_length", "lora_rank"]), st.integers(1, 4))
def test_more_of_anything_costs_no_less(shape, field, more):
    size = model_size_from_config(GEMMA4)
    small, large = step_cost(size, shape), step_cost(size, replace(shape, **{field: getattr(shape, field) + more}))
    assert large.multiply_adds >= small.multiply_adds
    assert large.peak_bytes >= small.peak_bytes


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(0, 4))
def test_every_real_buffer_lies_inside_one_that_is_looked_at(seed, operations, megabytes):
    """MLX's own rule, command after command, with activations counted too, begun at any command."""
    draw = random.Random(seed)
    stretch = [
        GpuCommand(str(number), "matrix", 1.0, 1.0, draw.choice((0, 10, 2**20, 3 * 2**20)), draw.randint(1, 6))
        for number in range(draw.randint(1, 40))
    ]
    looked_at = [{each.part for each in run} for run in command_buffers(stretch, operations, megabytes)]
    start = draw.randrange(len(stretch))
    held, dispatched, numbers = set(), 0, 0
    for each in stretch[start:]:
        held, dispatched = held | {each.part}, dispatched + each.dispatches
        numbers += each.weights + draw.choice((0, 5000, 2**19))
        if dispatched > operations or (numbers >> 20) > megabytes:
            assert any(held <= run for run in looked_at)
            held, dispatched, numbers = set(), 0, 0
    assert any(held <= run for run in looked_at) or not held
    assert all(run for run in looked_at)
