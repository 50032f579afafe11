"""`thunder tables`: tables and numbers in texts from sealed runs, and whether they are still what the runs say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from thunder.cli.console.output import say
from thunder.launcher.runs_folder import run_folder
from thunder.runs.tables import table_files
from thunder.units import format_path

app = typer.Typer(help="Build tables from sealed runs, and check them.", no_args_is_help=True)
Spec = Annotated[Path, typer.Option("--spec", "-s", help="YAML file that defines the tables.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")]


@app.command()
def build(spec: Spec = Path("tables.yaml"), as_json: AsJson = False) -> None:
    """Make every table of a spec (Markdown, CSV, LaTeX), fill in its texts, and lock each cell to its runs."""
    written = table_files.build_table_files(spec, run_folder)
    if as_json:
        return say(json.dumps([str(path) for path in written], indent=4))
    for path in written:
        say(format_path(path))


@app.command()
def check(spec: Spec = Path("tables.yaml"), as_json: AsJson = False) -> None:
    """Make them again in memory; exit code 3 names each cell that was changed by hand, is stale, or lost its run."""
    count = table_files.check_table_files(spec, run_folder)
    say(json.dumps({"cells": count}) if as_json else f"{count} cells match their runs")
