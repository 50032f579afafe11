"""The reference scans: chunks and back, states against float64 loops, the backward scan against differences."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
import ttt_oracle as oracle

from thunder.kernels.ttt_chunk import reference


def test_frames_come_back_from_chunks_whose_last_is_padded_with_zeros():
    x = mx.random.normal((2, 7, 3, 5))
    chunks = reference.to_chunks(x, 3)
    assert chunks.shape == (2, 3, 3, 3, 5)
    assert mx.array_equal(chunks[1, 2, 1], x[1, 3:6, 2]) and not chunks[:, :, 2, 1:].any().item()
    assert mx.array_equal(reference.to_frames(chunks, 7), x)


@pytest.mark.parametrize("hebbian", [False, True])
@pytest.mark.parametrize("checkpoint_every", [1, 2])
def test_the_forward_scan_saves_the_states_of_the_loops(hebbian, checkpoint_every):
    size, length = 4, 18
    q, k, v, eta, state, retention = arrays = oracle.random_arrays(1, 2, length, 2, 6, 5)
    q_state, k_state, last, saved = reference.forward(
        *map(mx.array, (q, k, v, eta, retention, state)),
        chunk_size=size, checkpoint_every=checkpoint_every, hebbian=hebbian,
    )  # fmt: skip
    # in the exclusive order the output of a frame is its query on the state before its chunk
    outputs, end = oracle.ttt_update(*arrays, size, False, hebbian)
    np.testing.assert_allclose(np.array(q_state), outputs, atol=1e-5)
    np.testing.assert_allclose(np.array(last), end, atol=1e-5)
    by_key, _ = oracle.ttt_update(k, *arrays[1:], size, False, hebbian)
    np.testing.assert_allclose(np.array(k_state), by_key, atol=1e-5)
    begins = range(0, length, size * checkpoint_every)
    assert saved.shape[2] == len(begins)
    for number, begin in enumerate(begins):
        expected = oracle.ttt_update(*(x[:, :begin] for x in (q, k, v, eta)), state, retention, size, False, hebbian)[1]
        np.testing.assert_allclose(np.array(saved[:, :, number]), expected, atol=1e-5)


@pytest.mark.parametrize("hebbian", [False, True])
def test_the_backward_scan_is_the_slope_of_the_loops(hebbian):
    size = 4
    arrays = oracle.random_arrays(2, 1, 10, 2, 6, 5)
    q, k, v, eta, state, retention = arrays
    draw = np.random.default_rng(3)
    dy, dstate = draw.standard_normal(v.shape), draw.standard_normal(state.shape)
    _, _, first = reference.backward(
        *(mx.array(x, mx.float32) for x in (q, k, eta, retention, dy, 0 * dy, dstate)),
        chunk_size=size, hebbian=hebbian,
    )  # fmt: skip

    def loss(state):
        y, last = oracle.ttt_update(q, k, v, eta, state, retention, size, False, hebbian)
        return (y * dy).sum() + (last * dstate).sum()

    for place in np.ndindex(state.shape):
        nudge = np.zeros(state.shape)
        nudge[place] = 1e-4
        slope = (loss(state + nudge) - loss(state - nudge)) / 2e-4
        assert first[place].item() == pytest.approx(slope, abs=1e-4)
