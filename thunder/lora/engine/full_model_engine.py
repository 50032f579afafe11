"""Run a whole model as mlx_lm runs it: the reference that the other engines must equal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from thunder.lora import tokenized_rows
from thunder.lora.tokenized_rows import Example
from thunder.training.task import Batch

KV_SHARED_THROUGH_CACHE = ("gemma3n",)
"""mlx_lm's model types whose layers share keys and values only where they are given a cache."""


def full_logits(model: Any, ids: mx.array) -> mx.array:
    """[B, T] token ids -> [B, T, V].

    mlx_lm's gemma3n shares keys and values only through its cache (ml-explore/mlx-lm#1674): without one, as
    mlx_lm.lora calls it, it is another model than the one that generates.
    """
    needs_cache = getattr(model, "model_type", None) in KV_SHARED_THROUGH_CACHE
    return model(ids, cache=model.make_cache()) if needs_cache else model(ids)


def supervised_loss(model: nn.Module, ids: mx.array, spans: mx.array) -> mx.array:
    """Sum of the cross entropy of the supervised targets.

    ids: [B, T] token ids. spans: [B, 2]; targets at positions spans[b, 0] <= t < spans[b, 1] count.
    Returns [] float32: a sum, which adds up over rows and ranks; the caller divides by the tokens of all ranks.
    Equals mlx_lm's `default_loss` times its token count, except that `default_loss` supervises one target more: the
    first padding after the last token of a padded row.
    """
    logits = full_logits(model, ids[:, :-1])
    targets = ids[:, 1:]
    positions = mx.arange(1, ids.shape[1])
    mask = mx.logical_and(positions >= spans[:, :1], positions < spans[:, 1:])
    losses = nn.losses.cross_entropy(logits.astype(mx.float32), targets)
    return mx.where(mask, losses, 0.0).sum()


class FullModelEngine:
    """Runs every layer and the head at all positions, padding included."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def row_length(self, example: Example) -> int:
        """Number of inputs of a row."""
        return len(example.ids) - 1

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Rows as padded token ids [B, T] with their supervised spans [B, 2]."""
        ids, spans = tokenized_rows.pad_examples(examples)
        return Batch((mx.array(ids), mx.array(spans)), sum(example.supervised for example in examples))

    def restore_frozen(self, folder: Path) -> None:
        """Does nothing: this engine drops no weights."""

    def loss(self, model: nn.Module, *arrays: mx.array) -> mx.array:
        """[] float32 cross entropy summed over supervised positions."""
        return supervised_loss(model, *arrays)
