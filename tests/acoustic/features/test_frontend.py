"""Front ends: subsampling of frames."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from thunder.acoustic.features import frontend


@settings(max_examples=40)
@given(st.integers(1, 23), st.integers(1, 7), st.integers(0, 99))
def test_subsampling(frames, every, seed):
    rows = np.random.default_rng(seed).standard_normal((frames, 3)).astype(np.float32)
    groups = [rows[start : start + every] for start in range(0, frames, every)]
    assert np.array_equal(frontend.subsample_frames(rows, every, "stride"), [group[0] for group in groups])
    assert np.allclose(frontend.subsample_frames(rows, every, "mean"), [group.mean(0) for group in groups], atol=1e-6)
