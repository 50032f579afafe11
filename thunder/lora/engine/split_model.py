"""A model split at its first trained layer, with layers that run at supervised positions only where that is enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import mlx.core as mx
import mlx.nn as nn

from thunder.lora.engine.attention_inputs import (
    NO_SHARED_PREFIX,
    KeysValues,
    PrefixKVCache,
    SharedPrefix,
    SupervisedPositions,
    causal_mask,
    prepend_keys_values,
)


@dataclass(frozen=True)
class CachedTensorSpec:
    """One tensor of a row's cache entry: [P, *shape], P being all inputs of the row or the supervised ones."""

    name: str
    positions: Literal["all", "supervised"]
    shape: tuple[int, ...]
    dtype: mx.Dtype


class SplitModel:
    """The layers 0 to N - 1 of a language model; those from `first_trained` on have LoRA.

    `kv_boundary` is the last layer that makes keys and values of its own. In the layers above it, a position that is
    not supervised cannot change the loss; in the boundary layer itself, only the position's keys and values can.
    `kv_boundary` = N where every layer runs at all positions.
    """

    layers: Sequence[nn.Module]
    first_trained: int
    kv_boundary: int
    cached_tensors: tuple[CachedTensorSpec, ...]
    output_projection: nn.Module
    """The output layer: a linear one, or the embedding where it is tied."""
    frozen_tables: Sequence[nn.Module] = ()
    """Modules outside of the layers that only the frozen part of a row needs."""
    logit_softcap: float | None
    """None where logits are not capped."""

    def embed(self, ids: mx.array) -> mx.array:
        """[B, T] token ids -> [B, T, D] hidden states that enter layer 0."""
        raise NotImplementedError

    def final_norm(self, hidden: mx.array) -> mx.array:
        """The norm after the last layer."""
        raise NotImplementedError

    def attention_window(self, layer: int) -> int | None:
        """Positions that a layer's sliding window covers, None for full attention."""
        raise NotImplementedError

    def kv_source(self, layer: int) -> int:
        """The layer whose keys and values a layer attends to; itself up to the KV boundary."""
        return layer

    def per_layer_inputs(self, ids: mx.array, embedded: mx.array, low: int, high: int) -> mx.array | None:
        """[B, P, high - low, E] per-layer inputs of layers low to high - 1, None where the model has none."""
        return None

    def forward_all(
        self,
        layer: int,
        hidden: mx.array,
        mask: mx.array | str | None,
        per_layer_input: mx.array | None,
        cache: PrefixKVCache | None,
    ) -> tuple[mx.array, KeysValues | None]:
        """Run one layer at all positions: [B, T, D] -> [B, T, D], and its keys and values if later layers use them."""
        raise NotImplementedError

    def project_keys_values(self, layer: int, hidden: mx.array, offset: int) -> KeysValues:
        """Keys and values [B, heads, T, D] that a layer makes of all positions, the first of which is `offset`."""
        raise NotImplementedError

    def forward_supervised(
        self,
        layer: int,
        hidden: mx.array,
        mask: mx.array,
        per_layer_input: mx.array | None,
        keys_values: KeysValues,
        starts: mx.array,
    ) -> mx.array:
        """Run one layer at supervised positions: [B, C, D] -> [B, C, D], on given keys and values. starts: [B]."""
        raise NotImplementedError

    @property
    def num_layers(self) -> int:
        """N."""
        return len(self.layers)

    @property
    def cached_kv_layers(self) -> tuple[int, ...]:
        """Frozen layers whose keys and values trained layers attend to."""
        above = range(max(self.first_trained, self.kv_boundary + 1), self.num_layers)
        return tuple(sorted({self.kv_source(layer) for layer in above if self.kv_source(layer) < self.first_trained}))

    def forward_layers(
        self,
        hidden: mx.array,
        layers: range,
        supervised: SupervisedPositions,
        per_layer: tuple[mx.array | None, mx.array | None],
        keys_values: dict[int, KeysValues],
        prefix: SharedPrefix = NO_SHARED_PREFIX,
        keep_all_keys_values: bool = False,
    ) -> mx.array:
        """Hidden states after a range of layers; the keys and values made on the way are added to `keys_values`.

        per_layer: per-layer inputs of the range's layers below the KV boundary at all positions, and of those from the
        boundary on at supervised positions. keep_all_keys_values: add those of every layer below the boundary, also
        where no later layer uses them.
        """
        at_all, at_supervised = per_layer
        offset = prefix.length
        for layer in layers:
            earlier = prefix.keys_values.get(layer)
            if layer < self.kv_boundary:
                extra = None if at_all is None else at_all[:, :, layer - layers.start]
                mask = causal_mask(hidden.shape[1], offset, self.attention_window(layer))
                cache = PrefixKVCache(earlier, offset) if earlier is not None or keep_all_keys_values else None
                hidden, made = self.forward_all(layer, hidden, mask, extra, cache)
                if made is not None:
                    keys_values[layer] = made
                continue
            if layer == self.kv_boundary:
                keys_values[layer] = prepend_keys_values(earlier, self.project_keys_values(layer, hidden, offset))
                hidden = supervised.gather(hidden)
            kv = keys_values[self.kv_source(layer)]
            mask = supervised.mask(kv[0].shape[2], self.attention_window(layer))
            extra = None if at_supervised is None else at_supervised[:, :, layer - max(layers.start, self.kv_boundary)]
            hidden = self.forward_supervised(layer, hidden, mask, extra, kv, supervised.starts)
        return hidden

    def cached_tensors_with_per_layer_inputs(
        self, hidden: tuple[int, ...], per_layer: int, kv: Callable[[int], tuple[int, int]], dtype: mx.Dtype
    ) -> tuple[CachedTensorSpec, ...]:
        """The cached tensors of a model with KV sharing, whose layers may have per-layer inputs.

        hidden: shape of the hidden states at one position. per_layer: width of a per-layer input, 0 for none.
        kv: layer -> (heads, width) of its keys at one position.
        """
        all_positions = self.first_trained <= self.kv_boundary
        specs = [CachedTensorSpec("hidden", "all" if all_positions else "supervised", hidden, dtype)]
        if per_layer and self.first_trained < self.kv_boundary:
            specs.append(CachedTensorSpec("below", "all", (self.kv_boundary - self.first_trained, per_layer), dtype))
        if per_layer:
            above = self.num_layers - max(self.first_trained, self.kv_boundary)
            specs.append(CachedTensorSpec("above", "supervised", (above, per_layer), dtype))
        for layer in self.cached_kv_layers:
            specs += [CachedTensorSpec(f"{name}.{layer}", "all", kv(layer), dtype) for name in ("keys", "values")]
        return tuple(specs)
