"""`thunder pretrain`: the tiny base model from open text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from thunder.cli import jobs, paths
from thunder.cli.far import surveyed
from thunder.cli.options import AsJson, ConfigFile, DryRun, flags
from thunder.cli.settings import file_and_flags
from thunder.lora.settings import PretrainSettings

app = typer.Typer(add_completion=False)


@app.command()
@flags(PretrainSettings)
def pretrain(
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    given: dict[str, Any],
) -> None:
    """Pretrain the tiny Gemma from scratch: plain text, and copying and repairing in the chat format."""
    raise typer.Exit(start(config, given, dry_run=dry_run, as_json=as_json))


def start(config: Path | None, given: dict[str, Any], *, dry_run: bool = False, as_json: bool = False) -> int:
    """Run the job that a command line or `thunder resume` asks for; returns the exit code."""
    if "resume" in given:
        settings, sources, notes = jobs.resumed_settings(PretrainSettings, given, config)
    else:
        settings, sources, notes = jobs.new_settings(PretrainSettings, file_and_flags(PretrainSettings, config, given))
    if settings.out:
        paths.check_writable(Path(settings.out))
    place = jobs.choose_place(settings)
    settings = paths.portable(settings) if place.is_far else settings
    found = surveyed("pretrain", settings, place) if place.is_far else {}
    job = jobs.Job("pretrain", "tiny-base", settings, sources, found, notes)
    return jobs.run(job, place, dry_run=dry_run, as_json=as_json)
