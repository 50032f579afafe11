"""LoRA adapters: put on a model, written and read exactly as mlx_lm reads them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from thunder import digest
from thunder.errors import ModelError
from thunder.lora.settings import LoraSettings

WEIGHTS, CONFIG = "adapters.safetensors", "adapter_config.json"


def add(model: nn.Module, settings: LoraSettings) -> int:
    """Freeze the model and put LoRA on its last layers; the first weights depend on the seed alone. Returns the layers.

    Raises ModelError where the model has fewer layers than asked for, or no layer has the keys.
    """
    layers = len(model.layers)
    chosen = layers if settings.num_layers == -1 else settings.num_layers
    if chosen > layers:
        raise ModelError(f"--num-layers {chosen}: the model has {layers}", fix=f"--num-layers {layers}, or -1 for all")
    mx.random.seed(settings.seed)
    model.freeze()
    linear_to_lora_layers(model, chosen, parameters(settings))
    if not tree_flatten(model.trainable_parameters()):
        raise ModelError(
            f"--lora-keys {settings.lora_keys}: no layer has them",
            fix="name paths inside a block, such as self_attn.q_proj",
        )
    mx.eval(model.parameters())
    return chosen


def parameters(settings: LoraSettings) -> dict[str, Any]:
    """mlx_lm's `lora_parameters`."""
    values: dict[str, Any] = {
        "rank": settings.lora_rank,
        "scale": settings.lora_scale,
        "dropout": settings.lora_dropout,
    }
    return values | ({"keys": settings.lora_keys} if settings.lora_keys else {})


def save(folder: Path, model: nn.Module, settings: LoraSettings, layers: int, ours: dict[str, Any]) -> None:
    """Write adapters.safetensors and adapter_config.json.

    The first holds LoRA tensors only, since mlx_lm refuses others; what is ours stands under `thunder` in the second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "fine_tune_type": "lora",
        "num_layers": layers,
        "lora_parameters": parameters(settings),
        "model": ours.get("model"),
        "thunder": ours,
    }
    # mx.save_safetensors appends the ending where it is missing, so the name beside must have it
    beside = folder / f".{os.getpid()}.tmp.safetensors"
    mx.save_safetensors(str(beside), dict(tree_flatten(model.trainable_parameters())), {"format": "mlx"})
    with beside.open("rb") as stream:
        os.fsync(stream.fileno())
    digest.write_json(folder / CONFIG, config)
    os.replace(beside, folder / WEIGHTS)


def check(folder: Path) -> dict[str, Any]:
    """The adapter's config, after seeing that the folder is an adapter.

    Raises ModelError that says what is missing or unreadable.
    """
    missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"{folder}: not an adapter folder: it has no {' and no '.join(missing)}",
            fix="name a folder such as runs/latest/adapters",
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict) or "num_layers" not in config or "lora_parameters" not in config:
            raise ValueError("it has no num_layers and lora_parameters")
    except ValueError as error:
        raise ModelError(f"{folder / CONFIG}: {error}", fix="train the adapter again, or copy it whole") from None
    return config


def load(model: nn.Module, folder: Path) -> None:
    """Put a saved adapter on a fresh base model.

    Raises ModelError where the folder is not an adapter, or is one of another model.
    """
    from mlx_lm.tuner.utils import load_adapters

    check(folder)
    try:
        load_adapters(model, str(folder))
    except (ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{folder}: {error}", fix="use the base model that adapter_config.json names") from None
    mx.eval(model.parameters())


def switch_off(model: nn.Module) -> dict[str, mx.array]:
    """Make the adapter do nothing and return what `switch_on` needs: with B = 0 the model is exactly its base."""
    kept = {name: array for name, array in tree_flatten(model.trainable_parameters()) if name.endswith("lora_b")}
    model.load_weights([(name, mx.zeros_like(array)) for name, array in kept.items()], strict=False)
    return kept


def switch_on(model: nn.Module, kept: dict[str, mx.array]) -> None:
    """Undo `switch_off`."""
    model.load_weights(list(kept.items()), strict=False)


def copy(source: Path, target: Path) -> None:
    """Copy an adapter's two files to another folder, each whole or not at all."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, WEIGHTS):
        digest.write_atomically(target / name, (source / name).read_bytes())
