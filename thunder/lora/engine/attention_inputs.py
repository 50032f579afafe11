"""Keys, values and masks of a split model's attention, and stand-ins for mlx_lm's KV caches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import mlx.core as mx

KeysValues = tuple[mx.array, mx.array]
"""Each [B, heads, T, D]."""


@dataclass(frozen=True)
class SupervisedPositions:
    """The supervised positions of a padded batch.

    starts, inputs: [B] each row's first supervised position and its number of inputs, counted from the row's start.
    width: supervised positions that each row is padded to (C). offset: positions of the row that come before the batch.
    """

    starts: mx.array
    inputs: mx.array
    width: int
    offset: int = 0

    @property
    def positions(self) -> mx.array:
        """[B, C] supervised positions, counted from the row's start; padding repeats the last one."""
        return mx.minimum(self.starts[:, None] + mx.arange(self.width), self.inputs[:, None] - 1)

    def gather(self, array: mx.array) -> mx.array:
        """[B, T, ...] -> [B, C, ...]."""
        places = self.positions - self.offset
        return mx.take_along_axis(array, places.reshape(*places.shape, *[1] * (array.ndim - 2)), axis=1)

    def mask(self, num_keys: int, window: int | None) -> mx.array:
        """[B, 1, C, T] whether a supervised position attends to each of T keys. window: None for full attention."""
        queries, keys = self.positions[:, None, :, None], mx.arange(num_keys)
        causal = keys <= queries
        return causal if window is None or num_keys <= window else causal & (queries - keys < window)


@dataclass(frozen=True)
class SharedPrefix:
    """The S token ids that all rows begin with, and what the frozen layers compute of them.

    keys_values: of each frozen layer at these positions. tensors: name -> cached tensor [S, ...] that covers all
    positions.
    """

    ids: tuple[int, ...] = ()
    keys_values: Mapping[int, KeysValues] = field(default_factory=dict)
    tensors: Mapping[str, mx.array] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """S."""
        return len(self.ids)


NO_SHARED_PREFIX = SharedPrefix()


class PrefixKVCache:
    """A KV cache for mlx_lm's layers: the keys and values of S earlier positions come before the layer's new ones."""

    def __init__(self, prefix: KeysValues | None, offset: int) -> None:
        """prefix: each [1, heads, S, D], None for S = 0. offset: S."""
        self.prefix, self.offset = prefix, offset
        self.keys_values: KeysValues | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> KeysValues:
        """Keys and values [B, heads, S + T, D]; kept in `keys_values` for later layers."""
        self.keys_values = prepend_keys_values(self.prefix, (keys, values))
        return self.keys_values


class FixedKVCache:
    """A KV cache for mlx_lm's layers that returns given keys and values; the queries begin at `offset`."""

    def __init__(self, keys_values: KeysValues, offset: mx.array) -> None:
        self.keys_values, self.offset = keys_values, offset

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> KeysValues:
        """The given keys and values; the layer's own are ignored."""
        return self.keys_values


def prepend_keys_values(prefix: KeysValues | None, new: KeysValues) -> KeysValues:
    """The keys and values of a shared prefix [1, heads, S, D], then the new ones [B, heads, T, D]."""
    if prefix is None:
        return new
    batch = new[0].shape[0]
    joined = [
        mx.concatenate([mx.broadcast_to(old, (batch, *old.shape[1:])), fresh], axis=2)
        for old, fresh in zip(prefix, new, strict=True)
    ]
    return joined[0], joined[1]


def causal_mask(positions: int, offset: int, window: int | None) -> mx.array | str | None:
    """The causal mask of T positions after S others, as mlx_lm makes it: [T, S + T] where a window is shorter."""
    if window is None or positions + offset <= window:
        return "causal" if positions > 1 else None
    queries, keys = mx.arange(offset, offset + positions)[:, None], mx.arange(offset + positions)
    return (keys <= queries) & (queries - keys < window)
