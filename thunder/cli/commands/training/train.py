"""`thunder train` (also `launch`, which ./launch.sh calls): LoRA training on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from thunder.cli.launcher import job_runner, plan_facts, shape_check
from thunder.cli.launcher.job import Job, choose_place
from thunder.cli.launcher.remote_checks import surveyed
from thunder.cli.parsing import paths
from thunder.cli.parsing.flags import AsJson, ConfigFile, DryRun, flags
from thunder.cli.parsing.layers import lora_layers
from thunder.lora.lora_settings import EMBEDDED_MODEL, LoraSettings

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
        settings, sources, notes = job_runner.resumed_settings(LoraSettings, given, config)
    else:
        settings, sources, notes = job_runner.new_settings(LoraSettings, lora_layers(config, given))
        if settings.model and Path(settings.model).expanduser().exists():  # else it names a repository
            settings = settings.model_copy(update={"model": job_runner.absolute(settings.model)})
    place = choose_place(settings)
    settings = paths.portable(settings) if place.is_remote else settings
    name = Path(settings.model or EMBEDDED_MODEL).name if settings.model or own_rows(settings) else "sample"
    found = surveyed("train", settings, place) if place.is_remote else plan_facts.of_train(settings, place.ranks)
    settings, sources = balanced(settings, sources, found.get("chips", ()))
    job = Job("train", name, settings, sources, found, notes)
    found["shape"] = shape_check.of_job(job, place)
    return job_runner.run(job, place, dry_run=dry_run, as_json=as_json)


def balanced(
    settings: LoraSettings, sources: dict[str, str], chips: Sequence[str]
) -> tuple[LoraSettings, dict[str, str]]:
    """Rows by speed where the hosts' chips differ and nobody said otherwise; hosts of one kind keep the exact split."""
    if sources.get("balance") != "default" or len(set(chips)) < 2:
        return settings, sources
    return settings.model_copy(update={"balance": "auto"}), sources | {"balance": "the hosts' chips differ"}


def own_rows(settings: LoraSettings) -> bool:
    """Whether the user named rows, instead of the sample that is shipped."""
    return bool(settings.data or settings.train_data)
