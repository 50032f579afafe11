"""A model run whole, as mlx_lm runs it: what the other engines have to equal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from thunder.lora import tokenized_rows
from thunder.lora.engine.choice import GEMMA3N
from thunder.lora.tokenized_rows import Example
from thunder.training.task import Batch


def full_logits(model: Any, ids: mx.array) -> mx.array:
    """[B, T] token ids -> [B, T, V].

    mlx_lm's gemma3n shares keys and values through its cache alone (ml-explore/mlx-lm#1674): without one, as
    mlx_lm.lora calls it, it is another model than the one that generates.
    """
    shares_by_cache = getattr(model, "model_type", None) in GEMMA3N
    return model(ids, cache=model.make_cache()) if shares_by_cache else model(ids)


def supervised_loss(model: nn.Module, ids: mx.array, spans: mx.array) -> mx.array:
    """Sum of the cross entropy of the supervised targets.

    ids: [B, T] token ids. spans: [B, 2]; targets at positions spans[b, 0] <= t < spans[b, 1] count.
    Returns [] float32: a sum, which adds up over rows and ranks; the caller divides by the tokens of all ranks.
    Equals mlx_lm's `default_loss` times its token count, but for that one's extra target behind the last token of a
    padded row (it supervises one step of padding).
    """
    logits = full_logits(model, ids[:, :-1])
    targets = ids[:, 1:]
    positions = mx.arange(1, ids.shape[1])
    mask = mx.logical_and(positions >= spans[:, :1], positions < spans[:, 1:])
    losses = nn.losses.cross_entropy(logits.astype(mx.float32), targets)
    return mx.where(mask, losses, 0.0).sum()


class Plain:
    """Every layer and the head at all positions, padding too."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def length(self, example: Example) -> int:
        """Inputs of a row."""
        return len(example.ids) - 1

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Rows as padded token ids with the spans that count."""
        ids, spans = tokenized_rows.pad(examples)
        return Batch((mx.array(ids), mx.array(spans)), sum(example.supervised for example in examples))

    def restore_frozen(self, folder: Path) -> None:
        """Nothing was dropped."""

    def loss(self, model: nn.Module, *arrays: mx.array) -> mx.array:
        """[] float32 cross entropy summed over supervised positions."""
        return supervised_loss(model, *arrays)
