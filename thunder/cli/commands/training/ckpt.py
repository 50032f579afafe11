"""`thunder ckpt verify`: check that weights are whole, as recorded, finite, changed by training, and of this base."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from thunder.cli.console.output import say
from thunder.errors import ArtifactError, GateError, combined_error
from thunder.launcher.runs_folder import run_folder
from thunder.lora import base_model, weights_survey
from thunder.lora.adapter_check import ANSWERS
from thunder.units import format_path

app = typer.Typer(help="Check checkpoints and adapters.", no_args_is_help=True)


@app.callback()
def ckpt() -> None:
    """Check checkpoints, adapters and weights, tensor by tensor."""


@app.command()
def verify(
    path: Annotated[str, typer.Argument(help="A run, checkpoint, adapter or .safetensors file.", show_default=False)],
    base: Annotated[str | None, typer.Option(help="Model that an adapter must be of (default: the run's).")] = None,
    probe: Annotated[bool, typer.Option("--probe", help="Load the base, and ask it with each adapter on.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 3 where a check could not run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every check as JSON.")] = False,
) -> None:
    """Recompute every digest and look into every tensor; exit code 4 names the tensor that is wrong.

    A check that could not run is listed as skipped; only what was looked at is called ok.
    """
    place = Path(path).expanduser()
    sha256 = base_model.base_digest(base_model.find_base_model(base), base_model.digest_cache_path()) if base else None
    surveys = weights_survey.survey_weights(place if place.exists() else run_folder(path), sha256)
    surveys = [_with_sample_answers(survey, base) for survey in surveys] if probe else surveys
    checks = [(survey, check) for survey in surveys for check in survey.checks]
    faults = [f"{survey.path.name}: {_check_line(check)}" for survey, check in checks if check.state == "fault"]
    skipped = [f"{survey.path.name}: {_check_line(check)}" for survey, check in checks if check.state == "skipped"]
    if as_json:
        reports = [
            {"path": str(survey.path), "checks": [check.as_json() for check in survey.checks]} for survey in surveys
        ]
        say(json.dumps(reports, ensure_ascii=False, indent=4))
        raise typer.Exit(ArtifactError.exit_code if faults else GateError.exit_code if strict and skipped else 0)
    for survey in surveys:
        say(format_path(survey.path))
        for check in survey.checks:
            say(f"  {check.state:8} {_check_line(check)}")
    if faults:
        raise combined_error(
            ArtifactError, f"{len(faults)} checks of weights failed:", faults, "take an older or whole copy"
        )
    if strict and skipped:
        raise combined_error(
            GateError, f"{len(skipped)} checks could not run:", skipped, "give what they need, or no --strict"
        )
    say(f"nothing wrong in {len(checks) - len(skipped)} checks; {len(skipped)} could not run")


def _with_sample_answers(survey: weights_survey.WeightsSurvey, base: str | None) -> weights_survey.WeightsSurvey:
    """The survey, with sample answers of its adapter in place of the skipped check, where the adapter is whole."""
    whole = not any(check.state == "fault" for check in survey.checks)
    if not whole or not any(check.what == ANSWERS for check in survey.checks):
        return survey
    from thunder.evaluation import sample_answers

    answers = sample_answers.check_sample_answers(survey.path.parent, base)
    return replace(survey, checks=tuple(answers if check.what == ANSWERS else check for check in survey.checks))


def _check_line(check: weights_survey.WeightsCheck) -> str:
    return f"{check.file}, {check.what}: {check.detail}" if check.detail else f"{check.file}, {check.what}"
