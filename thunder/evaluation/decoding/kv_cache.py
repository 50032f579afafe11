"""KV caches of a batch: extend them by tokens, and fork new rows from any position of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import BatchKVCache, BatchRotatingKVCache, KVCache, RotatingKVCache, make_prompt_cache

Caches = list[Any]
"""One mlx_lm batch cache for each layer with its own keys and values: [B, heads, T, D]."""


def unsupported_cache(model: nn.Module) -> str | None:
    """The name of a cache of the model that cannot be forked, since it is not keys and values by position, or None."""
    for cache in make_prompt_cache(model):
        # mlx_lm's batch caches lose the first tokens that a rotating cache keeps
        if type(cache) not in (KVCache, RotatingKVCache) or getattr(cache, "keep", 0):
            return type(cache).__name__
    return None


def empty_caches(model: nn.Module, count: int) -> Caches:
    """Empty caches of `count` rows."""
    return [cache.merge([cache] * count) for cache in make_prompt_cache(model)]


def extend_caches(model: nn.Module, caches: Caches, rows: Sequence[Sequence[int]]) -> mx.array:
    """Run the model on further tokens of each row, padded on the right; returns logits [B, T, V].

    A causal model does not attend to the padding. The caches then hold the rows with their padding at the end, so
    continue from a fork of them.
    """
    # a rotating cache that is written one token at a time does not keep its tokens in order
    width = max(2, *map(len, rows))
    return model(mx.array([[*row, *[0] * (width - len(row))] for row in rows]), cache=caches)


def fork_caches(caches: Caches, rows: Sequence[int], lengths: Sequence[int]) -> Caches:
    """Caches of new rows: each is the state of a given row after its first `length` tokens. The old ones stay valid.

    lengths: at least the length before the last call of extend_caches (a sliding window has dropped earlier tokens) and
    at most the current length of the row.
    """
    return [_fork_cache(cache, rows, lengths) for cache in caches]


def _fork_cache(cache: Any, rows: Sequence[int], lengths: Sequence[int]) -> Any:
    rotating = isinstance(cache, BatchRotatingKVCache)
    # the next token does not attend to the first token of a full window, so that token may be absent
    width = min(max(lengths), cache.max_size) if rotating else max(lengths)
    padding = [max(0, width - length) for length in lengths]
    new: Any = BatchRotatingKVCache(cache.max_size, padding) if rotating else BatchKVCache(padding)
    new.offset = mx.array(list(lengths))
    if width:
        sources = mx.array(list(rows))
        # the tokens of a row, with its padding, end at the end of the cache
        first = cache._idx - cache.offset[sources] + new.offset - width
        columns = mx.maximum(first[:, None] + mx.arange(width), 0)[:, None, :, None]
        new.keys = mx.take_along_axis(cache.keys[sources], columns, axis=2)
        new.values = mx.take_along_axis(cache.values[sources], columns, axis=2)
        new._idx = width
    if rotating:
        new._offset = width
    return new
