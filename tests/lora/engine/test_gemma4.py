"""Gemma 4's parts by themselves, against mlx_lm's own: per-layer inputs, keys and values, sharing, the window."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from split_models import LAYERS, SMALL, fresh

from thunder.lora.engine.attention_inputs import PrefixKVCache
from thunder.lora.engine.gemma4 import SplitGemma4

IDS = mx.array(np.random.default_rng(0).integers(1, 90, (2, 9)))


@pytest.mark.parametrize(("low", "high"), [(0, LAYERS), (1, 3), (4, 6)])
def test_per_layer_inputs_are_mlx_lms_columns(low, high):
    network = fresh("gemma4_text")
    split = SplitGemma4(network, 2)
    found = split.per_layer_inputs(IDS, split.embed(IDS), low, high)
    embedded = network.model.embed_tokens(IDS) * SMALL["hidden_size"] ** 0.5
    whole = network.model._project_per_layer_inputs(embedded, network.model._get_per_layer_inputs(IDS, embedded))
    np.testing.assert_allclose(np.array(found), np.array(whole[:, :, low:high]), atol=1e-5)


def test_a_model_without_them_and_a_range_of_no_layers_have_none():
    for kind, high in (("gemma4 without sharing", 3), ("gemma4_text", 1)):
        split = SplitGemma4(fresh(kind), 2)
        assert split.per_layer_inputs(IDS, split.embed(IDS), 1, high) is None


@pytest.mark.parametrize("kind", ["gemma4_text", "gemma4 without sharing"])
@pytest.mark.parametrize("layer", [0, 2])
def test_keys_and_values_are_those_that_the_layer_puts_into_its_cache(kind, layer):
    """Layer 0 slides, layer 2 does not; without sharing, layer 2's values are its keys before the norms."""
    split = SplitGemma4(fresh(kind), 2)
    hidden = mx.random.normal((2, 9, SMALL["hidden_size"]), key=mx.random.key(3))
    extra = split.per_layer_inputs(IDS, split.embed(IDS), layer, layer + 1)
    cache = PrefixKVCache(None, 5)
    split.forward_all(layer, hidden, "causal", None if extra is None else extra[:, :, 0], cache)
    for found, expected in zip(split.project_keys_values(layer, hidden, 5), cache.keys_values, strict=True):
        np.testing.assert_allclose(np.array(found), np.array(expected), atol=1e-5)


def test_the_second_half_attends_to_the_last_keys_of_its_kind():
    split = SplitGemma4(fresh("gemma4"), 2)
    assert [split.kv_source(layer) for layer in range(LAYERS)] == [0, 1, 2, 1, 1, 2]
    window = SMALL["sliding_window"]
    assert [split.attention_window(layer) for layer in range(LAYERS)] == [window, window, None] * 2
    assert split.kv_boundary == 2 and SplitGemma4(fresh("gemma4 without sharing"), 2).kv_boundary == LAYERS - 1
