"""`thunder hypothesis`: say what a run will mean before it is run, and what it then means."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from thunder.cli.console.output import say
from thunder.errors import GateError, UsageError
from thunder.launcher.runs_folder import run_folder
from thunder.runs.hypotheses import frozen_hypothesis

app = typer.Typer(help="Freeze a hypothesis before its run, and evaluate it afterwards.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(help="The hypothesis (JSON or YAML); docs/how-to/test-a-hypothesis.md has one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]


@app.command()
def freeze(file: File, as_json: AsJson = False) -> None:
    """Check that the outcomes are disjoint and leave nothing out, and log the digest with the time."""
    sha256 = frozen_hypothesis.freeze_hypothesis(file)
    say(json.dumps({"file": str(file), "sha256": sha256}) if as_json else f"{file}: frozen, sha256 {sha256}")


@app.command("eval")
def evaluate(
    file: File,
    treated: Annotated[str | None, typer.Option(help="Treated run (default: the file's).")] = None,
    control: Annotated[str | None, typer.Option(help="Control run (default: the file's).")] = None,
    as_json: AsJson = False,
) -> None:
    """Say which outcome it is. Exit code 3: void, nothing can be said; 4: changed after it was frozen."""
    hypothesis = frozen_hypothesis.read_hypothesis(file)
    folders = [
        _folder(file, given, named, which)
        for which, given, named in (
            ("treated", treated, hypothesis.treated_run),
            ("control", control, hypothesis.control_run),
        )
    ]
    evaluation = frozen_hypothesis.evaluate_hypothesis(file, *folders)
    if as_json:
        say(json.dumps(asdict(evaluation), ensure_ascii=False, indent=4))
        raise typer.Exit(GateError.exit_code if evaluation.void else 0)
    for text in evaluation.skipped:
        say(f"skipped: {text}")
    say(f"{evaluation.id}: x = {evaluation.x}")
    say(f"{evaluation.verdict}")
    if evaluation.void:
        raise GateError(
            f"{evaluation.id}: void: {'; '.join(evaluation.void)}", fix="correct these causes, and run it again"
        )


def _folder(file: Path, given: str | None, named: str | None, which: str) -> Path:
    if given:
        return run_folder(given)
    if not named:
        raise UsageError(f"{file}: names no {which} run", fix=f"--{which} RUN")
    beside = file.parent / named
    return beside if beside.is_dir() else run_folder(named)
