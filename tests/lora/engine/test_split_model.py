"""A split model's layers one after the other, with and without a shared prefix, are mlx_lm's whole model."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from split_models import LAYERS, fresh

from thunder.lora.engine.attention_inputs import SharedPrefix, SupervisedPositions
from thunder.lora.engine.gemma3 import SplitGemma3
from thunder.lora.engine.gemma4 import SplitGemma4

LENGTH, START = 20, 11


def split_of(kind, trained):
    network = fresh(kind)
    network.set_dtype(mx.float64)
    return network, (SplitGemma3 if kind.startswith("gemma3") else SplitGemma4)(network, trained)


def logits_of(split, hidden):
    project = getattr(split.output_projection, "as_linear", split.output_projection)
    logits = project(split.final_norm(hidden))
    cap = split.logit_softcap
    return logits if cap is None else mx.tanh(logits / cap) * cap


def per_layer_inputs(split, ids, supervised):
    embedded = split.embed(ids)
    below = split.per_layer_inputs(ids, embedded, 0, split.kv_boundary)
    above = split.per_layer_inputs(
        supervised.gather(ids), supervised.gather(embedded), split.kv_boundary, split.num_layers
    )
    return embedded, (below, above)


@pytest.mark.parametrize("kind", ["gemma4_text", "gemma4 without sharing", "gemma3"])
def test_all_layers_give_mlx_lms_logits_at_supervised_positions(kind):
    network, split = split_of(kind, 2)
    ids = mx.array(np.random.default_rng(0).integers(1, 90, (3, LENGTH)))
    supervised = SupervisedPositions(mx.array([START] * 3), mx.array([LENGTH] * 3), LENGTH - START)
    embedded, per_layer = per_layer_inputs(split, ids, supervised)
    hidden = split.forward_layers(embedded, range(LAYERS), supervised, per_layer, {})
    expected = np.array(network(ids)[:, START:])
    np.testing.assert_allclose(np.array(logits_of(split, hidden)), expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["gemma4_text", "gemma3"])
def test_rows_behind_a_shared_prefix_are_those_of_the_whole_rows(kind):
    network, split = split_of(kind, 2)
    draw, shared = np.random.default_rng(1), 7
    ids = np.concatenate([np.tile(draw.integers(1, 90, shared), (3, 1)), draw.integers(1, 90, (3, 13))], 1)
    prefix_ids, rest = mx.array(ids[:1, :shared]), mx.array(ids[:, shared:])
    first = SupervisedPositions(mx.array([0]), mx.array([shared]), 1)
    embedded, per_layer = per_layer_inputs(split, prefix_ids, first)
    keys_values = {}
    hidden = split.forward_layers(
        embedded, range(split.kv_boundary), first, per_layer, keys_values, keep_all_keys_values=True
    )
    keys_values[split.kv_boundary] = split.project_keys_values(split.kv_boundary, hidden, 0)
    prefix = SharedPrefix(tuple(ids[0, :shared].tolist()), keys_values)
    supervised = SupervisedPositions(mx.array([START] * 3), mx.array([LENGTH] * 3), LENGTH - START, offset=shared)
    embedded, per_layer = per_layer_inputs(split, rest, supervised)
    hidden = split.forward_layers(embedded, range(LAYERS), supervised, per_layer, {}, prefix)
    expected = np.array(network(mx.array(ids))[:, START:])
    np.testing.assert_allclose(np.array(logits_of(split, hidden)), expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("trained", "kv_layers", "names"),
    [
        (1, (2,), ["hidden", "above", "keys.2", "values.2"]),
        (3, (1, 2), ["hidden", "above", "keys.1", "values.1", "keys.2", "values.2"]),
        (4, (1,), ["hidden", "above", "keys.1", "values.1"]),
        (6, (), ["hidden", "below", "above"]),
    ],
)
def test_an_entry_holds_what_the_trained_layers_need_of_the_frozen_ones(trained, kv_layers, names):
    """Of six layers the second half attends to keys of layers 1 (sliding) and 2 (full)."""
    _, split = split_of("gemma4_text", trained)
    assert (split.kv_boundary, split.cached_kv_layers) == (2, kv_layers)
    assert [spec.name for spec in split.cached_tensors] == names
    assert split.cached_tensors[0].positions == ("supervised" if trained <= 3 else "all")
