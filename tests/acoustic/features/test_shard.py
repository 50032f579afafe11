"""Shards of features: they are safetensors files, and int8 is off by half a scale at most."""

from __future__ import annotations

import numpy as np
import pytest
from feature_stores import FP16, INT8, frames_of, write
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from thunder.acoustic.features.shard import quantize_frames


@pytest.mark.parametrize("recipe", [FP16, INT8], ids=lambda recipe: recipe.dtype)
def test_shards_are_safetensors_that_others_read(tmp_path, recipe):
    numpy_files = pytest.importorskip("safetensors.numpy")
    write(tmp_path, recipe, numbers=[0, 1, 2], shard_bytes=10**6)
    found = numpy_files.load_file(tmp_path / "shard-00000.safetensors")
    wanted = np.concatenate([frames_of(number) for number in range(3)])
    scales = found["scales"][:, None] if recipe.dtype == "int8" else 1
    assert found["features"].shape == wanted.shape
    assert np.abs(found["features"].astype(np.float32) * scales - wanted).max() < 0.02


@settings(max_examples=60)
@given(arrays.arrays(np.float32, (3, 4), elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=True)))
def test_int8_is_off_by_half_a_scale_at_most(features):
    levels, scales = quantize_frames(features)
    assert levels.dtype == np.int8 and np.abs(levels.astype(int)).max() <= 127
    error = np.abs(levels.astype(np.float64) * scales[:, None].astype(np.float64) - features)
    bound = np.abs(features.astype(np.float64)).max(1, keepdims=True) / 254
    assert (error <= bound * (1 + 1e-4) + 127 * 2e-45).all()
