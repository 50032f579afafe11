"""Small models of four kinds by their config.json, with LoRA, whose training step is costed."""

from __future__ import annotations

import math

import mlx.core as mx
from conftest import TINY_GEMMA3N
from mlx_lm.models import gemma3_text, gemma3n, gemma4_text

from thunder.lora import adapters
from thunder.lora.lora_settings import LoraSettings

GEMMA4 = {
    "model_type": "gemma4_text", "hidden_size": 32, "num_hidden_layers": 6, "intermediate_size": 48,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "global_head_dim": 32,
    "num_kv_shared_layers": 3, "hidden_size_per_layer_input": 8, "vocab_size": 320, "vocab_size_per_layer_input": 320,
    "sliding_window": 16, "sliding_window_pattern": 3, "use_double_wide_mlp": True,
    "final_logit_softcapping": 30.0, "dtype": "float32",
}  # fmt: skip

WITHOUT_SHARING = GEMMA4 | {"num_kv_shared_layers": 0, "hidden_size_per_layer_input": 0, "attention_k_eq_v": True}

GEMMA3 = {
    "model_type": "gemma3_text", "hidden_size": 32, "num_hidden_layers": 4, "intermediate_size": 48,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 320, "sliding_window": 16,
    "sliding_window_pattern": 2, "dtype": "float32",
}  # fmt: skip

GEMMA3N = {"model_type": "gemma3n", "dtype": "float32", "text_config": TINY_GEMMA3N}

CONFIGS = [GEMMA4, WITHOUT_SHARING, GEMMA3, GEMMA3N]


def network_of(config, layers, rank=4):
    kind = {"gemma3n": gemma3n, "gemma3_text": gemma3_text, "gemma4_text": gemma4_text}[config["model_type"]]
    network = kind.Model(kind.ModelArgs.from_dict(config))
    adapters.add_lora(network, LoraSettings(num_layers=layers, lora_rank=rank))
    network.train()
    return network


def multiply_adds_of(function, *inputs):
    """Multiply-adds of all matrix products in the graph that MLX makes of a function."""
    total = 0

    def on_node(node):
        nonlocal total
        if node.get("type") == "primitive" and node["name"] == "Matmul":
            total += math.prod(node["outputs"][0][1]) * node["inputs"][0][1][-1]

    mx.export_function(on_node, function, *inputs)
    return total
