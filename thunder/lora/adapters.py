"""Add LoRA layers to a model; save and load adapters in mlx_lm's format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers

from thunder import digest
from thunder.errors import ModelError
from thunder.lora import adapter_files
from thunder.lora.adapter_files import CONFIG, TEMPLATE, WEIGHTS, lora_parameters
from thunder.lora.engine.engine_choice import GEMMA3N
from thunder.lora.lora_settings import LoraSettings

COEFFICIENTS = ("altup.prediction_coefs", "altup.correction_coefs")


def add_lora(model: nn.Module, settings: LoraSettings) -> int:
    """Freeze the model and add LoRA to its last layers; returns their number. The seed alone decides the first weights.

    Raises ModelError where the model has fewer layers than requested, no layer has the keys, or one cannot have LoRA.
    """
    layers = len(model.layers)
    chosen = layers if settings.num_layers == -1 else settings.num_layers
    if chosen > layers:
        raise ModelError(f"--num-layers {chosen}: the model has {layers}", fix=f"--num-layers {layers}, or -1 for all")
    lora_config = _parameters(model, settings)
    mx.random.seed(settings.seed)
    model.freeze()
    linear_to_lora_layers(model, chosen, lora_config)
    if not tree_flatten(model.trainable_parameters()):
        raise ModelError(
            f"--lora-keys {settings.lora_keys}: no layer has them",
            fix="name paths inside a block, such as self_attn.q_proj",
        )
    mx.eval(model.parameters())
    return chosen


def _parameters(model: nn.Module, settings: LoraSettings) -> dict[str, Any]:
    """mlx_lm's `lora_parameters` of a model; for gemma3n with all keys named.

    There mlx_lm.lora's default keys include AltUp's coefficients, whose weights mlx_lm reads and changes itself: with
    LoRA around them the first forward pass fails.
    """
    parameters = lora_parameters(settings)
    if getattr(model, "model_type", None) not in GEMMA3N:
        return parameters
    barred = [key for key in settings.lora_keys or () if key.startswith(COEFFICIENTS)]
    if barred:
        raise ModelError(
            f"--lora-keys {', '.join(barred)}: mlx_lm's gemma3n cannot run with LoRA there",
            fix="leave them out, or give no --lora-keys: then all other linear layers get LoRA",
        )
    names = {
        name.removesuffix(".linear")  # the name inside a LoRA layer, once there is one
        for layer in model.layers
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear | nn.QuantizedLinear)
    }
    return {"keys": sorted(name for name in names if not name.startswith(COEFFICIENTS)), **parameters}


def save_adapter(
    folder: Path,
    model: nn.Module,
    settings: LoraSettings,
    layers: int,
    metadata: dict[str, Any],
    chat_template: str | None = None,
) -> None:
    """Write adapters.safetensors, adapter_config.json, and the chat template that the training rows were made with.

    The first holds LoRA tensors only, since mlx_lm refuses others; `metadata` is the key `thunder` of the second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "fine_tune_type": "lora",
        "num_layers": layers,
        "lora_parameters": _parameters(model, settings),
        "model": metadata.get("model"),
        "thunder": metadata,
    }
    # mx.save_safetensors appends the suffix where it is missing, so the temporary name must have it
    beside = folder / f".{os.getpid()}.tmp.safetensors"
    mx.save_safetensors(str(beside), dict(tree_flatten(model.trainable_parameters())), {"format": "mlx"})
    with beside.open("rb") as stream:
        os.fsync(stream.fileno())
    if chat_template is not None:
        digest.write_atomically(folder / TEMPLATE, chat_template)
    digest.write_json(folder / CONFIG, config)
    os.replace(beside, folder / WEIGHTS)


def load_adapter_weights(model: nn.Module, settings: LoraSettings, folder: Path) -> None:
    """Load a saved adapter of the same layers, shapes and scale into the LoRA layers of a model.

    Raises ModelError where the folder is not an adapter, or is one of another model, shape or scale.
    """
    scale = adapter_files.read_adapter_config(folder)["lora_parameters"].get("scale")
    if scale != settings.lora_scale:
        raise ModelError(
            f"{folder}: its scale is {scale}, the run's is {settings.lora_scale:g}: it would start as another model",
            fix=f"--lora-scale {scale}",
        )
    fix = f"give --num-layers, --lora-rank and --lora-keys as {folder / CONFIG} has them"
    model.load_weights(list(_fitting(model, folder, fix).items()), strict=False)


def attach_adapter(model: nn.Module, folder: Path) -> bool:
    """Freeze a base and add a saved LoRA adapter to it; returns whether the adapter changes anything (B is not 0).

    Raises ModelError where it is not a LoRA, does not fit the model, or has values that are not finite.
    """
    config = adapter_files.read_adapter_config(folder)
    kind = config.get("fine_tune_type", "lora")
    if kind != "lora":
        raise ModelError(
            f"{folder}: its fine_tune_type is {kind}: only a LoRA can be disabled to ask the base", fix="a LoRA"
        )
    model.freeze()
    try:
        linear_to_lora_layers(model, config["num_layers"], config["lora_parameters"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder / CONFIG}: {error}", fix="the adapter of this model") from None
    weights = _fitting(model, folder, fix="the adapter of this model")
    invalid = [name for name, array in weights.items() if not mx.all(mx.isfinite(array)).item()]
    if invalid:
        raise ModelError(
            f"{folder}: {len(invalid)} tensors hold infinities or NaN, such as {invalid[0]}",
            fix="train it again: it diverged",
        )
    model.load_weights(list(weights.items()), strict=False)
    mx.eval(model.parameters())
    return any(mx.any(array != 0).item() for name, array in weights.items() if name.endswith("lora_b"))


def _fitting(model: nn.Module, folder: Path, fix: str) -> dict[str, mx.array]:
    """A saved adapter's tensors. Raises ModelError where they are not those of the model's LoRA layers."""
    expected = {name: array.shape for name, array in tree_flatten(model.trainable_parameters())}
    try:
        weights: dict[str, mx.array] = mx.load(str(folder / WEIGHTS))
    except RuntimeError as error:
        raise ModelError(f"{folder / WEIGHTS}: {error}", fix="copy the adapter again, or train it again") from None
    saved = {name: array.shape for name, array in weights.items()}
    if expected != saved:
        names = sorted(name for name in expected.keys() | saved.keys() if expected.get(name) != saved.get(name))
        shown = "; ".join(f"{name}: {saved.get(name)} there, {expected.get(name)} here" for name in names[:3])
        raise ModelError(
            f"{folder}: not an adapter of this model and shape: {len(names)} tensors differ: {shown}", fix=fix
        )
    return weights


def disable_adapter(model: nn.Module) -> dict[str, mx.array]:
    """Set B to 0, so that the model is exactly its base; returns the B matrices for `enable_adapter`."""
    saved = {name: array for name, array in tree_flatten(model.trainable_parameters()) if name.endswith("lora_b")}
    model.load_weights([(name, mx.zeros_like(array)) for name, array in saved.items()], strict=False)
    return saved


def enable_adapter(model: nn.Module, saved: dict[str, mx.array]) -> None:
    """Undo `disable_adapter`. saved: what it returned."""
    model.load_weights(list(saved.items()), strict=False)
