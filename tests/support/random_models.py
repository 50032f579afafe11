"""Tiny models of several types with random weights: sharing keys and values, sliding windows, neither."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map
from mlx_lm.models import gemma3_text, gemma3n, gemma4_text, lfm2, llama, qwen2

VOCABULARY = 320
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 4, "intermediate_size": 48, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "vocab_size": VOCABULARY, "rms_norm_eps": 1e-6,
}  # fmt: skip
GEMMA4 = {
    "model_type": "gemma4_text", "num_hidden_layers": 6, "global_head_dim": 32, "num_kv_shared_layers": 3,
    "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY, "sliding_window_pattern": 3,
    "max_position_embeddings": 512, "use_double_wide_mlp": True, "final_logit_softcapping": 30.0,
}  # fmt: skip
GEMMA3N = {
    "model_type": "gemma3n", "num_hidden_layers": 6, "intermediate_size": [48] * 6, "num_kv_shared_layers": 2,
    "vocab_size_per_layer_input": VOCABULARY, "sliding_window": 8, "max_position_embeddings": 512,
    "rope_local_base_freq": 1e4, "rope_theta": 1e6, "final_logit_softcapping": 30.0,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
    "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0, 0.0, 0.0], "hidden_size_per_layer_input": 8,
    "altup_num_inputs": 4, "altup_coef_clip": 120.0, "altup_correct_scale": True, "altup_active_idx": 0,
    "laurel_rank": 8, "rope_scaling": None,
}  # fmt: skip
GEMMA3 = {"model_type": "gemma3_text", "query_pre_attn_scalar": 16, "sliding_window_pattern": 3}
LFM2 = {
    "model_type": "lfm2", "max_position_embeddings": 512, "norm_eps": 1e-6, "conv_bias": False, "conv_L_cache": 3,
    "block_dim": 32, "block_multiple_of": 8, "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": False,
    "layer_types": ["conv", "full_attention", "conv", "full_attention"],
}  # fmt: skip
KINDS = ["gemma4, window 8", "gemma4, window 40", "gemma3, window 8", "gemma3, window 40", "gemma3n", "llama", "qwen2"]


def random_model(kind: str, seed: int = 0) -> nn.Module:
    """A model in float64 with answers far from ties: each of its weights is drawn."""
    kind, _, window = kind.partition(", window ")
    slides = {"sliding_window": int(window)} if window else {}
    if kind == "gemma4":
        model = gemma4_text.Model(gemma4_text.ModelArgs.from_dict(SIZES | GEMMA4 | slides))
    elif kind == "gemma3":
        model = gemma3_text.Model(gemma3_text.ModelArgs.from_dict(SIZES | GEMMA3 | slides))
    elif kind == "gemma3n":
        model = gemma3n.Model(gemma3n.ModelArgs("gemma3n", SIZES | GEMMA3N))
    elif kind == "llama":
        model = llama.Model(llama.ModelArgs.from_dict(SIZES | {"model_type": "llama"}))
    elif kind == "lfm2":
        model = lfm2.Model(lfm2.ModelArgs.from_dict(SIZES | LFM2))
    else:
        model = qwen2.Model(qwen2.ModelArgs.from_dict(SIZES | {"model_type": "qwen2"}))
    mx.random.seed(seed)
    model.set_dtype(mx.float64)
    model.update(tree_map(lambda array: (mx.random.normal(array.shape) * 0.5).astype(mx.float64), model.parameters()))
    model.eval()
    mx.eval(model.parameters())
    return model
