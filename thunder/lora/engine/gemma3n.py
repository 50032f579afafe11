"""Gemma 3n as a split model: four streams of hidden states (AltUp), one of which goes through attention and MLP.

The layers' arithmetic is mlx_lm's, with the axis of the streams after that of the positions: [B, T, A, D]. It is
written out here because mlx_lm's layers share keys and values only through a cache (ml-explore/mlx-lm#1674), change
their weights in the forward pass, and cannot be recomputed with keys and values as inputs.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from thunder.lora.engine import fast_math
from thunder.lora.engine.attention_inputs import KeysValues, PrefixKVCache
from thunder.lora.engine.linear_layers import ALL_COLUMNS, project_columns
from thunder.lora.engine.split_model import SplitModel


class SplitGemma3n(SplitModel):
    """mlx_lm's gemma3n, as it generates: the last layers attend to keys and values of earlier ones."""

    def __init__(self, model: nn.Module, trained: int, recompute: bool = False) -> None:
        """trained: how many of the last layers have LoRA. recompute: their activations, in the backward pass."""
        self.body = model.model.language_model
        self.config = self.body.config
        self.layers = self.body.layers
        self.first_trained = len(self.layers) - trained
        self.kv_boundary = self.body.first_kv_shared_layer_idx - 1
        self.logit_softcap = self.body.final_logit_softcapping
        self.output_projection = self.body.embed_tokens
        self.frozen_tables = [
            self.body.embed_tokens_per_layer,
            self.body.per_layer_model_projection,
            *self.body.altup_projections,
        ]
        self.recompute, self.use_fast_math = recompute, fast_math.use_fast_math()
        self.sparsity_cutoffs = [  # of sparse layers, in standard deviations above the mean
            layer.mlp._std_multiplier.item() if layer.mlp.activation_sparsity > 0 else None for layer in self.layers
        ]
        config = self.config
        self.cached_tensors = self.cached_tensors_with_per_layer_inputs(
            (config.altup_num_inputs, config.hidden_size),
            config.hidden_size_per_layer_input,
            lambda _: (config.num_key_value_heads, config.head_dim),
            self.body.norm.weight.dtype,
        )

    def embed(self, ids: mx.array) -> mx.array:
        """See SplitModel; [B, T, A, D], the first stream is the embedding itself."""
        embedded = self.body.embed_tokens(ids) * self.config.hidden_size**0.5
        projected = [project_columns(layer, embedded) for layer in self.body.altup_projections]
        return _match_first_stream_rms(mx.stack([embedded, *projected], axis=-2))

    def final_norm(self, hidden: mx.array) -> mx.array:
        """See SplitModel; of the mean of the streams, [B, C, A, D] -> [B, C, D]."""
        projected = [layer(hidden[:, :, n + 1]) for n, layer in enumerate(self.body.altup_unembed_projections)]
        streams = _match_first_stream_rms(mx.stack([hidden[:, :, 0], *projected], axis=-2))
        return self.body.norm(streams.mean(axis=-2))

    def attention_window(self, layer: int) -> int | None:
        """See SplitModel."""
        return self.body.sliding_window if self.layers[layer].is_sliding else None

    def kv_source(self, layer: int) -> int:
        """See SplitModel."""
        return self.body.layer_idx_to_cache_idx[layer]

    def per_layer_inputs(self, ids: mx.array, embedded: mx.array, low: int, high: int) -> mx.array | None:
        """See SplitModel; tokens outside of the per-layer vocabulary use row 0 of its table."""
        if low >= high:
            return None
        body, width = self.body, self.config.hidden_size_per_layer_input
        columns, shape = slice(low * width, high * width), (high - low, width)
        projected = (
            project_columns(body.per_layer_model_projection, embedded[:, :, 0], columns) * body.hidden_size**-0.5
        )
        in_vocabulary = mx.where(ids < body.vocab_size_per_layer_input, ids, 0)
        looked_up = body.embed_tokens_per_layer(in_vocabulary)[..., columns] * width**0.5
        normed = body.per_layer_projection_norm(mx.unflatten(projected, -1, shape))
        return (normed + mx.unflatten(looked_up, -1, shape)) * 2**-0.5

    def forward_all(
        self,
        layer: int,
        hidden: mx.array,
        mask: mx.array | str | None,
        per_layer_input: mx.array | None,
        cache: PrefixKVCache | None,
    ) -> tuple[mx.array, KeysValues | None]:
        """See SplitModel."""
        offset = 0 if cache is None else cache.offset

        def run(hidden: mx.array, per_layer_input: mx.array) -> tuple[mx.array, KeysValues]:
            predicted, x = self._predict_and_norm(layer, hidden)
            kv = self._make_keys_values(layer, x, offset)
            kv = kv if cache is None else cache.update_and_fetch(*kv)
            return self._block(layer, predicted, x, mask, per_layer_input, kv, offset), kv

        return self._with_recompute(layer, run)(hidden, per_layer_input)

    def project_keys_values(self, layer: int, hidden: mx.array, offset: int) -> KeysValues:
        """See SplitModel."""
        active = self.config.altup_active_idx
        predicted = self._predict(self.layers[layer].altup, hidden, slice(active, active + 1))
        return self._make_keys_values(layer, self.layers[layer].input_layernorm(predicted[:, :, 0]), offset)

    def forward_supervised(
        self,
        layer: int,
        hidden: mx.array,
        mask: mx.array,
        per_layer_input: mx.array | None,
        keys_values: KeysValues,
        starts: mx.array,
    ) -> mx.array:
        """See SplitModel."""

        def run(hidden: mx.array, per_layer_input: mx.array, keys: mx.array, values: mx.array) -> mx.array:
            predicted, x = self._predict_and_norm(layer, hidden)
            return self._block(layer, predicted, x, mask, per_layer_input, (keys, values), starts)

        return self._with_recompute(layer, run)(hidden, per_layer_input, *keys_values)

    def _with_recompute(self, layer: int, run: Callable) -> Callable:
        """The function; of a trained layer with `recompute`, its activations are recomputed in the backward pass."""
        return nn.utils.checkpoint(self.layers[layer], run) if self.recompute and layer >= self.first_trained else run

    def _predict_and_norm(self, layer: int, hidden: mx.array) -> tuple[mx.array, mx.array]:
        """The predicted streams [B, T, A, D], and the norm of the active one [B, T, D]."""
        block = self.layers[layer]
        predicted = self._predict(block.altup, hidden, ALL_COLUMNS)
        return predicted, block.input_layernorm(predicted[:, :, self.config.altup_active_idx])

    def _make_keys_values(self, layer: int, x: mx.array, offset: int) -> KeysValues:
        """Keys and values [B, heads, T, D] of a layer, from the input of its attention [B, T, D]."""
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
        per_layer_input: mx.array,
        kv: KeysValues,
        offset: int | mx.array,
    ) -> mx.array:
        """A layer's output [B, T, A, D], from `_predict_and_norm`, its per-layer input and its keys and values."""
        block = self.layers[layer]
        active = predicted[:, :, self.config.altup_active_idx]
        attended = block.post_attention_layernorm(self._attend(block.self_attn, x, mask, kv, offset))
        hidden = (active + attended + block.laurel(x)) * 2**-0.5
        hidden = hidden + block.post_feedforward_layernorm(self._mlp(layer, block.pre_feedforward_layernorm(hidden)))
        streams = self._correct(block.altup, predicted, hidden)
        corrected = streams[:, :, self.config.altup_active_idx]
        if self.config.altup_correct_scale:
            corrected = corrected * block.altup.correct_output_scale
        update = block.per_layer_projection(self._gated_gelu(block.per_layer_input_gate(corrected), per_layer_input))
        update = block.post_per_layer_input_norm(update)[:, :, None]
        return mx.concatenate([streams[:, :, :1], streams[:, :, 1:] + update], axis=2)

    @staticmethod
    def _attend(
        attention: nn.Module, x: mx.array, mask: mx.array | str | None, kv: KeysValues, offset: int | mx.array
    ) -> mx.array:
        """Attention of the queries of x: [B, T, D] -> [B, T, D]."""
        queries = attention.q_proj(x).reshape(*x.shape[:2], -1, attention.head_dim)
        queries = attention.rope(attention.q_norm(queries).transpose(0, 2, 1, 3), offset=offset)
        out = mx.fast.scaled_dot_product_attention(queries, *kv, scale=attention.scale, mask=mask)
        return attention.o_proj(out.transpose(0, 2, 1, 3).flatten(2))

    def _mlp(self, layer: int, x: mx.array) -> mx.array:
        """[B, T, D] -> [B, T, D]; a sparse layer passes only the largest activations of a position."""
        mlp, cutoff = self.layers[layer].mlp, self.sparsity_cutoffs[layer]
        gate = mlp.gate_proj(x)
        if cutoff is not None:
            deviation = _safe_sqrt(gate.var(axis=-1, keepdims=True))
            gate = mx.maximum(0, gate - (gate.mean(axis=-1, keepdims=True) + deviation * cutoff))
        return mlp.down_proj(self._gated_gelu(gate, mlp.up_proj(x)))

    def _gated_gelu(self, gate: mx.array, x: mx.array) -> mx.array:
        if self.use_fast_math and gate.dtype == mx.float32:
            return fast_math.gated_gelu(gate, x)
        return nn.gelu_approx(gate) * x

    def _predict(self, altup: nn.Module, hidden: mx.array, streams: slice) -> mx.array:
        """AltUp's prediction of some streams [B, T, n, D]: each stream plus a mixture of all [B, T, A, D]."""
        count = self.config.altup_num_inputs
        mixed = self._coefficients(altup.prediction_coefs, altup, hidden[:, :, self.config.altup_active_idx])
        mixed = mx.unflatten(mixed, -1, (count, count))[:, :, streams]
        wide = hidden.astype(mixed.dtype)
        return (mixed @ wide + wide[:, :, streams]).astype(hidden.dtype)

    def _correct(self, altup: nn.Module, predicted: mx.array, activated: mx.array) -> mx.array:
        """AltUp's correction: each predicted stream plus its share of the active one's change [B, T, D]."""
        shares = self._coefficients(altup.correction_coefs, altup, activated) + 1
        change = activated - predicted[:, :, self.config.altup_active_idx]
        return (predicted + change[:, :, None] * shares[..., None]).astype(activated.dtype)

    def _coefficients(self, layer: nn.Module, altup: nn.Module, x: mx.array) -> mx.array:
        """Mixing coefficients [B, T, n], in float32 or more, from the router's output for [B, T, D]."""
        routed = altup.modality_router(altup.router_norm(x) * self.config.hidden_size**-1)
        weight, clip = layer.weight, self.config.altup_coef_clip
        dtype = mx.float64 if routed.dtype == mx.float64 else mx.float32
        weight = weight.astype(dtype)
        weight = weight if clip is None else mx.clip(weight, -clip, clip)
        return mx.tanh(routed.astype(dtype)) @ weight.T[None]


def _match_first_stream_rms(streams: mx.array) -> mx.array:
    """[B, T, A, D] scaled so that all streams have the root mean square of the first one."""
    rms = _safe_sqrt(mx.mean(streams * streams, axis=-1, keepdims=True))
    return mx.concatenate([streams[:, :, :1], streams[:, :, 1:] * (rms[:, :, :1] / rms[:, :, 1:])], axis=2)


def _safe_sqrt(square: mx.array) -> mx.array:
    """Square root with a gradient of 0 at 0, which occurs at padding; the gradient of mlx_lm's is infinite there."""
    return mx.sqrt(mx.where(square > 0, square, 1))
