"""The reference's own functions: loss and gradient against textbook recursions, reversal of ragged rows, blocks."""

from __future__ import annotations

import ctc_oracle as oracle
import mlx.core as mx
import numpy as np
import pytest

from thunder.kernels.ctc import reference
from thunder.kernels.ctc.sanitized_batch import LOG_ZERO, sanitize_batch


@pytest.mark.parametrize("length", [1, reference.BLOCK, reference.BLOCK + 1, 3 * reference.BLOCK + 5])
def test_loss_and_gradient_equal_the_recursions_around_the_ends_of_blocks(length):
    arrays = oracle.random_batch(length, 4, length, 3, 7, blank=6)
    losses, gradient = reference.loss_and_gradient(*map(mx.array, arrays), 6)
    expected, expected_gradient = oracle.losses_and_gradients(*arrays, 6)
    np.testing.assert_allclose(np.array(losses), expected, rtol=1e-5)
    np.testing.assert_allclose(np.array(gradient), expected_gradient, atol=2e-5)


def test_each_row_is_reversed_within_its_own_lengths():
    logits, labels = mx.zeros((2, 4, 5)), mx.array([[1, 2], [3, 4]])
    batch = sanitize_batch(logits, mx.array([4, 2]), labels, mx.array([2, 1]), 0)
    frames, states = reference.reversal_indices(batch)
    assert frames.tolist() == [[3, 2, 1, 0], [1, 0, 2, 3]]
    assert states.tolist() == [[4, 3, 2, 1, 0], [2, 1, 0, 3, 4]]


def test_a_blank_between_equal_labels_cannot_be_skipped():
    logits, labels = mx.zeros((1, 6, 5)), mx.array([[1, 1, 2]])
    batch = sanitize_batch(logits, mx.array([6]), labels, mx.array([3]), 0)
    emissions, jumps = reference.stack_directions(batch, 0)
    assert emissions.shape == (6, 2, 7)
    np.testing.assert_allclose(np.array(emissions), -np.log(5), rtol=1e-6)
    # states blank 1 blank 1 blank 2 blank, then backwards; a jump leads to each label unlike the one before
    allowed = [[0, 1, 0, 0, 0, 1, 0], [0, 1, 0, 1, 0, 0, 0]]
    assert np.array(jumps == 0).astype(int).tolist() == allowed
    assert np.array(jumps).min() == np.float32(LOG_ZERO)


def test_a_block_is_its_frames_one_by_one():
    draw = np.random.default_rng(0)
    weights, jumps = (mx.array(-draw.random((2, 5)), mx.float32) for _ in range(2))
    emissions = mx.array(-draw.random((3, 2, 5)), mx.float32)
    padding, shift = mx.full((2, 2), LOG_ZERO), mx.array([[1.0], [2.0]])
    found, last, new_shift = reference.sweep_block(weights, shift, padding, jumps, emissions)
    current = np.array(weights, np.float64)
    for frame, emission in enumerate(np.array(emissions, np.float64)):
        before = np.concatenate([np.full((2, 2), -np.inf), current], 1)
        terms = np.stack([before[:, 2:], before[:, 1:-1], before[:, :-2] + np.array(jumps, np.float64)])
        current = np.logaddexp.reduce(terms) + emission
        np.testing.assert_allclose(np.array(found[frame]), current, rtol=1e-5, atol=1e-6)
    largest = current.max(1, keepdims=True)
    np.testing.assert_allclose(np.array(last), current - largest, atol=1e-6)
    np.testing.assert_allclose(np.array(new_shift), largest + [[1.0], [2.0]], rtol=1e-6)
