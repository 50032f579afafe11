"""Put a LoRA adapter into the weights of its base, and write the result as a model folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_unflatten

from thunder import digest
from thunder.lora import base_model
from thunder.lora.prompts.prompt_format import PromptFormat

_TOKENIZER_FILES = ("tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt")


def fuse_adapter(model: nn.Module, dequantize: bool) -> nn.Module:
    """Add each LoRA product to its layer's weights. dequantize: also write quantized layers as 16 or 32 bit weights."""
    import mlx_lm.utils

    fused: list[tuple[str, Any]] = [
        (name, module.fuse(dequantize=dequantize)) for name, module in model.named_modules() if hasattr(module, "fuse")
    ]
    model.update_modules(tree_unflatten(fused))
    model = mlx_lm.utils.dequantize_model(model) if dequantize else model
    mx.eval(model.parameters())
    return model


def save_fused_model(
    folder: Path, model: nn.Module, base: Path, prompts: PromptFormat, dequantize: bool, metadata: dict[str, Any]
) -> None:
    """Write weights, config, tokenizer, chat template, and the tokens that end an answer. metadata: of its config."""
    import mlx_lm.utils

    folder.mkdir(parents=True)
    mlx_lm.utils.save_model(folder, model, donate_model=False)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    if dequantize:
        for key in ("quantization", "quantization_config"):
            config.pop(key, None)
    digest.write_json(folder / "config.json", config | {"thunder": metadata | {"prompt": prompts.describe()}})
    prompts.tokenizer.save_pretrained(folder)
    for name in _TOKENIZER_FILES:
        if (base / name).is_file() and not (folder / name).exists():
            shutil.copy(base / name, folder)
    generation = base_model.generation_config_with_ends(base, prompts.stops)
    digest.write_json(folder / base_model.GENERATION, generation)
