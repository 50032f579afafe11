"""Gemma 3 as a split model: every layer makes keys and values, so only the last one can skip the prompt."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from thunder.lora.engine.attention_inputs import FixedKVCache, KeysValues, PrefixKVCache
from thunder.lora.engine.split_model import CachedTensorSpec, SplitModel


class SplitGemma3(SplitModel):
    """mlx_lm's gemma3_text, alone or inside gemma3."""

    def __init__(self, model: nn.Module, trained: int, recompute: bool = False) -> None:
        """trained: how many of the last layers have LoRA. recompute: activations, in the backward pass.

        With recompute all layers run at all positions: mlx_lm's checkpointing differentiates with respect to a layer's
        arguments, and keys and values are not among them.
        """
        language = getattr(model, "language_model", model)
        self.body, self.config = language.model, language.args
        self.layers = self.body.layers
        self.first_trained = len(self.layers) - trained
        self.kv_boundary = len(self.layers) - (0 if recompute else 1)
        self.logit_softcap = None
        self.output_projection = self.body.embed_tokens if language.tie_word_embeddings else language.lm_head
        dtype = self.body.norm.weight.dtype
        self.cached_tensors = (CachedTensorSpec("hidden", "all", (self.config.hidden_size,), dtype),)

    def embed(self, ids: mx.array) -> mx.array:
        """See SplitModel; mlx_lm rounds the scale to bfloat16."""
        hidden = self.body.embed_tokens(ids)
        return hidden * mx.array(self.config.hidden_size**0.5, mx.bfloat16).astype(hidden.dtype)

    def final_norm(self, hidden: mx.array) -> mx.array:
        """See SplitModel."""
        return self.body.norm(hidden)

    def attention_window(self, layer: int) -> int | None:
        """See SplitModel."""
        return self.body.window_size if self.layers[layer].self_attn.is_sliding else None

    def forward_all(
        self,
        layer: int,
        hidden: mx.array,
        mask: mx.array | str | None,
        per_layer_input: mx.array | None,
        cache: PrefixKVCache | None,
    ) -> tuple[mx.array, KeysValues | None]:
        """See SplitModel; later layers use no keys and values but those of a shared prefix."""
        hidden = self.layers[layer](hidden, mask, cache)
        return hidden, None if cache is None else cache.keys_values

    def project_keys_values(self, layer: int, hidden: mx.array, offset: int) -> KeysValues:
        """See SplitModel; as mlx_lm's attention makes them."""
        block = self.layers[layer]
        attention, x = block.self_attn, block.input_layernorm(hidden)
        shape = (*x.shape[:2], attention.n_kv_heads, -1)
        keys = attention.k_norm(attention.k_proj(x).reshape(shape).transpose(0, 2, 1, 3))
        return attention.rope(keys, offset=offset), attention.v_proj(x).reshape(shape).transpose(0, 2, 1, 3)

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
        return self.layers[layer](hidden, mask, FixedKVCache(keys_values, starts))
