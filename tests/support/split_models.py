"""Small Gemma models of every kind that the engines split, with random weights."""

from __future__ import annotations

import mlx.core as mx
from engine_oracle import (
    VOCABULARY,
)
from mlx import nn
from mlx_lm.models import gemma3, gemma3_text, gemma4, gemma4_text

LAYERS = 6

SMALL = {
    "hidden_size": 32, "num_hidden_layers": LAYERS, "intermediate_size": 48, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "vocab_size": VOCABULARY, "sliding_window": 12,
    "sliding_window_pattern": 3, "max_position_embeddings": 128,
}  # fmt: skip

SHARING = {
    "global_head_dim": 32, "num_kv_shared_layers": 3, "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY, "final_logit_softcapping": 30.0,
}  # fmt: skip

LARGER = SHARING | {"num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0, "attention_k_eq_v": True}


def fresh(kind: str) -> nn.Module:
    """A model of one kind with random weights."""
    mx.random.seed(7)
    if kind == "gemma4":  # with a wrapper around, as the multimodal models have it
        return gemma4.Model(gemma4.ModelArgs(text_config=SMALL | SHARING, vocab_size=VOCABULARY))
    if kind == "gemma3 in gemma3":
        text = SMALL | {"model_type": "gemma3_text", "query_pre_attn_scalar": 16}
        return gemma3.Model(gemma3.ModelArgs("gemma3", text, VOCABULARY))
    if kind == "gemma3":
        text = SMALL | {"model_type": "gemma3_text", "query_pre_attn_scalar": 16}
        return gemma3_text.Model(gemma3_text.ModelArgs.from_dict(text))
    text = SMALL | (LARGER if kind == "gemma4 without sharing" else SHARING)
    return gemma4_text.Model(gemma4_text.ModelArgs.from_dict(text))


KINDS = ["gemma4", "gemma4_text", "gemma4 without sharing", "gemma3", "gemma3 in gemma3"]
