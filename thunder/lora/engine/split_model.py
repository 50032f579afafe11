"""A model's body cut at its first trained layer, and run no further than the loss can see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import mlx.core as mx
import mlx.nn as nn

KeysValues = tuple[mx.array, mx.array]
"""Each [B, heads, T, D]."""


@dataclass(frozen=True)
class Part:
    """One array of what is kept of a row: its positions ('all' inputs, or the 'supervised' ones), then `shape`."""

    name: str
    positions: Literal["all", "supervised"]
    shape: tuple[int, ...]
    dtype: mx.Dtype


@dataclass(frozen=True)
class Places:
    """Which positions of a padded batch are supervised.

    starts, inputs: [B] first supervised position and number of inputs, from the row's beginning.
    width: supervised positions a row is padded to (C). begin: positions that come before those in the batch.
    """

    starts: mx.array
    inputs: mx.array
    width: int
    begin: int = 0

    @property
    def positions(self) -> mx.array:
        """[B, C] supervised positions from the row's beginning; padding repeats the last one."""
        return mx.minimum(self.starts[:, None] + mx.arange(self.width), self.inputs[:, None] - 1)

    def gather(self, array: mx.array) -> mx.array:
        """[B, T, ...] -> [B, C, ...]."""
        places = self.positions - self.begin
        return mx.take_along_axis(array, places.reshape(*places.shape, *[1] * (array.ndim - 2)), axis=1)

    def mask(self, keys: int, window: int | None) -> mx.array:
        """[B, 1, C, T] which of so many keys a supervised position sees."""
        queries, places = self.positions[:, None, :, None], mx.arange(keys)
        seen = places <= queries
        return seen if window is None or keys <= window else seen & (queries - places < window)


@dataclass(frozen=True)
class Shared:
    """What all rows begin with: S token ids, keys and values of the frozen layers there, and parts that lie there."""

    ids: tuple[int, ...] = ()
    keys_values: Mapping[int, KeysValues] = field(default_factory=dict)
    parts: Mapping[str, mx.array] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """S."""
        return len(self.ids)


NOTHING_SHARED = Shared()


class Behind:
    """Stands where mlx_lm's layers expect a cache: keys and values of S earlier positions come before new ones."""

    def __init__(self, past: KeysValues | None, offset: int) -> None:
        self.past, self.offset = past, offset
        self.keys_values: KeysValues | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> KeysValues:
        """Keys and values [B, heads, S + T, D], remembered for later layers."""
        self.keys_values = behind(self.past, (keys, values))
        return self.keys_values


class Given:
    """Stands where mlx_lm's layers expect a cache: attention to these keys and values, from positions at `offset`."""

    def __init__(self, keys_values: KeysValues, offset: mx.array) -> None:
        self.keys_values, self.offset = keys_values, offset

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> KeysValues:
        """The given ones, whatever the layer made."""
        return self.keys_values


def behind(past: KeysValues | None, new: KeysValues) -> KeysValues:
    """Keys and values with those of the shared beginning [1, heads, S, D] before them."""
    if past is None:
        return new
    batch = new[0].shape[0]
    joined = [
        mx.concatenate([mx.broadcast_to(old, (batch, *old.shape[1:])), fresh], axis=2)
        for old, fresh in zip(past, new, strict=True)
    ]
    return joined[0], joined[1]


