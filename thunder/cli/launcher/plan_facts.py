"""What a plan says of a job's model and rows: read from disk, without MLX."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from thunder.cli.parsing import paths
from thunder.errors import UsageError
from thunder.lora import adapter_files, base_model, datasets, tokenized_rows
from thunder.lora.engine.engine_choice import choose_engine
from thunder.lora.lora_settings import EMBEDDED_MODEL, LoraSettings
from thunder.training import wraps
from thunder.training.shapes import model_size


def of_train(settings: LoraSettings, ranks: int) -> dict[str, Any]:
    """What the plan says of model and data; read from disk, without MLX."""
    base = base_model.find(settings.model)
    tokenizer = tokenized_rows.load_tokenizer(base)
    prepared = datasets.prepare(settings, tokenizer, ranks)
    if settings.resume_adapter_file and not settings.resume:
        adapter_files.find(settings.resume_adapter_file)
    if settings.adapter_path:
        paths.check_writable(Path(settings.adapter_path))
    config = base_model.read_config(base)
    text = config.get("text_config", config)
    layers = int(text.get("num_hidden_layers", 0))
    if layers and settings.num_layers > layers:
        raise UsageError(
            f"--num-layers {settings.num_layers}: the model has {layers}", fix=f"--num-layers {layers}, or -1 for all"
        )
    passes = wraps.planned(
        settings.total_updates,
        len(prepared.train.examples),
        settings.batch_size * ranks * settings.grad_accumulation_steps,
    )
    wraps.refuse_more(passes, settings.max_wraps, settings.iters)
    size = model_size.from_config(config)
    return {
        "model": {
            "name": settings.model or EMBEDDED_MODEL.name,
            "source": "--model" if settings.model else "shipped here: no model was named",
            "path": str(base),
            "type": config.get("model_type"),
            "layers": layers,
            "size": size and asdict(size),
            "template": tokenized_rows.template_note(tokenizer),
            "sha256": base_model.base_digest(base, base_model.digest_cache()),
        },
        "engine": asdict(choose_engine(config, settings.num_layers)),
        "data": prepared.summary(),
    }


def digests(settings: LoraSettings) -> dict[str, Any]:
    """The part of `of_train` by which hosts are compared; rows are read, and not tokenised."""
    base = base_model.find(settings.model)
    return {
        "model": {"path": str(base), "sha256": base_model.base_digest(base, base_model.digest_cache())},
        "data": {"sha256": datasets.read(settings).files},
    }
