"""Gemma 4 for the engine: later layers take keys and values of earlier ones, and have inputs of their own."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from thunder.lora.engine.columns import project
from thunder.lora.engine.split_model import Behind, KeysValues, Trunk


class Gemma4(Trunk):
    """mlx_lm's gemma4_text, alone or inside gemma4."""

    def __init__(self, model: nn.Module, trained: int) -> None:
        """trained: how many of the last layers have LoRA."""
        language = getattr(model, "language_model", model)
        self.body, self.config = language.model, language.args
        self.layers = self.body.layers
        self.first = len(self.layers) - trained
        self.cut = len(self.layers) - self.config.num_kv_shared_layers - 1
        self.cap = language.final_logit_softcapping
        self.projection = self.body.embed_tokens if language.tie_word_embeddings else language.lm_head
        if self.config.hidden_size_per_layer_input:
            self.tables = [self.body.embed_tokens_per_layer, self.body.per_layer_model_projection]
        width, own = self.config.hidden_size, self.config.hidden_size_per_layer_input
        self.parts = self.parts_with_own((width,), own, self._kv_shape, self.body.norm.weight.dtype)

    def _kv_shape(self, layer: int) -> tuple[int, int]:
        attention = self.layers[layer].self_attn
        return attention.n_kv_heads, attention.head_dim

    def embed(self, ids: mx.array) -> mx.array:
        """See Trunk."""
        return self.body.embed_tokens(ids) * self.body.embed_scale

    def finish(self, hidden: mx.array) -> mx.array:
        """See Trunk."""
        return self.body.norm(hidden)

    def window(self, layer: int) -> int | None:
        """See Trunk."""
        return self.body.window_size if self.layers[layer].layer_type == "sliding_attention" else None

    def source(self, layer: int) -> int:
        """See Trunk."""
        return self.body.previous_kvs[layer]

    def per_layer(self, ids: mx.array, embedded: mx.array, low: int, high: int) -> mx.array | None:
        """See Trunk; only these layers' rows and columns of the two tables are used."""
        body, own = self.body, self.config.hidden_size_per_layer_input
        if not own or low >= high:
            return None
        columns = slice(low * own, high * own)
        projected = project(body.per_layer_model_projection, embedded, columns)
        projected = mx.unflatten(projected * body.per_layer_projection_scale, -1, (high - low, own))
        looked_up = body.embed_tokens_per_layer(ids)[..., columns] * body.embed_tokens_per_layer_scale
        looked_up = mx.unflatten(looked_up, -1, (high - low, own))
        return (body.per_layer_projection_norm(projected) + looked_up) * body.per_layer_input_scale

    def everywhere(
        self, layer: int, hidden: mx.array, mask: mx.array | str | None, extra: mx.array | None, past: Behind | None
    ) -> tuple[mx.array, KeysValues | None]:
        """See Trunk."""
        hidden, kv, _ = self.layers[layer](hidden, mask, past, per_layer_input=extra)
        return hidden, kv

    def keys_values(self, layer: int, hidden: mx.array, offset: int) -> KeysValues:
        """See Trunk; as mlx_lm's attention makes them."""
        block = self.layers[layer]
        attention, x = block.self_attn, block.input_layernorm(hidden)
        shape = (*x.shape[:2], attention.n_kv_heads, attention.head_dim)
        keys = attention.k_proj(x).reshape(shape)
        values = keys if attention.use_k_eq_v else attention.v_proj(x).reshape(shape)
        keys = attention.rope(attention.k_norm(keys).transpose(0, 2, 1, 3), offset=offset)
        return keys, attention.v_norm(values).transpose(0, 2, 1, 3)

    def supervised(
        self, layer: int, hidden: mx.array, mask: mx.array, extra: mx.array | None, kv: KeysValues, starts: mx.array
    ) -> mx.array:
        """See Trunk."""
        return self.layers[layer](hidden, mask, None, per_layer_input=extra, shared_kv=kv, offset=starts)[0]
