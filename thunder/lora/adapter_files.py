"""Find, read, check and copy adapter folders of mlx_lm's format. Needs no MLX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.errors import ModelError
from thunder.lora.lora_settings import LoraSettings

WEIGHTS, CONFIG = "adapters.safetensors", "adapter_config.json"
PEFT_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
TEMPLATE = "chat_template.jinja"
_PROMPT_RECORD = (
    ("chat_template_sha256", str),
    ("chat_template_config", dict),
    ("end_of_turn", str),
    ("stop_ids", list),
    ("instruction", str),
)
"""(key, kind) of the record that PromptFormat.describe makes."""


def lora_parameters(settings: LoraSettings) -> dict[str, Any]:
    """mlx_lm's `lora_parameters`."""
    values: dict[str, Any] = {
        "rank": settings.lora_rank,
        "scale": settings.lora_scale,
        "dropout": settings.lora_dropout,
    }
    return values | ({"keys": settings.lora_keys} if settings.lora_keys else {})


def find_adapter(given: str) -> Path:
    """The folder of an adapter that is given as the folder or, as in mlx_lm, as its weights file.

    Raises ModelError that names what is missing or unreadable.
    """
    path = Path(given).expanduser()
    folder = path.parent if path.name in (WEIGHTS, *PEFT_WEIGHTS) else path
    read_adapter_config(folder)
    return folder


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The adapter's config, after a check that the folder is an adapter.

    Raises ModelError that names what is missing or unreadable.
    """
    if is_peft_adapter(folder):
        raise ModelError(
            f"{folder}: an adapter of Hugging Face's PEFT; adapters here are mlx_lm's, with {WEIGHTS}",
            fix="convert it: lora_a is A transposed, lora_b is B transposed, scale is lora_alpha / r; or train it here",
        )
    missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    if missing:
        raise ModelError(
            f"{folder}: not an adapter folder: it has no {' and no '.join(missing)}",
            fix=f"--adapter-path {folder / 'adapters'}"
            if (folder / "adapters" / WEIGHTS).is_file()
            else "name a folder such as runs/latest/adapters",
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict) or "num_layers" not in config:
            raise ValueError("it has no num_layers")
        if not isinstance(config.get("lora_parameters"), dict):
            raise ValueError("it has no lora_parameters")
    except ValueError as error:
        raise ModelError(f"{folder / CONFIG}: {error}", fix="train the adapter again, or copy it whole") from None
    return config


def is_peft_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter in the layout of Hugging Face's PEFT."""
    if (folder / WEIGHTS).is_file():
        return False
    if any((folder / name).is_file() for name in PEFT_WEIGHTS):
        return True
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "peft_type" in config


def check_adapter_base(folder: Path, base_sha256: str, base: Path) -> None:
    """Check that an adapter was trained on this base; an adapter that does not name its base passes.

    Raises ModelError that names both bases.
    """
    config = read_adapter_config(folder)
    metadata = config.get("thunder")
    trained_on = metadata.get("base_sha256") if isinstance(metadata, dict) else None
    if trained_on is not None and trained_on != base_sha256:
        raise ModelError(
            f"{folder}: an adapter of another base: trained on {config.get('model')} (sha256 {str(trained_on)[:12]}), "
            f"not on {base} ({base_sha256[:12]})",
            fix=f"--model {config.get('model')}, or the adapter of this base",
        )


def read_prompt_record(folder: Path) -> dict[str, Any] | None:
    """How an adapter's training rows were made into tokens (see PromptFormat.describe); None where it does not say.

    Raises ModelError where the record is damaged.
    """
    metadata = read_adapter_config(folder).get("thunder")
    record = metadata.get("prompt") if isinstance(metadata, dict) else None
    if record is None:
        return None
    if not isinstance(record, dict) or any(not isinstance(record.get(key), kind) for key, kind in _PROMPT_RECORD):
        raise ModelError(
            f"{folder / CONFIG}: its record 'thunder.prompt' is damaged",
            fix="copy the adapter again, or train it again",
        )
    return record


def read_adapter_template(folder: Path) -> str:
    """The chat template that an adapter was trained with.

    Raises ModelError where it is missing, or is not the one that the adapter's record names.
    """
    record = read_prompt_record(folder)
    path = folder / TEMPLATE
    try:
        template = path.read_bytes().decode("utf-8")  # line ends as they are
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}", fix="copy the adapter's whole folder again") from None
    if record and digest.sha256_bytes(template.encode()) != record["chat_template_sha256"]:
        raise ModelError(
            f"{path}: not the template that the adapter was trained with (its SHA-256 differs)",
            fix="copy the adapter's whole folder again",
        )
    return template


def adapter_sha256(folder: Path) -> str:
    """SHA-256 of everything that decides an adapter's answers: weights, mlx_lm's part of its config, prompt record."""
    config = {name: value for name, value in read_adapter_config(folder).items() if name not in ("thunder", "model")}
    prompt = read_prompt_record(folder)
    return digest.sha256_json([digest.sha256_file(folder / WEIGHTS), config, *([prompt] if prompt else [])])


def copy_adapter(source: Path, target: Path) -> None:
    """Copy an adapter's files to another folder, each of them atomically."""
    target.mkdir(parents=True, exist_ok=True)
    for name in (TEMPLATE, CONFIG, WEIGHTS):
        if name == TEMPLATE and not (source / name).is_file():
            continue
        digest.write_atomically(target / name, (source / name).read_bytes())
