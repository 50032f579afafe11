"""Safe shapes, the learning rate and the settings' arithmetic, by tables and closed formulas."""

from __future__ import annotations

import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunder.cli import facts
from thunder.errors import UsageError
from thunder.lora.settings import LoraSettings
from thunder.training import safe_shapes
from thunder.training.safe_shapes import E2B_MULTIPLY_ADDS, Shape, judge
from thunder.training.schedule import learning_rate


@pytest.mark.parametrize(
    ("shape", "verdict"),
    [
        (Shape(1, 4, 256), "safe"),
        (Shape(1, 1, 32), "safe"),
        (Shape(2, 8, 512), "unsafe"),
        (Shape(4, 16, 2048), "unsafe"),
        (Shape(2, 4, 256), "unproven"),
        (Shape(1, 8, 512), "unproven"),
    ],
)
def test_the_known_shapes_are_on_their_sides(shape, verdict):
    assert judge(shape).verdict == verdict


SHAPES = st.builds(Shape, st.integers(1, 64), st.integers(1, 64), st.integers(8, 8192))


@given(SHAPES, st.floats(1e6, 1e11))
def test_the_nearest_safe_shape_is_safe_and_no_larger(shape, multiply_adds):
    found = judge(shape, multiply_adds)
    near = found.nearest_safe
    smallest = Shape(1, 1, min(32, shape.max_seq_length))
    assert judge(near, multiply_adds).verdict == "safe" or near == smallest
    assert all(asdict(near)[name] <= value for name, value in asdict(shape).items())
    if found.verdict == "safe":
        assert near == shape


@given(SHAPES, st.floats(1, 50))
def test_a_larger_shape_or_model_is_never_judged_safer(shape, factor):
    order = ["safe", "unproven", "unsafe"]
    larger = Shape(shape.batch_size + 1, shape.num_layers, shape.max_seq_length)
    assert order.index(judge(larger).verdict) >= order.index(judge(shape).verdict)
    heavier = judge(shape, E2B_MULTIPLY_ADDS * factor).verdict
    assert order.index(heavier) >= order.index(judge(shape).verdict)


UNSAFE = {"batch_size": 2, "num_layers": 6, "max_seq_length": 512}


def test_on_metal_an_unsafe_shape_is_refused_with_the_nearest_safe_one(monkeypatch, tiny_model):
    settings = LoraSettings(model=str(tiny_model), **UNSAFE)
    monkeypatch.setattr(facts.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(facts.model, "multiply_adds", lambda config: 4 * E2B_MULTIPLY_ADDS)
    with pytest.raises(UsageError) as caught:
        facts.of_train(settings, 1)
    assert "batch 2, 6 LoRA layers, 512 tokens" in caught.value.message
    assert "--batch-size 1 --num-layers 4 --max-seq-length 64" in caught.value.fix
    assert "--unsafe-shape" in caught.value.fix
    assert facts.of_train(settings.model_copy(update={"unsafe_shape": True}), 1)["shape"]["verdict"] == "unsafe"
    monkeypatch.setattr(facts.platform, "system", lambda: "Linux")
    assert facts.of_train(settings, 1)["shape"]["verdict"] == "unsafe"


def test_flags_of_a_shape():
    assert safe_shapes.as_flags(Shape(1, 2, 3)) == "--batch-size 1 --num-layers 2 --max-seq-length 3"


def test_warm_up_is_linear_and_the_decay_is_half_a_cosine():
    settings = LoraSettings(iters=110, warmup=10, learning_rate=2.0, lr_final=0.1)
    assert [learning_rate(step, settings) for step in (1, 5, 10)] == pytest.approx([0.2, 1.0, 2.0])
    assert learning_rate(60, settings) == pytest.approx((2.0 + 0.2) / 2)
    assert learning_rate(110, settings) == pytest.approx(0.2)
    for step in range(11, 111):
        wanted = 0.2 + 1.8 * (1 + math.cos(math.pi * (step - 10) / 100)) / 2
        assert learning_rate(step, settings) == pytest.approx(wanted)


def test_a_constant_rate():
    settings = LoraSettings(iters=50, learning_rate=3.0, lr_final=1.0)
    assert {learning_rate(step, settings) for step in range(1, 51)} == {3.0}


@given(iters=st.integers(1, 5000), accumulation=st.integers(1, 64))
def test_iterations_are_batches_and_no_batch_is_lost(iters, accumulation):
    settings = LoraSettings(iters=iters, grad_accumulation_steps=accumulation)
    assert (settings.total_updates - 1) * accumulation < iters <= settings.total_updates * accumulation
