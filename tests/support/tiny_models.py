"""Tiny models in the layouts of real ones: wrappers, shards, no chat template, and other types with random weights."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
from conftest import REPOSITORY
from mlx.utils import tree_flatten

SHIPPED = REPOSITORY / "data" / "models" / "tiny-gemma4-nko"
TOKENIZER = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json")
SIZES = {
    "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 1e-6, "vocab_size": 1024,
    "max_position_embeddings": 512, "eos_token_id": [1, 6], "bos_token_id": 2,
}  # fmt: skip
GEMMA3 = {"sliding_window": 64, "sliding_window_pattern": 2, "query_pre_attn_scalar": 16}
TIED = {"rope_theta": 10000.0, "tie_word_embeddings": True}
EXPERTS = {
    "num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 1, "mlp_only_layers": [],
    "moe_intermediate_size": 32, "norm_topk_prob": True,
}  # fmt: skip
RANDOM = {
    "llama": ("llama", SIZES | TIED),
    "qwen3": ("qwen3", SIZES | TIED),
    "qwen3moe": ("qwen3_moe", SIZES | TIED | EXPERTS),
    "gemma2": (
        "gemma2",
        SIZES | {"query_pre_attn_scalar": 16, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    ),
    "gemma3-text": ("gemma3_text", SIZES | GEMMA3 | {"rope_theta": 1e6, "rope_local_base_freq": 1e4}),
    "gemma3-wrapper": (
        "gemma3",
        {
            "vocab_size": 1024,
            "eos_token_id": [1, 6],
            "text_config": SIZES | GEMMA3 | {"model_type": "gemma3_text"},
            "vision_config": {"hidden_size": 32},
        },
    ),
}


def make_model(layout: str, folder: Path) -> Path:
    """The folder of a model in one of LAYOUTS."""
    folder.mkdir(parents=True)
    for name in TOKENIZER:
        shutil.copy(SHIPPED / name, folder / name)
    if layout != "gemma4-no-template":
        shutil.copy(SHIPPED / "chat_template.jinja", folder / "chat_template.jinja")
    LAYOUTS[layout](folder)
    return folder


def _wrapper(folder: Path) -> None:
    """As the real gemma4: weights below `language_model.`, beside towers that mlx_lm drops."""
    text = json.loads((SHIPPED / "config.json").read_text())
    config = {
        "model_type": "gemma4", "architectures": ["Gemma4ForConditionalGeneration"], "text_config": text,
        "vocab_size": 1024, "eos_token_id": [1, 6], "pad_token_id": 0, "image_token_id": 900,
        "vision_config": {"model_type": "gemma4_vision", "hidden_size": 64},
        "audio_config": {"model_type": "gemma4_audio"},
    }  # fmt: skip
    towers = ("vision_tower.encoder.layers.0.w", "embed_vision.embedding_projection", "audio_tower.x")
    arrays = {f"language_model.{name}": array for name, array in mx.load(str(SHIPPED / "model.safetensors")).items()}
    _write(folder, config, arrays | {f"{name}.weight": mx.zeros((4, 4)) for name in towers})


def _plain(folder: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(SHIPPED / name, folder / name)


def _shards(folder: Path) -> None:
    arrays = mx.load(str(SHIPPED / "model.safetensors"))
    names, index = sorted(arrays), {}
    for number in (1, 2):
        file = f"model-{number:05d}-of-00002.safetensors"
        part = names[number - 1 :: 2]
        mx.save_safetensors(str(folder / file), {name: arrays[name] for name in part}, {"format": "mlx"})
        index |= dict.fromkeys(part, file)
    shutil.copy(SHIPPED / "config.json", folder / "config.json")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def _random(layout: str) -> Callable[[Path], None]:
    kind, sizes = RANDOM[layout]
    config = sizes | {"model_type": kind}

    def write(folder: Path) -> None:
        module = importlib.import_module(f"mlx_lm.models.{kind}")
        mx.random.seed(0)
        model = module.Model(module.ModelArgs.from_dict(config))
        _write(folder, config, dict(tree_flatten(model.parameters())))

    return write


def _write(folder: Path, config: dict, arrays: dict[str, mx.array]) -> None:
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, {"format": "mlx"})


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "gemma4-wrapper": _wrapper, "gemma4-no-template": _plain, "gemma4-sharded": _shards,
    **{layout: _random(layout) for layout in RANDOM},
}  # fmt: skip
