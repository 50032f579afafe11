"""`thunder resume`: continue a run from its newest checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from thunder.cli.commands.speech import asr_train
from thunder.cli.commands.training import pretrain, train
from thunder.cli.launcher import job_runner
from thunder.cli.parsing.flags import AsJson, DryRun
from thunder.runs.records import run_record

app = typer.Typer(add_completion=False)
JOBS = {"train": train.start, "pretrain": pretrain.start, "asr": asr_train.start}


@app.command()
def resume(
    run: Annotated[str, typer.Argument(help="The run's id, its folder, or 'latest'.")] = "latest",
    force: Annotated[
        bool, typer.Option("--force", help="Go on although rows or base weights changed; recorded.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Continue a run from its newest whole checkpoint, exactly as if it had never stopped.

    `thunder train --resume RUN` does the same, and takes options that may change, such as --cluster and --allow-solo.
    """
    folder = run_record.find_run(job_runner.runs(), run)
    kind = str(job_runner.read_plan(folder)["job"])
    raise typer.Exit(
        JOBS[kind](None, {"resume": str(folder)} | ({"force": True} if force else {}), dry_run=dry_run, as_json=as_json)
    )
