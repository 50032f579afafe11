"""Fused weights compute what the base with its adapter computes."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from thunder.lora import adapters, base_model, fused_model
from thunder.lora.lora_settings import LoraSettings
from thunder.lora.prompts.load_prompts import load_prompt_format

IDS = mx.array([[2, 5, 9, 11, 30, 7]])


@pytest.fixture
def adapted(tiny_model):
    model = base_model.load_base_model(tiny_model)
    adapters.add_lora(model, LoraSettings(num_layers=2, lora_rank=2))
    mx.random.seed(1)
    noise = {name: mx.random.normal(array.shape) * 0.1 for name, array in adapters.disable_adapter(model).items()}
    adapters.enable_adapter(model, noise)
    model.eval()
    return model


def test_logits_are_equal_in_memory_and_from_the_folder(adapted, tiny_model, tmp_path):
    expected = np.array(adapted(IDS))
    fused = fused_model.fuse_adapter(adapted, dequantize=True)
    np.testing.assert_allclose(np.array(fused(IDS)), expected, atol=2e-4)
    fused_model.save_fused_model(tmp_path / "f", fused, tiny_model, load_prompt_format(tiny_model), True, {"a": 1})
    np.testing.assert_allclose(np.array(base_model.load_base_model(tmp_path / "f")(IDS)), expected, atol=2e-4)
    assert load_prompt_format(tmp_path / "f").stops == load_prompt_format(tiny_model).stops
