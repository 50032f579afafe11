"""Positions, masks and caches of a split model's attention, against loops over positions and mlx_lm's masks."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx_lm.models.base import create_causal_mask

from thunder.lora.engine import attention_inputs
from thunder.lora.engine.attention_inputs import FixedKVCache, PrefixKVCache, SharedPrefix, SupervisedPositions


def supervised_of(rows, width, offset=0):
    starts, inputs = zip(*rows, strict=True)
    return SupervisedPositions(mx.array(starts), mx.array(inputs), width, offset)


def test_supervised_positions_are_gathered_and_padding_repeats_the_last():
    supervised = supervised_of([(3, 6), (5, 9), (2, 3)], 4, offset=2)
    assert supervised.positions.tolist() == [[3, 4, 5, 5], [5, 6, 7, 8], [2, 2, 2, 2]]
    array = np.random.default_rng(0).normal(size=(3, 7, 2, 5)).astype(np.float32)
    gathered = np.array(supervised.gather(mx.array(array)))
    for row, positions in enumerate(supervised.positions.tolist()):
        for column, position in enumerate(positions):
            np.testing.assert_array_equal(gathered[row, column], array[row, position - 2])
    ids = mx.arange(21).reshape(3, 7)
    assert supervised.gather(ids).tolist() == [[1, 2, 3, 3], [10, 11, 12, 13], [14, 14, 14, 14]]


@settings(max_examples=40)
@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6)), min_size=1, max_size=3),
    window=st.none() | st.integers(1, 20),
)
def test_a_supervised_position_attends_to_itself_and_those_before_within_its_window(rows, window):
    rows = [(start, start + count) for start, count in rows]
    supervised, keys = supervised_of(rows, 6), max(end for _, end in rows)
    mask = np.array(supervised.mask(keys, window))
    assert mask.shape == (len(rows), 1, 6, keys)
    for row, positions in enumerate(supervised.positions.tolist()):
        for column, position in enumerate(positions):
            expected = [key <= position and (window is None or position - key < window) for key in range(keys)]
            assert mask[row, 0, column].tolist() == expected


@pytest.mark.parametrize(("positions", "offset", "window"), [(5, 0, 3), (5, 4, 3), (1, 6, 4), (4, 2, 5)])
def test_a_windowed_causal_mask_is_mlx_lms(positions, offset, window):
    mask = attention_inputs.causal_mask(positions, offset, window)
    assert mx.array_equal(mask, create_causal_mask(positions, offset, window_size=window)).item()


def test_a_window_that_covers_everything_needs_no_mask():
    assert attention_inputs.causal_mask(5, 3, None) == attention_inputs.causal_mask(5, 3, 8) == "causal"
    assert attention_inputs.causal_mask(1, 3, None) is None


def test_a_shared_prefix_comes_before_the_keys_and_values_of_every_row():
    draw = np.random.default_rng(1)
    prefix = tuple(mx.array(draw.normal(size=(1, 2, 3, 4)), mx.float32) for _ in range(2))
    new = tuple(mx.array(draw.normal(size=(5, 2, 6, 4)), mx.float32) for _ in range(2))
    cache = PrefixKVCache(prefix, 3)
    joined = cache.update_and_fetch(*new)
    for whole, old, fresh in zip(joined, prefix, new, strict=True):
        assert whole.shape == (5, 2, 9, 4)
        assert all(mx.array_equal(whole[row, :, :3], old[0]).item() for row in range(5))
        assert mx.array_equal(whole[:, :, 3:], fresh).item()
    assert cache.keys_values is joined and cache.offset == 3
    assert PrefixKVCache(None, 0).update_and_fetch(*new) == new
    assert FixedKVCache(joined, mx.array([3])).update_and_fetch(*new) is joined
    assert SharedPrefix((4, 5, 6)).length == 3 and attention_inputs.NO_SHARED_PREFIX.length == 0
