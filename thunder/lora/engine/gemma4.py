"""Gemma 4 as a split model: the last layers attend to keys and values of earlier ones, and have per-layer inputs."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from thunder.lora.engine.attention_inputs import KeysValues, PrefixKVCache
from thunder.lora.engine.linear_layers import project_columns
from thunder.lora.engine.split_model import SplitModel


class SplitGemma4(SplitModel):
    """mlx_lm's gemma4_text, alone or inside gemma4."""

    def __init__(self, model: nn.Module, trained: int) -> None:
        """trained: how many of the last layers have LoRA."""
        language = getattr(model, "language_model", model)
        self.body, self.config = language.model, language.args
        self.layers = self.body.layers
        self.first_trained = len(self.layers) - trained
        self.kv_boundary = len(self.layers) - self.config.num_kv_shared_layers - 1
        self.logit_softcap = language.final_logit_softcapping
        self.output_projection = self.body.embed_tokens if language.tie_word_embeddings else language.lm_head
        if self.config.hidden_size_per_layer_input:
            self.frozen_tables = [self.body.embed_tokens_per_layer, self.body.per_layer_model_projection]
        self.cached_tensors = self.cached_tensors_with_per_layer_inputs(
            (self.config.hidden_size,),
            self.config.hidden_size_per_layer_input,
            self._kv_shape,
            self.body.norm.weight.dtype,
        )

    def _kv_shape(self, layer: int) -> tuple[int, int]:
        attention = self.layers[layer].self_attn
        return attention.n_kv_heads, attention.head_dim

    def embed(self, ids: mx.array) -> mx.array:
        """See SplitModel."""
        return self.body.embed_tokens(ids) * self.body.embed_scale

    def final_norm(self, hidden: mx.array) -> mx.array:
        """See SplitModel."""
        return self.body.norm(hidden)

    def attention_window(self, layer: int) -> int | None:
        """See SplitModel."""
        return self.body.window_size if self.layers[layer].layer_type == "sliding_attention" else None

    def kv_source(self, layer: int) -> int:
        """See SplitModel."""
        return self.body.previous_kvs[layer]

    def per_layer_inputs(self, ids: mx.array, embedded: mx.array, low: int, high: int) -> mx.array | None:
        """See SplitModel; reads only these layers' columns of the two tables."""
        body, width = self.body, self.config.hidden_size_per_layer_input
        if not width or low >= high:
            return None
        columns = slice(low * width, high * width)
        projected = project_columns(body.per_layer_model_projection, embedded, columns)
        projected = mx.unflatten(projected * body.per_layer_projection_scale, -1, (high - low, width))
        looked_up = body.embed_tokens_per_layer(ids)[..., columns] * body.embed_tokens_per_layer_scale
        looked_up = mx.unflatten(looked_up, -1, (high - low, width))
        return (body.per_layer_projection_norm(projected) + looked_up) * body.per_layer_input_scale

    def forward_all(
        self,
        layer: int,
        hidden: mx.array,
        mask: mx.array | str | None,
        per_layer_input: mx.array | None,
        cache: PrefixKVCache | None,
    ) -> tuple[mx.array, KeysValues | None]:
        """See SplitModel."""
        hidden, keys_values, _ = self.layers[layer](hidden, mask, cache, per_layer_input=per_layer_input)
        return hidden, keys_values

    def project_keys_values(self, layer: int, hidden: mx.array, offset: int) -> KeysValues:
        """See SplitModel; as mlx_lm's attention makes them."""
        block = self.layers[layer]
        attention, x = block.self_attn, block.input_layernorm(hidden)
        shape = (*x.shape[:2], attention.n_kv_heads, attention.head_dim)
        keys = attention.k_proj(x).reshape(shape)
        values = keys if attention.use_k_eq_v else attention.v_proj(x).reshape(shape)
        keys = attention.rope(attention.k_norm(keys).transpose(0, 2, 1, 3), offset=offset)
        return keys, attention.v_norm(values).transpose(0, 2, 1, 3)

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
        block = self.layers[layer]
        return block(hidden, mask, None, per_layer_input=per_layer_input, shared_kv=keys_values, offset=starts)[0]
