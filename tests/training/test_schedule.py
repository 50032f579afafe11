"""The learning rate by update, and the number of updates of a run."""

from __future__ import annotations

import math

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx.optimizers import linear_schedule

from thunder.lora.lora_settings import LoraSettings
from thunder.training.schedule import learning_rate


def test_warm_up_is_linear_and_the_decay_is_half_a_cosine():
    settings = LoraSettings(iters=110, warmup=10, learning_rate=2.0, lr_final=0.1)
    assert [learning_rate(step, settings) for step in (1, 5, 10)] == pytest.approx([0.2, 1.0, 2.0])
    assert learning_rate(60, settings) == pytest.approx((2.0 + 0.2) / 2)
    assert learning_rate(110, settings) == pytest.approx(0.2)
    for step in range(11, 111):
        wanted = 0.2 + 1.8 * (1 + math.cos(math.pi * (step - 10) / 100)) / 2
        assert learning_rate(step, settings) == pytest.approx(wanted)


def test_a_linear_decay_is_the_schedule_of_mlx():
    settings = LoraSettings(iters=100, learning_rate=2.0, lr_final=0.1, lr_scheduler_type="linear")
    reference = linear_schedule(2.0, 0.2, 100)
    for step in (1, 30, 77, 100):
        assert learning_rate(step, settings) == pytest.approx(reference(mx.array(step)).item())


def test_a_constant_rate():
    settings = LoraSettings(iters=50, learning_rate=3.0, lr_final=1.0)
    assert {learning_rate(step, settings) for step in range(1, 51)} == {3.0}


@given(iters=st.integers(1, 5000), accumulation=st.integers(1, 64))
def test_iterations_are_batches_and_no_batch_is_lost(iters, accumulation):
    settings = LoraSettings(iters=iters, grad_accumulation_steps=accumulation)
    assert (settings.total_updates - 1) * accumulation < iters <= settings.total_updates * accumulation