class Trunk:
    """Layers 0 to N - 1, of which those from `first` on are trained.

    Keys and values come from layers up to `cut`; above it a position that is not supervised influences nothing, and of
    the cut layer itself only keys and values are needed there. `cut` = N where every layer is run everywhere.
    """

    layers: Sequence[nn.Module]
    first: int
    cut: int
    parts: tuple[Part, ...]
    projection: nn.Module
    """The output layer: a linear one, or the embedding where it is tied."""
    tables: Sequence[nn.Module] = ()
    """What else only the frozen part of rows needs."""
    cap: float | None
    """Of the soft cap on logits, None where there is none."""

    def embed(self, ids: mx.array) -> mx.array:
        """[B, T] -> hidden states [B, T, D] that enter layer 0."""
        raise NotImplementedError

    def finish(self, hidden: mx.array) -> mx.array:
        """The norm behind the last layer."""
        raise NotImplementedError

    def window(self, layer: int) -> int | None:
        """Reach of a layer's attention in positions, None where it sees all."""
        raise NotImplementedError

    def source(self, layer: int) -> int:
        """The layer whose keys and values a layer uses; itself up to the cut."""
        return layer

    def per_layer(self, ids: mx.array, embedded: mx.array, low: int, high: int) -> mx.array | None:
        """[B, P, high - low, E] per-layer inputs of layers low to high - 1, where the model has any."""
        return None

    def everywhere(
        self, layer: int, hidden: mx.array, mask: mx.array | str | None, extra: mx.array | None, past: Behind | None
    ) -> tuple[mx.array, KeysValues | None]:
        """One layer on all positions: hidden states, and keys and values where a later layer may ask for them."""
        raise NotImplementedError

    def keys_values(self, layer: int, hidden: mx.array, offset: int) -> KeysValues:
        """Keys and values that a layer makes of all positions [B, heads, T, D]."""
        raise NotImplementedError

    def supervised(
        self, layer: int, hidden: mx.array, mask: mx.array, extra: mx.array | None, kv: KeysValues, starts: mx.array
    ) -> mx.array:
        """One layer on supervised positions [B, C, D], attending to the given keys and values."""
        raise NotImplementedError

    @property
    def count(self) -> int:
        """N."""
        return len(self.layers)

    @property
    def kept(self) -> tuple[int, ...]:
        """Frozen layers whose keys and values trained layers use."""
        above = range(max(self.first, self.cut + 1), self.count)
        return tuple(sorted({self.source(layer) for layer in above if self.source(layer) < self.first}))

    def through(
        self,
        hidden: mx.array,
        layers: range,
        places: Places,
        extras: tuple[mx.array | None, mx.array | None],
        known: dict[int, KeysValues],
        past: Shared = NOTHING_SHARED,
        remember: bool = False,
    ) -> mx.array:
        """Hidden states behind a range of layers; `known` gets the keys and values on the way.

        extras: per-layer inputs of the range's layers below the cut, everywhere, and of those from it on, where
        supervised. remember: keys and values of every layer below the cut, though no later layer asks for them.
        """
        below, above = extras
        offset = past.length
        for layer in layers:
            earlier = past.keys_values.get(layer)
            if layer < self.cut:
                extra = None if below is None else below[:, :, layer - layers.start]
                mask = self._mask(hidden.shape[1], offset, self.window(layer))
                stand = Behind(earlier, offset) if earlier is not None or remember else None
                hidden, made = self.everywhere(layer, hidden, mask, extra, stand)
                if made is not None:
                    known[layer] = made
                continue
            if layer == self.cut:
                known[layer] = behind(earlier, self.keys_values(layer, hidden, offset))
                hidden = places.gather(hidden)
            kv = known[self.source(layer)]
            mask = places.mask(kv[0].shape[2], self.window(layer))
            extra = None if above is None else above[:, :, layer - max(layers.start, self.cut)]
            hidden = self.supervised(layer, hidden, mask, extra, kv, places.starts)
        return hidden

    def parts_with_own(
        self, hidden: tuple[int, ...], own: int, kv: Callable[[int], tuple[int, int]], dtype: mx.Dtype
    ) -> tuple[Part, ...]:
        """The parts of a model whose later layers take keys and values, and whose layers may have inputs of their own.

        hidden, kv: the shape of hidden states, and of a layer's keys (heads, width), at one position. own: width of a
        per-layer input, 0 where there is none.
        """
        low = self.first <= self.cut
        parts = [Part("hidden", "all" if low else "supervised", hidden, dtype)]
        if own and self.first < self.cut:
            parts.append(Part("below", "all", (self.cut - self.first, own), dtype))
        if own:
            parts.append(Part("above", "supervised", (self.count - max(self.first, self.cut), own), dtype))
        for layer in self.kept:
            parts += [Part(f"{name}.{layer}", "all", kv(layer), dtype) for name in ("keys", "values")]
        return tuple(parts)

    @staticmethod
    def _mask(positions: int, offset: int, window: int | None) -> mx.array | str | None:
        """Causal, as mlx_lm makes it: [T, S + T] where a window is shorter than the row."""
        if window is None or positions + offset <= window:
            return "causal" if positions > 1 else None
        queries, keys = mx.arange(offset, offset + positions)[:, None], mx.arange(offset + positions)
        return (keys <= queries) & (queries - keys < window)
