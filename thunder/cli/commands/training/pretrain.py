"""`thunder pretrain`: the tiny base model from open text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from thunder.cli.launcher import job_runner
from thunder.cli.launcher.job import Job, choose_place
from thunder.cli.launcher.remote_checks import surveyed
from thunder.cli.parsing import paths
from thunder.cli.parsing.flags import AsJson, ConfigFile, DryRun, flags
from thunder.cli.parsing.layers import file_and_flags
from thunder.lora.lora_settings import PretrainSettings

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
        settings, sources, notes = job_runner.resumed_settings(PretrainSettings, given, config)
    else:
        settings, sources, notes = job_runner.new_settings(
            PretrainSettings, file_and_flags(PretrainSettings, config, given)
        )
    if settings.out:
        paths.check_writable(Path(settings.out))
    place = choose_place(settings)
    settings = paths.portable(settings) if place.is_remote else settings
    found = surveyed("pretrain", settings, place) if place.is_remote else {}
    job = Job("pretrain", "tiny-base", settings, sources, found, notes)
    return job_runner.run(job, place, dry_run=dry_run, as_json=as_json)
