"""Prepare a batch for CTC: log probabilities, labels with blanks between them, lengths within the arrays."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

LOG_ZERO = -1e30  # stands for log 0; finite, so that a difference of two is not NaN
LOG_ZERO_THRESHOLD = LOG_ZERO / 2  # a log path weight below this contains LOG_ZERO


@dataclass(frozen=True)
class SanitizedBatch:
    """Input of the reference and of the GPU kernels; S = 2U + 1 states."""

    log_probs: mx.array  # [B, T, V] float32, at least LOG_ZERO
    states: mx.array  # [B, S] int32: blank, label, blank, ...
    frame_counts: mx.array  # [B] int32, 1..T
    state_counts: mx.array  # [B] int32: states of the row, 1..S
    frame_mask: mx.array  # [B, T] bool: frames within the row's length
    malformed: mx.array  # [B] bool: rows with invalid input
    empty: mx.array  # [B] bool: rows without frames

    def mask_rows(self, losses: mx.array, gradient: mx.array) -> tuple[mx.array, mx.array]:
        """Set the loss of empty and malformed rows, and zero the gradient of rows without a finite loss.

        A row without frames has probability one for no labels and zero for any label.
        """
        losses = mx.where(self.empty, mx.where(self.state_counts == 1, 0.0, mx.inf), losses)
        losses = mx.where(self.malformed, mx.nan, losses)
        keep = mx.logical_and(self.frame_mask, mx.isfinite(losses)[:, None])
        return losses, mx.where(keep[..., None], gradient, 0.0)


def sanitize_batch(
    logits: mx.array, frame_lengths: mx.array, labels: mx.array, label_lengths: mx.array, blank: int
) -> SanitizedBatch:
    """Build the batch (arguments as for `ctc_loss`, integers int32)."""
    rows, frames, outputs = logits.shape
    max_labels = labels.shape[1]
    frame_mask = mx.arange(frames) < frame_lengths[:, None]
    label_mask = mx.arange(max_labels) < label_lengths[:, None]
    invalid_label = (labels < 0) | (labels >= outputs) | (labels == blank)
    malformed = (frame_lengths < 0) | (frame_lengths > frames) | (label_lengths < 0) | (label_lengths > max_labels)
    malformed = malformed | mx.any(invalid_label & label_mask, axis=1)

    logits = mx.where(frame_mask[..., None], logits.astype(mx.float32), 0.0)
    total = mx.logsumexp(logits, -1, keepdims=True)
    malformed = malformed | mx.any(mx.logical_not(mx.isfinite(total)), axis=(1, 2))
    log_probs = mx.maximum(mx.where(malformed[:, None, None], 0.0, logits - total), LOG_ZERO)

    labels = mx.where(label_mask & mx.logical_not(malformed)[:, None], labels, blank)
    blanks = mx.full(labels.shape, blank, dtype=mx.int32)
    states = mx.concatenate([mx.stack([blanks, labels], 2).reshape(rows, -1), mx.full((rows, 1), blank)], 1)
    return SanitizedBatch(
        log_probs=log_probs,
        states=states.astype(mx.int32),
        frame_counts=mx.clip(frame_lengths, 1, frames),
        state_counts=2 * mx.clip(label_lengths, 0, max_labels) + 1,
        frame_mask=frame_mask,
        malformed=malformed,
        empty=frame_lengths == 0,
    )
