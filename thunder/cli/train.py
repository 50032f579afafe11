"""`thunder train` (also `launch`, which ./launch.sh calls): LoRA training on a cluster."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from thunder.cli import jobs, paths
from thunder.cli.far import surveyed
from thunder.cli.options import AsJson, ConfigFile, DryRun, flags
from thunder.cli.settings import lora_layers
from thunder.errors import UsageError
from thunder.lora import adapter_files, batches, data, model
from thunder.lora.settings import EMBEDDED_MODEL, LoraSettings
from thunder.training import safe_shapes

app = typer.Typer(add_completion=False)


@app.command()
@flags(LoraSettings)
def train(
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    given: dict[str, Any],
) -> None:
    """Train a LoRA adapter: data-parallel over the cluster's ranks, then test base against adapter.

    With no --model and no --data it trains the tiny Gemma that is shipped here on the sample corpus, offline.
    """
    raise typer.Exit(start(config, given, dry_run=dry_run, as_json=as_json))


def start(config: Path | None, given: dict[str, Any], *, dry_run: bool = False, as_json: bool = False) -> int:
    """Run the job that a command line or `thunder resume` asks for; returns the exit code."""
    if "resume" in given:
        settings, sources, notes = jobs.resumed_settings(LoraSettings, given, config)
    else:
        settings, sources, notes = jobs.new_settings(LoraSettings, lora_layers(config, given))
        if settings.model and Path(settings.model).expanduser().exists():  # else it names a repository
            settings = settings.model_copy(update={"model": jobs.absolute(settings.model)})
    place = jobs.choose_place(settings)
    settings = paths.portable(settings) if place.is_far else settings
    name = Path(settings.model or EMBEDDED_MODEL).name if settings.model or own_rows(settings) else "sample"
    found = surveyed("train", settings, place) if place.is_far else facts(settings, place.ranks)
    job = jobs.Job("train", name, settings, sources, found, notes)
    return jobs.run(job, place, dry_run=dry_run, as_json=as_json)


def own_rows(settings: LoraSettings) -> bool:
    """Whether the user named rows, instead of the sample that is shipped."""
    return bool(settings.data or settings.train_data)


def facts(settings: LoraSettings, ranks: int) -> dict[str, Any]:
    """What the plan says of model, data and shape; read from disk, without MLX."""
    base = model.find(settings.model)
    tokenizer = batches.load_tokenizer(base)
    prepared = data.prepare(settings, tokenizer, ranks)
    if settings.resume_adapter_file and not settings.resume:
        adapter_files.find(settings.resume_adapter_file)
    if settings.adapter_path:
        jobs.check_writable(Path(settings.adapter_path))
    config = model.read_config(base)
    text = config.get("text_config", config)
    layers = int(text.get("num_hidden_layers", 0))
    if layers and settings.num_layers > layers:
        raise UsageError(
            f"--num-layers {settings.num_layers}: the model has {layers}", fix=f"--num-layers {layers}, or -1 for all"
        )
    shape = safe_shapes.Shape(
        settings.batch_size,
        max(1, layers) if settings.num_layers == -1 else settings.num_layers,
        settings.max_seq_length,
    )
    verdict = safe_shapes.judge(shape, model.multiply_adds(config) or safe_shapes.E2B_MULTIPLY_ADDS)
    if platform.system() == "Darwin" and verdict.verdict == "unsafe" and not settings.unsafe_shape:
        raise UsageError(
            f"{shape}: {verdict.reason}",
            fix=f"{safe_shapes.as_flags(verdict.nearest_safe)}, or --unsafe-shape if you know better",
        )
    return {
        "model": {
            "name": settings.model or EMBEDDED_MODEL.name,
            "source": "--model" if settings.model else "shipped here: no model was named",
            "path": str(base),
            "type": config.get("model_type"),
            "layers": layers,
            "template": batches.template_note(tokenizer),
            "sha256": model.base_digest(base, model.digest_cache()),
        },
        "data": prepared.summary(),
        "shape": asdict(verdict),
    }
