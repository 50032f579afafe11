"""Regularizers of the CTC loss: TAR (temporal alignment, of this project) and CR-CTC (consistency, published)."""

from __future__ import annotations

import mlx.core as mx

from thunder.acoustic.trajectory.scalars import NOVELTY, STABILITY, previous_frame


def log_probabilities(logits: mx.array) -> mx.array:
    """Log softmax over the last axis: [B, T, V] float32."""
    logits = logits.astype(mx.float32)
    return logits - mx.logsumexp(logits, -1, keepdims=True)


def temporal_alignment_loss(logits: mx.array, scalars: mx.array, mask: mx.array) -> mx.array:
    """TAR [B]: the mean of JS(P_t || P_{t-1}) over an utterance, weighted by stability_t (1 - novelty_t).

    logits [B, T, V], scalars [B, T, 7], mask [B, T] of valid frames. It keeps posteriors constant where the acoustics
    are constant, and does not act on boundaries. 0 if no frame has weight.
    """
    current = log_probabilities(logits)
    previous = previous_frame(current)
    p, q = mx.exp(current), mx.exp(previous)
    middle = mx.log(0.5 * (p + q) + 1e-12)
    divergence = 0.5 * (p * (current - middle) + q * (previous - middle)).sum(-1)
    weights = scalars[..., STABILITY] * (1 - scalars[..., NOVELTY]) * mask * previous_frame(mask)
    weights = mx.stop_gradient(weights * (mx.arange(weights.shape[1]) > 0))
    return (weights * divergence).sum(1) / mx.maximum(weights.sum(1), 1e-6)


def consistency_loss(logits: mx.array, other_logits: mx.array, mask: mx.array) -> mx.array:
    """CR-CTC [B]: half the sum over frames of KL(P' || P) + KL(P || P'), without gradient through the first of each
    pair.

    logits, other_logits [B, T, V]: two views of the same utterances. Yao et al. 2024, arXiv 2410.05101, equations 3 and
    4.
    """
    one, two = log_probabilities(logits), log_probabilities(other_logits)
    fixed_one, fixed_two = mx.stop_gradient(one), mx.stop_gradient(two)
    towards_two = (mx.exp(fixed_two) * (fixed_two - one)).sum(-1)
    towards_one = (mx.exp(fixed_one) * (fixed_one - two)).sum(-1)
    return 0.5 * ((towards_two + towards_one) * mask).sum(1)
