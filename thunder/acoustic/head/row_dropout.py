"""Dropout whose mask depends on the row and not on its batch: the same on any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
from mlx import nn

_CHUNK = 16  # frames that one key draws, so that padding does not change the mask of the frames before it
_SECOND_VIEW = 0x9E3779B9  # the second view of a row has other masks than the first


class RowDropout(nn.Module):
    """Zero a share of [B, T, N] and scale the rest. place: number of this layer in its model, for masks of its own."""

    def __init__(self, share: float, place: int) -> None:
        super().__init__()
        self.share, self.place = share, place

    def __call__(self, x: mx.array, row_keys: mx.array | None) -> mx.array:
        """row_keys: [B] uint32 from `keys_of_rows`; None draws from MLX's own state, as nn.Dropout does."""
        if not self.training or not self.share:
            return x
        if row_keys is None:
            kept = mx.random.bernoulli(1 - self.share, x.shape)
            return (1 / (1 - self.share)) * kept * x
        kept = row_masks(row_keys, self.place, x.shape[1], x.shape[2], self.share)
        return (1 / (1 - self.share)) * kept * x


def row_masks(row_keys: mx.array, place: int, length: int, width: int, share: float) -> mx.array:
    """[B, T, N] bool: what is kept. A row's mask depends on its key and the place; a longer one begins the same."""
    rows, chunks = row_keys.shape[0], -(-length // _CHUNK)
    counters = mx.arange(chunks, dtype=mx.uint32) + mx.array(place << 16, mx.uint32)
    keys = mx.stack([mx.repeat(row_keys, chunks), mx.tile(counters, rows)], -1)
    kept = mx.vmap(lambda key: mx.random.bernoulli(1 - share, (_CHUNK, width), key=key))(keys)
    return kept.reshape(rows, chunks * _CHUNK, width)[:, :length]


def keys_of_rows(seeds: Sequence[Sequence[int]]) -> mx.array:
    """[B] uint32: a key for each row, from numbers that name it, such as (seed, epoch, row)."""
    return mx.array(np.array([np.random.SeedSequence(seed).generate_state(1)[0] for seed in seeds], np.uint32))


def keys_of_two_views(row_keys: mx.array) -> mx.array:
    """[2B] keys for two views of each row."""
    return mx.concatenate([row_keys, row_keys ^ mx.array(_SECOND_VIEW, mx.uint32)])
