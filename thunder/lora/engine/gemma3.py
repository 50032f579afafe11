"""Gemma 3 for the engine: every layer makes its own keys and values, so only the last one can leave the prompt out."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from thunder.lora.engine.split_model import Behind, Given, KeysValues, Part, Trunk


class Gemma3(Trunk):
    """mlx_lm's gemma3_text, alone or inside gemma3."""

    def __init__(self, model: nn.Module, trained: int, recomputes: bool = False) -> None:
        """trained: how many of the last layers have LoRA. recomputes: activations, in the backward pass.

        Recomputing differentiates by what a layer is called with, and keys and values cannot be given to it so.
        """
        language = getattr(model, "language_model", model)
        self.body, self.config = language.model, language.args
        self.layers = self.body.layers
        self.first = len(self.layers) - trained
        self.cut = len(self.layers) - (0 if recomputes else 1)
        self.cap = None
        self.projection = self.body.embed_tokens if language.tie_word_embeddings else language.lm_head
        self.parts = (Part("hidden", "all", (self.config.hidden_size,), self.body.norm.weight.dtype),)

    def embed(self, ids: mx.array) -> mx.array:
        """See Trunk; mlx_lm rounds the scale to bfloat16."""
        hidden = self.body.embed_tokens(ids)
        return hidden * mx.array(self.config.hidden_size**0.5, mx.bfloat16).astype(hidden.dtype)

    def finish(self, hidden: mx.array) -> mx.array:
        """See Trunk."""
        return self.body.norm(hidden)

    def window(self, layer: int) -> int | None:
        """See Trunk."""
        return self.body.window_size if self.layers[layer].self_attn.is_sliding else None

    def everywhere(
        self, layer: int, hidden: mx.array, mask: mx.array | str | None, extra: mx.array | None, past: Behind | None
    ) -> tuple[mx.array, KeysValues | None]:
        """See Trunk; no later layer asks for keys and values but for a shared beginning's."""
        hidden = self.layers[layer](hidden, mask, past)
        return hidden, None if past is None else past.keys_values

    def keys_values(self, layer: int, hidden: mx.array, offset: int) -> KeysValues:
        """See Trunk; as mlx_lm's attention makes them."""
        block = self.layers[layer]
        attention, x = block.self_attn, block.input_layernorm(hidden)
        shape = (*x.shape[:2], attention.n_kv_heads, -1)
        keys = attention.k_norm(attention.k_proj(x).reshape(shape).transpose(0, 2, 1, 3))
        return attention.rope(keys, offset=offset), attention.v_proj(x).reshape(shape).transpose(0, 2, 1, 3)

    def supervised(
        self, layer: int, hidden: mx.array, mask: mx.array, extra: mx.array | None, kv: KeysValues, starts: mx.array
    ) -> mx.array:
        """See Trunk."""
        return self.layers[layer](hidden, mask, Given(kv, starts))
