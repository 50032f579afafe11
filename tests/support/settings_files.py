"""Settings of LoRA training from files and flags, for tests."""

from __future__ import annotations

from thunder.config import build_settings
from thunder.launcher.options.setting_layers import lora_layers
from thunder.lora.lora_settings import LoraSettings


def settings_of(config=None, **given):
    return build_settings(LoraSettings, lora_layers(config, given))


def yaml(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path
