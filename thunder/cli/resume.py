"""`thunder resume`: continue a run from its newest checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from thunder.cli import asr_train, jobs, pretrain, train
from thunder.cli.options import AsJson, DryRun
from thunder.runs import record

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
    folder = record.find(jobs.runs(), run)
    kind = str(jobs.read_plan(folder)["job"])
    raise typer.Exit(
        JOBS[kind](None, {"resume": str(folder)} | ({"force": True} if force else {}), dry_run=dry_run, as_json=as_json)
    )
