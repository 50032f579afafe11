"""The layers of a command's settings, and their order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thunder.config import CONFIGS, Settings, SettingsLayer, load_yaml, suggest_name
from thunder.errors import UsageError
from thunder.launcher.options.mlx_lm_options import from_mlx_lm
from thunder.lora.lora_settings import LoraSettings

EMBEDDED_RUN = CONFIGS / "runs" / "sample-repair.yaml"
DEFAULT_PRESET = "safe"
COMMAND_LINE = "command line"  # where flags come from, in messages and plans
MLX_LM_LINE = "line of mlx_lm.lora"


def preset_file(name: str) -> Path:
    """The YAML file of a preset.

    Raises UsageError that lists the presets where there is no such one.
    """
    path = CONFIGS / "presets" / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in path.parent.glob("*.yaml"))
        raise UsageError(f"there is no preset '{name}'.{suggest_name(name, known)}", fix=f"one of: {', '.join(known)}")
    return path


def config_layer(kind: type[Settings], path: Path, optimizer: str | None = None) -> SettingsLayer:
    """A configuration file as a layer; mlx_lm's YAML keys are understood.

    optimizer: the one that a flag names, which decides what part of the file's `optimizer_config` counts.

    Raises UsageError where it asks for something of mlx_lm's that is not done here.
    """
    values, notes = load_yaml(path), []
    if issubclass(kind, LoraSettings):
        values, notes = from_mlx_lm(values, path, optimizer)
    return SettingsLayer(str(path), values, tuple(notes))


def file_and_flags(
    kind: type[Settings], config: Path | None, given: Mapping[str, Any], source: str = COMMAND_LINE
) -> list[SettingsLayer]:
    """The layers of most commands, weakest first: the file that `-c` names, and the flags."""
    return [*([config_layer(kind, config)] if config else []), SettingsLayer(source, given)]


def lora_layers(config: Path | None, given: Mapping[str, Any], source: str = COMMAND_LINE) -> list[SettingsLayer]:
    """Layers of `thunder train`, weakest first: embedded run or safe preset, named preset, file, flags."""
    optimizer = given.get("optimizer")
    file_layer = config_layer(LoraSettings, config, optimizer) if config else SettingsLayer("", {})
    given, notes = from_mlx_lm(given, source)
    named = given.get("model") or file_layer.values.get("model")
    preset = given.get("preset") or file_layer.values.get("preset")
    layers = (
        []
        if named
        else [SettingsLayer("the embedded default, configs/runs/sample-repair.yaml", load_yaml(EMBEDDED_RUN))]
    )
    if preset or named:
        chosen = str(preset or DEFAULT_PRESET)
        layers.append(SettingsLayer(f"preset '{chosen}'", load_yaml(preset_file(chosen))))
    return [*layers, *([file_layer] if config else []), SettingsLayer(source, given, tuple(notes))]
