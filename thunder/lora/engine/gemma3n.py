"""Gemma 3n for the engine: four streams of hidden states, of which one goes through attention and MLP.

The layers' arithmetic is mlx_lm's, on streams that lie behind their position: [B, T, A, D]. It is written out here,
since mlx_lm's layers share keys and values through a cache alone (ml-explore/mlx-lm#1674), change their weights in the
forward pass, and cannot be recomputed with keys and values as inputs.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from thunder.lora.engine import fast_math
from thunder.lora.engine.columns import EVERY, project
from thunder.lora.engine.split_model import Behind, KeysValues, Trunk


class Gemma3n(Trunk):
    """mlx_lm's gemma3n, as it generates: the last layers take keys and values of earlier ones."""

    def __init__(self, model: nn.Module, trained: int, recomputes: bool = False) -> None:
        """trained: how many of the last layers have LoRA. recomputes: their activations, in the backward pass."""
        self.body = model.model.language_model
        self.config = self.body.config
        self.layers = self.body.layers
        self.first = len(self.layers) - trained
        self.cut = self.body.first_kv_shared_layer_idx - 1
        self.cap = self.body.final_logit_softcapping
        self.projection = self.body.embed_tokens
        self.tables = [
            self.body.embed_tokens_per_layer,
            self.body.per_layer_model_projection,
            *self.body.altup_projections,
        ]
        self.recomputes, self.quick = recomputes, fast_math.wanted()
        self.cutoffs = [  # of sparse layers, in standard deviations above the mean
            layer.mlp._std_multiplier.item() if layer.mlp.activation_sparsity > 0 else None for layer in self.layers
        ]
        config = self.config
        self.parts = self.parts_with_own(
            (config.altup_num_inputs, config.hidden_size),
            config.hidden_size_per_layer_input,
            lambda _: (config.num_key_value_heads, config.head_dim),
            self.body.norm.weight.dtype,
        )

    def embed(self, ids: mx.array) -> mx.array:
        """See Trunk; [B, T, A, D], the first stream the embedding itself."""
        embedded = self.body.embed_tokens(ids) * self.config.hidden_size**0.5
        others = [project(layer, embedded) for layer in self.body.altup_projections]
        return _as_large_as_the_first(mx.stack([embedded, *others], axis=-2))

    def finish(self, hidden: mx.array) -> mx.array:
        """See Trunk; the mean of the streams, [B, C, A, D] -> [B, C, D]."""
        others = [layer(hidden[:, :, n + 1]) for n, layer in enumerate(self.body.altup_unembed_projections)]
        streams = _as_large_as_the_first(mx.stack([hidden[:, :, 0], *others], axis=-2))
        return self.body.norm(streams.mean(axis=-2))

    def window(self, layer: int) -> int | None:
        """See Trunk."""
        return self.body.sliding_window if self.layers[layer].is_sliding else None

    def source(self, layer: int) -> int:
        """See Trunk."""
        return self.body.layer_idx_to_cache_idx[layer]

    def per_layer(self, ids: mx.array, embedded: mx.array, low: int, high: int) -> mx.array | None:
        """See Trunk; tokens that the second table does not know have the first row's."""
        if low >= high:
            return None
        body, own = self.body, self.config.hidden_size_per_layer_input
        columns, shape = slice(low * own, high * own), (high - low, own)
        projected = project(body.per_layer_model_projection, embedded[:, :, 0], columns) * body.hidden_size**-0.5
        known = mx.where(ids < body.vocab_size_per_layer_input, ids, 0)
        looked_up = body.embed_tokens_per_layer(known)[..., columns] * own**0.5
        normed = body.per_layer_projection_norm(mx.unflatten(projected, -1, shape))
        return (normed + mx.unflatten(looked_up, -1, shape)) * 2**-0.5

    def everywhere(
        self, layer: int, hidden: mx.array, mask: mx.array | str | None, extra: mx.array | None, past: Behind | None
    ) -> tuple[mx.array, KeysValues | None]:
        """See Trunk."""
        offset = 0 if past is None else past.offset

        def run(hidden: mx.array, extra: mx.array) -> tuple[mx.array, KeysValues]:
            predicted, x = self._entering(layer, hidden)
            kv = self._made(layer, x, offset)
            kv = kv if past is None else past.update_and_fetch(*kv)
            return self._block(layer, predicted, x, mask, extra, kv, offset), kv

        return self._perhaps_recomputed(layer, run)(hidden, extra)

    def keys_values(self, layer: int, hidden: mx.array, offset: int) -> KeysValues:
        """See Trunk."""
        active = self.config.altup_active_idx
        predicted = self._predict(self.layers[layer].altup, hidden, slice(active, active + 1))
        return self._made(layer, self.layers[layer].input_layernorm(predicted[:, :, 0]), offset)

    def supervised(
        self, layer: int, hidden: mx.array, mask: mx.array, extra: mx.array | None, kv: KeysValues, starts: mx.array
    ) -> mx.array:
        """See Trunk."""

        def run(hidden: mx.array, extra: mx.array, keys: mx.array, values: mx.array) -> mx.array:
            return self._block(layer, *self._entering(layer, hidden), mask, extra, (keys, values), starts)

        return self._perhaps_recomputed(layer, run)(hidden, extra, *kv)

    def _perhaps_recomputed(self, layer: int, run: Callable) -> Callable:
        return nn.utils.checkpoint(self.layers[layer], run) if self.recomputes and layer >= self.first else run

    def _entering(self, layer: int, hidden: mx.array) -> tuple[mx.array, mx.array]:
        """The predicted streams [B, T, A, D], and the active one behind its norm [B, T, D]."""
        block = self.layers[layer]
        predicted = self._predict(block.altup, hidden, EVERY)
        return predicted, block.input_layernorm(predicted[:, :, self.config.altup_active_idx])

    def _made(self, layer: int, x: mx.array, offset: int) -> KeysValues:
        """Keys and values [B, heads, T, D] that a layer makes of what goes into its attention."""
        attention = self.layers[layer].self_attn
        shape = (*x.shape[:2], attention.n_kv_heads, attention.head_dim)
        keys = attention.k_norm(attention.k_proj(x).reshape(shape)).transpose(0, 2, 1, 3)
        values = attention.v_norm(attention.v_proj(x).reshape(shape)).transpose(0, 2, 1, 3)
        return attention.rope(keys, offset=offset), values

    def _block(
        self,
        layer: int,
        predicted: mx.array,
        x: mx.array,
        mask: mx.array | str | None,
        extra: mx.array,
        kv: KeysValues,
        offset: int | mx.array,
    ) -> mx.array:
        """What leaves a layer [B, T, A, D], from `_entering`, its per-layer input and its keys and values."""
        block = self.layers[layer]
        active = predicted[:, :, self.config.altup_active_idx]
        attended = block.post_attention_layernorm(self._attend(block.self_attn, x, mask, kv, offset))
        hidden = (active + attended + block.laurel(x)) * 2**-0.5
        hidden = hidden + block.post_feedforward_layernorm(self._mlp(layer, block.pre_feedforward_layernorm(hidden)))
        streams = self._correct(block.altup, predicted, hidden)
        own = streams[:, :, self.config.altup_active_idx]
        if self.config.altup_correct_scale:
            own = own * block.altup.correct_output_scale
        own = block.per_layer_projection(self._gated(block.per_layer_input_gate(own), extra))
        own = block.post_per_layer_input_norm(own)[:, :, None]
        return mx.concatenate([streams[:, :, :1], streams[:, :, 1:] + own], axis=2)

    @staticmethod
    def _attend(
        attention: nn.Module, x: mx.array, mask: mx.array | str | None, kv: KeysValues, offset: int | mx.array
    ) -> mx.array:
        """[B, T, D] of queries made of x."""
        queries = attention.q_proj(x).reshape(*x.shape[:2], -1, attention.head_dim)
        queries = attention.rope(attention.q_norm(queries).transpose(0, 2, 1, 3), offset=offset)
        out = mx.fast.scaled_dot_product_attention(queries, *kv, scale=attention.scale, mask=mask)
        return attention.o_proj(out.transpose(0, 2, 1, 3).flatten(2))

    def _mlp(self, layer: int, x: mx.array) -> mx.array:
        """[B, T, D]; in a sparse layer only what stands out of a position's activations passes."""
        mlp, cutoff = self.layers[layer].mlp, self.cutoffs[layer]
        gate = mlp.gate_proj(x)
        if cutoff is not None:
            spread = _root(gate.var(axis=-1, keepdims=True))
            gate = mx.maximum(0, gate - (gate.mean(axis=-1, keepdims=True) + spread * cutoff))
        return mlp.down_proj(self._gated(gate, mlp.up_proj(x)))

    def _gated(self, gate: mx.array, x: mx.array) -> mx.array:
        if self.quick and gate.dtype == mx.float32:
            return fast_math.gated(gate, x)
        return nn.gelu_approx(gate) * x

    def _predict(self, altup: nn.Module, hidden: mx.array, streams: slice) -> mx.array:
        """Some of the streams [B, T, n, D] as a layer expects them: each itself and a mixture of all."""
        count = self.config.altup_num_inputs
        mixed = self._coefficients(altup.prediction_coefs, altup, hidden[:, :, self.config.altup_active_idx])
        mixed = mx.unflatten(mixed, -1, (count, count))[:, :, streams]
        wide = hidden.astype(mixed.dtype)
        return (mixed @ wide + wide[:, :, streams]).astype(hidden.dtype)

    def _correct(self, altup: nn.Module, predicted: mx.array, activated: mx.array) -> mx.array:
        """The predicted streams, each with its share of what the layer made of the active one [B, T, D]."""
        shares = self._coefficients(altup.correction_coefs, altup, activated) + 1
        news = activated - predicted[:, :, self.config.altup_active_idx]
        return (predicted + news[:, :, None] * shares[..., None]).astype(activated.dtype)

    def _coefficients(self, layer: nn.Module, altup: nn.Module, x: mx.array) -> mx.array:
        """[B, T, n] in float32 at the least, from the router's view of [B, T, D]."""
        routed = altup.modality_router(altup.router_norm(x) * self.config.hidden_size**-1)
        weight, clip = layer.weight, self.config.altup_coef_clip
        kind = mx.float64 if routed.dtype == mx.float64 else mx.float32
        weight = weight.astype(kind)
        weight = weight if clip is None else mx.clip(weight, -clip, clip)
        return mx.tanh(routed.astype(kind)) @ weight.T[None]


def _as_large_as_the_first(streams: mx.array) -> mx.array:
    """[B, T, A, D] whose streams have the first one's root of the mean square."""
    size = _root(mx.mean(streams * streams, axis=-1, keepdims=True))
    return mx.concatenate([streams[:, :, :1], streams[:, :, 1:] * (size[:, :, :1] / size[:, :, 1:])], axis=2)


def _root(square: mx.array) -> mx.array:
    """Square root with a gradient of 0 at 0, where padding lies: mlx_lm's is infinite there."""
    return mx.sqrt(mx.where(square > 0, square, 1))
