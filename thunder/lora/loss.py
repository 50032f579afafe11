"""Cross entropy summed over the supervised tokens of a batch."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from thunder.lora import forward


def supervised_loss(model: nn.Module, ids: mx.array, spans: mx.array) -> mx.array:
    """Sum of the cross entropy of the supervised targets.

    ids: [B, T] token ids. spans: [B, 2]; targets at positions spans[b, 0] <= t < spans[b, 1] count.
    Returns [] float32: a sum, which adds up over rows and ranks; the caller divides by the tokens of all ranks.
    Equals mlx_lm's `default_loss` times its token count, but for that one's extra target behind the last token of a
    padded row (it supervises one step of padding).
    """
    logits = forward.logits(model, ids[:, :-1])
    targets = ids[:, 1:]
    positions = mx.arange(1, ids.shape[1])
    mask = mx.logical_and(positions >= spans[:, :1], positions < spans[:, 1:])
    losses = nn.losses.cross_entropy(logits.astype(mx.float32), targets)
    return mx.where(mask, losses, 0.0).sum()
