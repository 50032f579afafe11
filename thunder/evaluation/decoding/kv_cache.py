"""What a model keeps of tokens that it has read, and rows that go on from any place in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import BatchKVCache, BatchRotatingKVCache, KVCache, RotatingKVCache, make_prompt_cache

Caches = list[Any]
"""One mlx_lm batch cache for each layer that has keys and values of its own: [B, heads, T, D]."""


def unsupported_cache(model: nn.Module) -> str | None:
    """Why rows cannot go on from a place in others: the name of a cache that is not keys and values by position."""
    for cache in make_prompt_cache(model):
        # what a rotating cache always keeps would be lost in mlx_lm's batches
        if type(cache) not in (KVCache, RotatingKVCache) or getattr(cache, "keep", 0):
            return type(cache).__name__
    return None


def empty_caches(model: nn.Module, count: int) -> Caches:
    """Caches of so many rows that have read nothing."""
    return [cache.merge([cache] * count) for cache in make_prompt_cache(model)]


def extend_caches(model: nn.Module, caches: Caches, rows: Sequence[Sequence[int]]) -> mx.array:
    """Have rows go on by tokens, padded on the right, where a causal model does not look; logits [B, T, V].

    The caches hold the rows thereafter, padding behind them: go on from a fork of them.
    """
    # a window of which one token at a time is written is not in order any more
    width = max(2, *map(len, rows))
    return model(mx.array([[*row, *[0] * (width - len(row))] for row in rows]), cache=caches)


def fork_caches(caches: Caches, rows: Sequence[int], lengths: Sequence[int]) -> Caches:
    """Caches of new rows, each as a given row was after so many of its tokens; the old ones stay as they are.

    lengths: tokens, at least as many as the rows had before they read last (a sliding window has let go of earlier
    ones) and at most as many as they have read.
    """
    return [_fork_cache(cache, rows, lengths) for cache in caches]


def _fork_cache(cache: Any, rows: Sequence[int], lengths: Sequence[int]) -> Any:
    slides = isinstance(cache, BatchRotatingKVCache)
    # of as many as a whole window the first is already out of the next token's sight: it need not be there
    width = min(max(lengths), cache.max_size) if slides else max(lengths)
    padding = [max(0, width - length) for length in lengths]
    new: Any = BatchRotatingKVCache(cache.max_size, padding) if slides else BatchKVCache(padding)
    new.offset = mx.array(list(lengths))
    if width:
        chosen = mx.array(list(rows))
        # a row's tokens end where the cache ends, those of its padding included
        first = cache._idx - cache.offset[chosen] + new.offset - width
        columns = mx.maximum(first[:, None] + mx.arange(width), 0)[:, None, :, None]
        new.keys = mx.take_along_axis(cache.keys[chosen], columns, axis=2)
        new.values = mx.take_along_axis(cache.values[chosen], columns, axis=2)
        new._idx = width
    if slides:
        new._offset = width
    return new
