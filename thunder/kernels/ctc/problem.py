"""A batch made safe for the sweeps: log probabilities, labels with blanks between, lengths within the arrays."""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

NEVER = -1e30  # stands for log 0: finite, so that differences of it are no NaN
IMPOSSIBLE = NEVER / 2  # a path's log probability below this was NEVER somewhere


@dataclass(frozen=True)
class Problem:
    """What both the reference and the GPU texts start from; S = 2U + 1 states."""

    log_probs: mx.array  # [B, T, V] float32, at least NEVER
    states: mx.array  # [B, S] int32: blank, label, blank, ...
    frames: mx.array  # [B] int32, 1..T
    counts: mx.array  # [B] int32: states that the row has, 1..S
    valid: mx.array  # [B, T] bool: frames that exist
    malformed: mx.array  # [B] bool: rows that mean nothing
    empty: mx.array  # [B] bool: rows without a frame

    def finish(self, losses: mx.array, gradient: mx.array) -> tuple[mx.array, mx.array]:
        """Losses and gradient with the rows put in that no sweep decides; gradient zero where the loss is not finite.

        A row without frames has probability one for no labels and zero for any.
        """
        losses = mx.where(self.empty, mx.where(self.counts == 1, 0.0, mx.inf), losses)
        losses = mx.where(self.malformed, mx.nan, losses)
        counts = mx.logical_and(self.valid, mx.isfinite(losses)[:, None])
        return losses, mx.where(counts[..., None], gradient, 0.0)


def pose(logits: mx.array, frame_lengths: mx.array, labels: mx.array, label_lengths: mx.array, blank: int) -> Problem:
    """The problem of one batch (arguments as for `ctc_loss`, integers int32)."""
    rows, length, size = logits.shape
    longest = labels.shape[1]
    valid = mx.arange(length) < frame_lengths[:, None]
    written = mx.arange(longest) < label_lengths[:, None]
    stray = (labels < 0) | (labels >= size) | (labels == blank)
    malformed = (frame_lengths < 0) | (frame_lengths > length) | (label_lengths < 0) | (label_lengths > longest)
    malformed = malformed | mx.any(stray & written, axis=1)

    logits = mx.where(valid[..., None], logits.astype(mx.float32), 0.0)
    total = mx.logsumexp(logits, -1, keepdims=True)
    malformed = malformed | mx.any(mx.logical_not(mx.isfinite(total)), axis=(1, 2))
    log_probs = mx.maximum(mx.where(malformed[:, None, None], 0.0, logits - total), NEVER)

    labels = mx.where(written & mx.logical_not(malformed)[:, None], labels, blank)
    blanks = mx.full(labels.shape, blank, dtype=mx.int32)
    states = mx.concatenate([mx.stack([blanks, labels], 2).reshape(rows, -1), mx.full((rows, 1), blank)], 1)
    return Problem(
        log_probs=log_probs,
        states=states.astype(mx.int32),
        frames=mx.clip(frame_lengths, 1, length),
        counts=2 * mx.clip(label_lengths, 0, longest) + 1,
        valid=valid,
        malformed=malformed,
        empty=frame_lengths == 0,
    )
