"""The facts of a job's plan: its model and rows, read from disk, without MLX."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from thunder import digest
from thunder.errors import UsageError
from thunder.launcher.options import setting_paths
from thunder.launcher.plan import DataPart, EnginePart, JobFacts, ModelPart
from thunder.lora import adapter_files, base_model, datasets, open_text
from thunder.lora.engine.engine_choice import choose_engine
from thunder.lora.lora_settings import EMBEDDED_MODEL, LoraSettings, PretrainSettings
from thunder.lora.prompts.load_prompts import load_prompt_format, template_note
from thunder.lora.prompts.mlx_lm_prompt import generation_folder
from thunder.training.loop_settings import check_max_epochs, iterations_of_epochs, planned_epochs
from thunder.training.shapes import model_size


def train_facts(settings: LoraSettings, ranks: int) -> JobFacts:
    """Model, engine and data of `thunder train`; read from disk, without MLX.

    Raises ModelError, CorpusError or UsageError where they cannot be used together.
    """
    base = base_model.find_base_model(settings.model)
    prompts = load_prompt_format(base, template_kwargs=settings.template_kwargs)
    prepared = datasets.prepare_datasets(settings, prompts, ranks)
    if settings.resume_adapter_file and not settings.resume:
        adapter_files.find_adapter(settings.resume_adapter_file)
    if settings.adapter_path:
        setting_paths.check_writable(Path(settings.adapter_path))
    config = base_model.read_model_config(base)
    text = config.get("text_config", config)
    layers = int(text.get("num_hidden_layers", 0))
    if layers and settings.num_layers > layers:
        raise UsageError(
            f"--num-layers {settings.num_layers}: the model has {layers}", fix=f"--num-layers {layers}, or -1 for all"
        )
    settings = with_epochs(settings, len(prepared.train.examples), ranks)
    epochs = planned_epochs(
        settings.total_updates,
        len(prepared.train.examples),
        settings.batch_size * ranks * settings.grad_accumulation_steps,
    )
    check_max_epochs(epochs, settings.max_epochs, settings.iters)
    size = model_size.model_size_from_config(config)
    engine = choose_engine(config, settings.num_layers)
    return JobFacts(
        model=ModelPart(
            name=settings.model or EMBEDDED_MODEL.name,
            source="--model" if settings.model else "shipped here: no model was named",
            path=str(base),
            type=config.get("model_type"),
            layers=layers,
            size=asdict(size) if size else None,
            template=template_note(prompts),
            chat_template_config=prompts.template_kwargs,
            generation_path=str(generation_folder(base, prompts)),
            sha256=base_model.base_digest(base, base_model.digest_cache_path()),
        ),
        engine=EnginePart(name=engine.name, reason=engine.reason),
        data=DataPart.model_validate(prepared.summary()),
    )


def with_epochs(settings: LoraSettings, rows: int, ranks: int) -> LoraSettings:
    """The settings with `epochs` written as `iters`, and as many epochs allowed: who names them knows of them.

    rows: training rows that are used. Settings without `epochs` stay as they are.
    """
    if settings.epochs is None:
        return settings
    accumulation = settings.grad_accumulation_steps
    iters = iterations_of_epochs(settings.epochs, rows, settings.batch_size * ranks, accumulation)
    most = max(settings.max_epochs, math.ceil(settings.epochs))
    return settings.model_copy(update={"iters": iters, "max_epochs": most, "epochs": None})


def train_digests(settings: LoraSettings) -> dict[str, Any]:
    """The part of `train_facts` by which hosts are compared; rows are read, and not tokenized."""
    base = base_model.find_base_model(settings.model)
    return {
        "model": {"path": str(base), "sha256": base_model.base_digest(base, base_model.digest_cache_path())},
        "data": {"sha256": datasets.read_datasets(settings).files},
    }


def pretrain_facts(settings: PretrainSettings) -> JobFacts:
    """The digest of the text, as the ranks agree on it, and where it lies on this host."""
    text = open_text.read_open_text(settings)
    return JobFacts(
        data=DataPart(
            lines={"train": len(text.train), "heldout": len(text.heldout), "excluded": text.excluded},
            sha256={"text": digest.sha256_json([*text.train, *text.heldout])},
            files={name: str(Path(settings.text_root) / name) for name in settings.text},
        )
    )
