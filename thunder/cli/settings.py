"""From a command line to settings: which layers there are, and which of them wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thunder.config import CONFIGS, Layer, Settings, load_yaml, nearest
from thunder.errors import UsageError
from thunder.lora.settings import LoraSettings

EMBEDDED_RUN = CONFIGS / "runs" / "sample-repair.yaml"
DEFAULT_PRESET = "safe"
# keys of an mlx_lm YAML that say what is always so here; another value is refused
MLX_LM_FIXED = {"train": True, "fine_tune_type": "lora", "test": False}
MLX_LM_LORA = {"rank": "lora_rank", "scale": "lora_scale", "dropout": "lora_dropout", "keys": "lora_keys"}


def preset_file(name: str) -> Path:
    """The YAML file of a preset.

    Raises UsageError that lists the presets where there is no such one.
    """
    path = CONFIGS / "presets" / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in path.parent.glob("*.yaml"))
        raise UsageError(f"there is no preset '{name}'.{nearest(name, known)}", fix=f"one of: {', '.join(known)}")
    return path


def config_layer(kind: type[Settings], path: Path) -> Layer:
    """A configuration file as a layer; mlx_lm's YAML keys are understood.

    Raises UsageError where it asks for something of mlx_lm's that is not done here.
    """
    values = load_yaml(path)
    if issubclass(kind, LoraSettings):
        values = from_mlx_lm(values, path)
    return Layer(str(path), values)


def from_mlx_lm(values: dict[str, Any], path: Path) -> dict[str, Any]:
    """mlx_lm's nested and fixed keys as ours."""
    out = dict(values)
    for key, only in MLX_LM_FIXED.items():
        if key in out and out.pop(key) != only:
            raise UsageError(
                f"{path}: '{key}' can only be {only!r} here", fix=f"take '{key}' out, or train with mlx_lm.lora"
            )
    for key, value in (out.pop("lora_parameters", None) or {}).items():
        out[MLX_LM_LORA.get(key, key)] = value
    return out


def lora_layers(config: Path | None, given: dict[str, Any]) -> list[Layer]:
    """Layers of `thunder train`, weakest first: embedded run or safe preset, named preset, file, flags."""
    said = config_layer(LoraSettings, config) if config else Layer("", {})
    named = given.get("model") or said.values.get("model")
    preset = given.get("preset") or said.values.get("preset")
    layers = [] if named else [Layer("the embedded default, configs/runs/sample-repair.yaml", load_yaml(EMBEDDED_RUN))]
    if preset or named:
        chosen = str(preset or DEFAULT_PRESET)
        layers.append(Layer(f"preset '{chosen}'", load_yaml(preset_file(chosen))))
    return [*layers, *([said] if config else []), Layer("command line", given)]
