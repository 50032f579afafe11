"""`thunder asr train`: a CTC head over frozen features, on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from thunder.acoustic.acoustic_settings import AcousticSettings
from thunder.acoustic.dataset import utterances
from thunder.cli.launcher import job_runner
from thunder.cli.launcher.job import Job, choose_place
from thunder.cli.launcher.remote_checks import surveyed
from thunder.cli.parsing import paths
from thunder.cli.parsing.flags import AsJson, ConfigFile, DryRun, flags
from thunder.cli.parsing.layers import file_and_flags


@flags(AcousticSettings)
def train(
    config: ConfigFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    given: dict[str, Any],
) -> None:
    """Train a CTC head over frozen features, in any mode of docs/explanation/modes.md, and test its best checkpoint."""
    raise typer.Exit(start(config, given, dry_run=dry_run, as_json=as_json))


def start(config: Path | None, given: dict[str, Any], *, dry_run: bool = False, as_json: bool = False) -> int:
    """Run the job that a command line or `thunder resume` asks for; returns the exit code."""
    if "resume" in given:
        settings, sources, notes = job_runner.resumed_settings(AcousticSettings, given, config)
    else:
        settings, sources, notes = job_runner.new_settings(
            AcousticSettings, file_and_flags(AcousticSettings, config, given)
        )
    place = choose_place(settings)
    settings = paths.portable(settings) if place.is_remote else settings
    found = surveyed("asr", settings, place) if place.is_remote else facts(settings)
    name = f"asr-{settings.script}-{settings.mode_name}"
    return job_runner.run(Job("asr", name, settings, sources, found, notes), place, dry_run=dry_run, as_json=as_json)


def facts(settings: AcousticSettings) -> dict[str, Any]:
    """What the plan says of features, labels and mode; read from disk, without MLX."""
    features = utterances.open_features(settings.features)
    prepared = utterances.prepare(settings, features)
    store = features.stores[0]
    said = {"recipe": store.recipe.resolved(), "width": store.width, "mode": settings.mode_name}
    return {
        "acoustic": said | prepared.summary(),
        "data": {
            "train": {"rows": len(prepared.train)},
            "sha256": {"labels and features": prepared.digest()},
            "files": {str(number): folder for number, folder in enumerate(settings.features)},
        },
    }
