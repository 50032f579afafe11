"""`thunder resume`: continue a run from its newest checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from thunder.api.run_training import plan_resume
from thunder.cli.console.job_output import COMMAND_LINE, TerminalConsole, run_or_show
from thunder.cli.parsing.flags import AsJson, DryRun

app = typer.Typer(add_completion=False)


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
    run_or_show(plan_resume(run, force, TerminalConsole(), COMMAND_LINE), dry_run=dry_run, as_json=as_json)
