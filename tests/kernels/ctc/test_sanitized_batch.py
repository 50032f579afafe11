"""Batches made fit for CTC: states and counts by hand, each kind of malformed row, and what its loss becomes."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from thunder.kernels.ctc.sanitized_batch import LOG_ZERO, sanitize_batch


def batch_of(logits=None, frames=(4, 2), labels=((1, 2), (3, 9)), counts=(2, 1), blank=0):
    logits = mx.random.normal((2, 4, 5), key=mx.random.key(1)) if logits is None else logits
    return sanitize_batch(logits, mx.array(frames), mx.array(labels), mx.array(counts), blank)


def test_states_are_labels_with_blanks_between_and_blanks_behind_a_rows_own():
    batch = batch_of()
    assert batch.states.tolist() == [[0, 1, 0, 2, 0], [0, 3, 0, 0, 0]]
    assert batch.frame_counts.tolist() == [4, 2] and batch.state_counts.tolist() == [5, 3]
    assert batch.frame_mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert not batch.malformed.any().item() and not batch.empty.any().item()
    logits = np.array(mx.random.normal((2, 4, 5), key=mx.random.key(1)), np.float64)
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(np.array(batch.log_probs)[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(np.array(batch.log_probs)[1, :2], expected[1, :2], atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"frames": (5, 2)}, {"frames": (-1, 2)}, {"counts": (3, 1)}, {"counts": (-1, 1)},
        {"labels": ((0, 2), (3, 9))}, {"labels": ((1, 5), (3, 9))}, {"labels": ((1, -2), (3, 9))},
        {"logits": mx.array(np.where(np.arange(40).reshape(2, 4, 5) == 3, np.nan, 0.0), mx.float32)},
        {"logits": mx.array(np.where(np.arange(40).reshape(2, 4, 5) == 3, np.inf, 0.0), mx.float32)},
        {"logits": mx.array(np.where(np.arange(40).reshape(2, 4, 5) < 5, -np.inf, 0.0), mx.float32)},
    ],
)  # fmt: skip
def test_the_first_row_alone_is_malformed(changes):
    """And every number of it is one that a kernel can index with."""
    batch = batch_of(**changes)
    assert batch.malformed.tolist() == [True, False]
    assert set(batch.states[0].tolist()) == {0} and 1 <= batch.frame_counts[0].item() <= 4
    assert 1 <= batch.state_counts[0].item() <= 5 and mx.isfinite(batch.log_probs).all().item()


def test_an_output_that_is_ruled_out_is_malformed_in_no_row():
    batch = batch_of(mx.array(np.where(np.arange(40).reshape(2, 4, 5) == 3, -np.inf, 0.0), mx.float32))
    assert batch.malformed.tolist() == [False, False] and batch.log_probs[0, 0, 3].item() == np.float32(LOG_ZERO)


def test_losses_and_gradients_of_rows_that_are_empty_malformed_or_impossible():
    logits, labels = mx.zeros((5, 2, 3)), mx.array([[1], [1], [1], [0], [2]])
    batch = sanitize_batch(logits, mx.array([2, 0, 0, 2, 1]), labels, mx.array([1, 0, 1, 1, 1]), 0)
    losses, gradient = batch.mask_rows(mx.array([0.5, 7.0, 7.0, 7.0, np.inf]), mx.ones((5, 2, 3)))
    assert losses.tolist()[:3] == [0.5, 0.0, np.inf] and np.isnan(losses[3].item()) and losses[4].item() == np.inf
    assert gradient.sum((1, 2)).tolist() == [6, 0, 0, 0, 0]
    short = sanitize_batch(logits, mx.array([1] * 5), labels, mx.array([1] * 5), 0)
    _, gradient = short.mask_rows(mx.zeros((5,)), mx.ones((5, 2, 3)))
    assert gradient[0].tolist() == [[1.0] * 3, [0.0] * 3], "no gradient behind a row's frames"
